#pragma once
// Random measurements of every kind, and the one way tests feed them into values: what goes through
// windows and batches can then be compared with one value that saw everything.

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/block_codec.h"
#include "common/metric.h"
#include "common/value.h"

namespace weir {

inline const std::vector<Metric>& sample_metrics() {
  static const std::vector<Metric> metrics{
      {.name = "requests_total", .kind = Kind::kCounter, .unit = "", .quantum = 0},
      {.name = "temperature", .kind = Kind::kGauge, .unit = "", .quantum = -6},
      {.name = "duration_seconds", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -9},
      {.name = "cpu", .kind = Kind::kProfile, .unit = "nanoseconds", .quantum = -9},
      {.name = "users", .kind = Kind::kDistinct, .unit = "", .quantum = 0},
      {.name = "paths", .kind = Kind::kTopk, .unit = "", .quantum = 0}};
  return metrics;
}

struct Sample {
  size_t metric = 0;   // of sample_metrics()
  size_t service = 0;  // one label
  size_t host = 0;
  int64_t unix_s = 0;
  uint64_t number = 0;  // amount, level, duration or CPU time
};

inline Sample random_sample(std::mt19937_64& random, int64_t from_s, int64_t to_s) {
  return {.metric = random() % sample_metrics().size(),
          .service = random() % 3,
          .host = random() % 3,
          .unix_s = from_s + static_cast<int64_t>(random() % static_cast<uint64_t>(to_s - from_s)),
          .number = random() >> (20 + random() % 40)};
}

struct SampleInto {
  const Sample& sample;

  void operator()(Counter& counter) const { counter.delta += sample.number; }

  void operator()(Gauge& gauge) const {
    const auto level = static_cast<int64_t>(sample.number) - 1000;
    Value whole = gauge;
    const Value one =
        Gauge{.n = 1,
              .sum = level,
              .min = level,
              .max = level,
              .last = {.time_ns = sample.unix_s, .source = sample.host, .value = level}};
    ASSERT_TRUE(merge(whole, one).ok());
    gauge = std::get<Gauge>(whole);
  }

  void operator()(Distribution& distribution) const {
    ASSERT_TRUE(distribution.add(sample.number, 1 + sample.number % 3).ok());
  }

  void operator()(Profile& profile) const {
    std::vector<Frame> stack;
    for (uint64_t n = sample.number; n > 0 && stack.size() < 6; n /= 7) {
      stack.push_back({FrameKind::kUser, "app", "f" + std::to_string(n % 7)});
    }
    profile.add(stack, sample.number);
  }

  void operator()(Distinct& distinct) const {
    ASSERT_TRUE(distinct.add(Distinct::hash_of(std::to_string(sample.number % 700))).ok());
  }

  void operator()(Topk& topk) const {
    ASSERT_TRUE(topk.add("key-" + std::to_string(sample.number % 50), 1 + sample.number % 3).ok());
  }
};

inline void put(const Sample& sample, Value& value) { std::visit(SampleInto{sample}, value); }

inline Bytes bytes_of(const Metric& metric, const Value& value) {
  const Value* row = &value;
  return encode_block(metric, {&row, 1});
}

}  // namespace weir
