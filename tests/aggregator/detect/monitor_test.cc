#include "aggregator/detect/monitor.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_data_source.h"

namespace weir::aggregator {
namespace {

const Metric kRequests{"http_server_request_duration_seconds", Kind::kDistribution, "seconds", -9};
constexpr Window kWindow{6000, 300};

Distribution durations(std::initializer_list<uint64_t> nanoseconds, uint8_t scale = 6) {
  Distribution out(-9, scale);
  for (const uint64_t ns : nanoseconds) EXPECT_TRUE(out.add(ns).ok());
  return out;
}

Labels shop(const std::string& status) {
  return {{"http_response_status_class", status}, {"service", "shop"}};
}

}  // namespace

TEST(Monitor, CountsErrorsAndRequestsOfExactlyOneWindow) {
  FakeDataSource source;
  source.add(kRequests, shop("2xx"), kWindow, durations({1000, 1000, 1000}));
  source.add(kRequests, shop("5xx"), kWindow, durations({2000}));
  source.add(kRequests, shop("2xx"), {6300, 300}, durations({1, 2, 3, 4}));
  const auto signals = read_signals(source, kWindow);
  ASSERT_TRUE(signals.ok());
  ASSERT_EQ(signals->size(), 1U);
  EXPECT_EQ(signals->at({"shop", ""}).rate, 4.0 / 300);
  EXPECT_EQ(signals->at({"shop", ""}).error_ratio, 0.25);
}

TEST(Monitor, MetricPushedUnderTheSameNameDoesNotStopJudging) {
  FakeDataSource source;
  source.add(kRequests, shop("2xx"), kWindow, durations({1000}));
  Distribution pushed(-6);
  ASSERT_TRUE(pushed.add(7).ok());
  source.add({kRequests.name, Kind::kDistribution, "", -6}, shop("2xx"), kWindow, pushed);
  source.add({kRequests.name, Kind::kCounter, "", 0}, shop("2xx"), kWindow, Counter{7});
  const auto signals = read_signals(source, kWindow);
  ASSERT_TRUE(signals.ok()) << signals.error().message;
  EXPECT_EQ(signals->at({"shop", ""}).rate, 1.0 / 300);
}

TEST(Monitor, ServicesOfAnotherScaleAreJudgedToo) {
  FakeDataSource source;
  source.add(kRequests, shop("2xx"), kWindow, durations({1000}));
  source.add(kRequests, shop("5xx"), kWindow, durations({1000}, 5));
  const auto signals = read_signals(source, kWindow);
  ASSERT_TRUE(signals.ok()) << signals.error().message;
  EXPECT_EQ(signals->at({"shop", ""}).rate, 2.0 / 300);
}

TEST(Monitor, CoarseWindowsWithoutTheHostAreEnough) {
  FakeDataSource source;
  ASSERT_TRUE(read_signals(source, kWindow).ok());
  ASSERT_EQ(source.requests.size(), 1U);
  EXPECT_FALSE(needs_label(source.requests[0], Kind::kDistribution, "host"));
  EXPECT_TRUE(needs_label(source.requests[0], Kind::kDistribution, "region"));
}

TEST(Monitor, WindowWithoutRequestsIsAGapNotAZero) {
  FakeDataSource source;
  Monitor monitor;
  const auto busy = [&](int64_t start_s) {
    source.add(kRequests, shop("2xx"), {start_s, 300}, durations({1000, 1000}));
    return monitor.step(source, {start_s, 300})->size();
  };
  for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(busy(6000 + 300 * i), 0U);
  EXPECT_TRUE(monitor.step(source, {6000 + 300 * 60, 300})->empty());
  EXPECT_EQ(busy(6000 + 300 * 61), 0U);
}

}  // namespace weir::aggregator
