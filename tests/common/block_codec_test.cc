#include "common/block_codec.h"

#include <random>

#include <gtest/gtest.h>

namespace weir {
namespace {

Metric metric_of(Kind kind) { return {.name = "m", .kind = kind, .unit = "seconds", .quantum = -9}; }

Bytes encode(Kind kind, const std::vector<Value>& values) {
  std::vector<const Value*> rows;
  for (const Value& value : values) rows.push_back(&value);
  return encode_block(metric_of(kind), rows);
}

Result<std::vector<Value>> decode(Kind kind, ByteView payload) {
  std::vector<Value> out;
  WEIR_TRY(decode_block(metric_of(kind), payload, [&](size_t row, Value&& value) {
    EXPECT_EQ(row, out.size());
    out.push_back(std::move(value));
  }));
  return out;
}

Distribution lognormal(uint64_t seed, int samples, uint8_t scale = kDefaultScale) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> shape(17.0, 1.0);
  Distribution out(-9, scale);
  for (int i = 0; i < samples; ++i) EXPECT_TRUE(out.add(static_cast<uint64_t>(shape(random))).ok());
  return out;
}

Gauge gauge_of(std::initializer_list<int64_t> values) {
  Gauge gauge;
  int64_t time = 1'700'000'000'000'000'000;
  for (const int64_t value : values) EXPECT_TRUE(gauge.add(value, time++, 0x1234567890abcdef).ok());
  return gauge;
}

Profile profile_of(uint64_t weight) {
  const Frame main{FrameKind::kUser, "app", "main"};
  const Frame work{FrameKind::kUser, "app", "work"};
  const Frame system_call{FrameKind::kKernel, "kernel", "ksys_write"};
  Profile out;
  out.add(std::vector{main, work}, 20 * weight, 2);
  out.add(std::vector{main, work, system_call}, weight, 1);
  out.add(std::vector{main}, 3, 1);
  out.add_quality({.lost = 1, .truncated = 0, .unresolved = 300});
  return out;
}

std::vector<Value> rows_of(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return {Counter{0}, Counter{1}, Counter{300}, Counter{kMaxCount}};
    case Kind::kGauge:
      return {gauge_of({5}), gauge_of({-7, 0, 9}), gauge_of({INT64_MIN, INT64_MAX}),
              gauge_of({0, 0})};
    case Kind::kDistribution: {
      Distribution zeros(-9);
      EXPECT_TRUE(zeros.add(0, 12).ok());
      Distribution extremes(-9);
      for (const uint64_t v : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
        EXPECT_TRUE(extremes.add(v, uint64_t{1} << 40).ok());
      }
      return {lognormal(1, 1000), std::move(zeros), std::move(extremes), lognormal(2, 50, 5),
              lognormal(3, 70'000, 7)};
    }
    case Kind::kProfile:
      return {profile_of(1'000'000), Profile(), profile_of(7)};
    case Kind::kDistinct:
    case Kind::kTopk:
      break;
  }
  return {};
}

constexpr std::array<Kind, 4> kKinds = {Kind::kCounter, Kind::kGauge, Kind::kDistribution,
                                        Kind::kProfile};

TEST(BlockCodec, WhatWasEncodedComesBackAndEncodesToTheSameBytes) {
  for (const Kind kind : kKinds) {
    const auto values = rows_of(kind);
    const Bytes bytes = encode(kind, values);
    const auto back = decode(kind, bytes);
    ASSERT_TRUE(back.ok()) << kind_name(kind) << ": " << back.error().message;
    EXPECT_TRUE(*back == values) << kind_name(kind);
    EXPECT_EQ(encode(kind, *back), bytes) << kind_name(kind);
    EXPECT_EQ(*block_rows(bytes), values.size());
  }
}

}  // namespace
}  // namespace weir
