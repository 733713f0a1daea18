#include "daemon/recorder.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"

namespace weir::daemon {

namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

const Metric kHits{.name = "hits_total", .kind = Kind::kCounter, .unit = "", .quantum = 0};
const Metric kLatency{
    .name = "latency_seconds", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -9};
const Metric kLevel{.name = "level", .kind = Kind::kGauge, .unit = "", .quantum = -6};

class RecorderTest : public testing::Test {
 protected:
  SeriesId series(Recorder& recorder, const Metric& metric, const std::string& route) {
    const LabelView label{"route", route};
    const auto id = recorder.series(metric, {&label, 1});
    EXPECT_TRUE(id.ok());
    return *id;
  }

  static uint64_t total(Recorder& recorder) {
    uint64_t sum = 0;
    for (const int64_t start : recorder.open_windows()) {
      for (const Delta& delta : recorder.take(start)) sum += mass(delta.value);
    }
    return sum;
  }

  FakeClock clock_;
};

}  // namespace

TEST_F(RecorderTest, EveryKindLeavesThroughTakeOnce) {
  Recorder recorder({}, clock_.now());
  const SeriesId hits = series(recorder, kHits, "/");
  const SeriesId latency = series(recorder, kLatency, "/");
  const SeriesId level = series(recorder, kLevel, "/");
  recorder.count(hits, clock_.now(), 3);
  recorder.count(hits, clock_.now(), 4);
  recorder.observe(latency, clock_.now(), 1'000'000, 5);
  recorder.gauge(level, clock_.now() + seconds(1), -2);
  recorder.gauge(level, clock_.now(), 9);
  ASSERT_EQ(recorder.open_windows().size(), 1U);
  const auto taken = recorder.take(recorder.open_windows()[0]);
  ASSERT_EQ(taken.size(), 3U);
  EXPECT_EQ(std::get<Counter>(taken[0].value).delta, 7U);
  EXPECT_EQ(std::get<Distribution>(taken[1].value).count(), 5U);
  const Gauge& gauge = std::get<Gauge>(taken[2].value);
  EXPECT_EQ(gauge.n, 2U);
  EXPECT_EQ(gauge.sum, 7);
  EXPECT_EQ(gauge.min, -2);
  EXPECT_EQ(gauge.max, 9);
  EXPECT_EQ(gauge.last.value, -2);  // the latest in time, not in arrival
  EXPECT_EQ(total(recorder), 0U);
}

TEST_F(RecorderTest, LateEventsLandInTheirOwnWindowUntilTheLimit) {
  Recorder recorder({.window_s = 60, .max_series = 10, .max_late_s = 300, .max_ahead_s = 120},
                    clock_.now());
  const SeriesId hits = series(recorder, kHits, "/");
  recorder.count(hits, clock_.now() - seconds(300), 1);
  recorder.count(hits, clock_.now() + seconds(120), 1);
  const int64_t now = unix_seconds(clock_.now());
  EXPECT_EQ(recorder.open_windows(), (std::vector<int64_t>{window_at(now - 300, 60).start_s,
                                                           window_at(now + 120, 60).start_s}));
  recorder.count(hits, clock_.now() - seconds(301), 1);
  recorder.count(hits, clock_.now() + seconds(121), 1);
  EXPECT_EQ(recorder.drops().late, 1U);
  EXPECT_EQ(recorder.drops().ahead, 1U);
  EXPECT_EQ(total(recorder), 2U);
}

TEST_F(RecorderTest, ThePresentIsWhatItWasToldLast) {
  Recorder recorder({.max_late_s = 300, .max_ahead_s = 120}, clock_.now());
  const SeriesId hits = series(recorder, kHits, "/");
  recorder.count(hits, clock_.now() + seconds(1000), 1);
  EXPECT_EQ(recorder.drops().ahead, 1U);
  recorder.advance(clock_.now() + seconds(1000));
  recorder.count(hits, clock_.now() + seconds(1000), 1);
  recorder.count(hits, clock_.now(), 1);
  EXPECT_EQ(recorder.drops().late, 1U);
  recorder.advance(clock_.now());
  recorder.count(hits, clock_.now(), 1);
  EXPECT_EQ(total(recorder), 2U);
}

