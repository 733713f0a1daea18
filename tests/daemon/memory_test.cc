// docs/accuracy.md tells an operator what a thousand series cost; here the allocator is asked.

#include <malloc.h>

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/recorder.h"

namespace weir::daemon {
namespace {

constexpr size_t kSeries = 4000;  // four thousand, so that tables grown by doubling average out
constexpr int64_t kNow = 1'700'000'010;
constexpr UnixTime kThen{std::chrono::seconds(kNow)};

size_t allocated() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// As docs/accuracy.md gives them, per series.
constexpr double kNamed = 680;   // a label set of five labels, one of them its own
constexpr double kSimple = 190;  // a counter's or gauge's open minute
constexpr double kHeader = 360;  // a distribution's, without its buckets
constexpr double kBucketsPerOctave = 64;

double predicted_distribution(double ratio) {
  return kNamed + kHeader + 2 * kBucketsPerOctave * std::log2(ratio);
}

// Sanitizers bring an allocator that does not tell.
bool allocator_tells() {
  const size_t before = allocated();
  const std::vector<char> probe(100'000);
  return allocated() >= before + probe.size();
}

// Bytes a series really takes, with its open window.
double measured(const Metric& metric, const std::vector<uint64_t>& samples) {
  const size_t before = allocated();
  RecorderLimits limits;
  limits.series.series = limits.series.series_per_metric = 2 * kSeries;
  limits.series.values_per_label = 2 * kSeries;
  Recorder recorder(limits, kThen);
  for (size_t i = 0; i < kSeries; ++i) {
    const std::string route = "/api/v1/orders/kind-" + std::to_string(i);
    const LabelView labels[] = {{"service", "checkout"},
                                {"http_route", route},
                                {"http_request_method", "GET"},
                                {"http_response_status_class", "2xx"},
                                {"server_port", "8080"}};
    for (const uint64_t sample : samples) {
      const auto series = recorder.series(metric, labels);
      EXPECT_TRUE(series.ok());
      if (metric.kind == Kind::kCounter) {
        recorder.count(*series, kThen, sample);
      } else {
        recorder.observe(*series, kThen, static_cast<int64_t>(sample));
      }
    }
  }
  return static_cast<double>(allocated() - before) / kSeries;
}

void expect_within_a_fifth(double measured, double predicted) {
  EXPECT_LT(measured, predicted * 1.2);
  EXPECT_GT(measured, predicted * 0.8);
  std::printf("  measured %.0f B a series, predicted %.0f B\n", measured, predicted);
}

const Metric kLatency{"latency_seconds", Kind::kDistribution, "seconds", -9};

TEST(Memory, CountersTakeWhatTheDocumentSays) {
  if (!allocator_tells()) GTEST_SKIP() << "this build's allocator has no mallinfo2()";
  expect_within_a_fifth(measured({"orders_total", Kind::kCounter, "", 0}, {1, 2}),
                        kNamed + kSimple);
}

TEST(Memory, DistributionsTakeWhatTheDocumentSaysForTheirSpread) {
  if (!allocator_tells()) GTEST_SKIP() << "this build's allocator has no mallinfo2()";
  for (const double ratio : {10.0, 100.0, 1000.0, 100'000.0}) {
    std::vector<uint64_t> samples;
    for (int i = 0; i <= 40; ++i) {  // evenly over the spread, in random-looking order
      samples.push_back(static_cast<uint64_t>(1e6 * std::pow(ratio, (i * 17 % 41) / 40.0)));
    }
    SCOPED_TRACE(ratio);
    expect_within_a_fifth(measured(kLatency, samples), predicted_distribution(ratio));
  }
}

}  // namespace
}  // namespace weir::daemon