TEST_F(RecorderTest, WeightIsConservedWhateverTheLimitAndTheCuts) {
  std::mt19937_64 random(3);
  for (const size_t max_series : {size_t{1}, size_t{5}, size_t{100}}) {
    Recorder recorder({.max_series = max_series}, clock_.now());
    uint64_t pushed = 0;
    uint64_t taken = 0;
    for (int i = 0; i < 3000; ++i) {
      recorder.advance(clock_.now());
      const uint64_t n = random() % 10;
      const nanoseconds age = seconds(random() % 300);
      if (random() % 2 == 0) {
        recorder.count(series(recorder, kHits, std::to_string(random() % 50)), clock_.now() - age,
                       n);
      } else {
        recorder.observe(series(recorder, kLatency, std::to_string(random() % 50)),
                         clock_.now() - age, random() >> 30, n);
      }
      pushed += n;
      if (i % 37 == 0) taken += total(recorder);
      clock_.advance(std::chrono::milliseconds(random() % 200));
    }
    EXPECT_EQ(taken + total(recorder), pushed);
    EXPECT_EQ(recorder.drops().late + recorder.drops().ahead + recorder.drops().refused, 0U);
    EXPECT_EQ(recorder.drops().overflowed > 0, max_series < 100);
    EXPECT_LE(recorder.table().size(), max_series + 3);
  }
}

TEST_F(RecorderTest, BeyondTheLimitLabelSetsShareTheirMetricsOverflowSeries) {
  Recorder recorder({.max_series = 2}, clock_.now());
  const SeriesId a = series(recorder, kHits, "a");
  const SeriesId b = series(recorder, kHits, "b");
  const SeriesId c = series(recorder, kHits, "c");
  EXPECT_EQ(series(recorder, kHits, "d"), c);
  EXPECT_EQ(series(recorder, kHits, "a"), a);
  EXPECT_EQ(series(recorder, kHits, "b"), b);
  EXPECT_EQ(recorder.table().labels_of(c), (Labels{{kOverflowLabel, "true"}}));
  EXPECT_EQ(recorder.table().metric_of(c), kHits);
  EXPECT_EQ(recorder.drops().overflowed, 2U);
}

TEST_F(RecorderTest, BeyondTheLimitNewMetricNamesShareOneMetricPerKindAndUnit) {
  Recorder recorder({.max_series = 1}, clock_.now());
  series(recorder, kHits, "a");
  Metric junk = kHits;
  SeriesId first = 0;
  for (int i = 0; i < 5000; ++i) {
    junk.name = "junk_" + std::to_string(i);
    const SeriesId id = series(recorder, junk, "x");
    if (i == 0) first = id;
    ASSERT_EQ(id, first);
  }
  EXPECT_EQ(recorder.table().metric_of(first).name, kOtherMetric);
  EXPECT_EQ(recorder.table().metric_of(series(recorder, kLatency, "x")).kind, Kind::kDistribution);
  EXPECT_EQ(recorder.table().size(), 3U);
}

TEST_F(RecorderTest, NamesBeyondTheMetricTableAreOtherToo) {
  Recorder recorder({.max_series = 1'000'000}, clock_.now());
  Metric junk = kHits;
  SeriesId last = 0;
  for (size_t i = 0; i <= SeriesTable::kMaxMetrics; ++i) {
    junk.name = "junk_" + std::to_string(i);
    last = series(recorder, junk, "x");
  }
  EXPECT_EQ(recorder.table().metric_of(last).name, kOtherMetric);
  EXPECT_EQ(recorder.table().metric_of(series(recorder, kLatency, "x")).kind, Kind::kDistribution);
}

TEST_F(RecorderTest, AnotherKindOrUnitUnderOneNameIsRefused) {
  Recorder recorder({}, clock_.now());
  series(recorder, kHits, "a");
  Metric clash = kHits;
  clash.unit = "bytes";
  const auto refused = recorder.series(clash, {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kInvalid);
}

TEST_F(RecorderTest, MalformedLabelsAreRefused) {
  Recorder recorder({}, clock_.now());
  const LabelView twice[] = {{"a", "1"}, {"a", "2"}};
  EXPECT_FALSE(recorder.series(kHits, twice).ok());
  const LabelView bad[] = {{"a", "\xff"}};
  EXPECT_FALSE(recorder.series(kHits, bad).ok());
  const std::vector<LabelView> many(kMaxSampleLabels + 1, {"a", ""});
  EXPECT_FALSE(recorder.series(kHits, many).ok());
}

TEST_F(RecorderTest, WrongKindAndOverflowingCountsAreRefusedAndCounted) {
  Recorder recorder({}, clock_.now());
  const SeriesId hits = series(recorder, kHits, "/");
  const SeriesId latency = series(recorder, kLatency, "/");
  const SeriesId level = series(recorder, kLevel, "/");
  recorder.observe(hits, clock_.now(), 1);
  recorder.count(latency, clock_.now(), 1);
  recorder.gauge(hits, clock_.now(), 1);
  recorder.observe(level, clock_.now(), 1);
  EXPECT_EQ(recorder.drops().refused, 4U);
  recorder.count(hits, clock_.now(), kMaxCount);
  recorder.count(hits, clock_.now(), 1);
  recorder.observe(latency, clock_.now(), 1, kMaxCount);
  recorder.observe(latency, clock_.now(), 1);
  EXPECT_EQ(recorder.drops().refused, 6U);
  EXPECT_EQ(total(recorder), 2 * kMaxCount);
}

}  // namespace weir::daemon
