#include "daemon/recorder.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/fakes/recorded.h"

namespace weir::daemon {

namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

const Metric kHits{.name = "hits_total", .kind = Kind::kCounter, .unit = "", .quantum = 0};
const Metric kLatency{
    .name = "latency_seconds", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -9};
const Metric kLevel{.name = "level", .kind = Kind::kGauge, .unit = "", .quantum = -6};

RecorderLimits at_most(size_t series) {
  RecorderLimits limits;
  limits.series.series = series;
  return limits;
}

class RecorderTest : public testing::Test {
 protected:
  SeriesHandle series(Recorder& recorder, const Metric& metric, const std::string& route) {
    const LabelView label{"route", route};
    const auto id = recorder.series(metric, {&label, 1});
    EXPECT_TRUE(id.ok());
    return *id;
  }

  static uint64_t total(Recorder& recorder) {
    uint64_t sum = 0;
    for (const int64_t start : recorder.open_windows()) {
      for (const Delta& delta : recorder.take(start)) {
        const bool own = recorder.table().metric_of(delta.series).name.starts_with("weir_");
        sum += own ? 0 : mass(delta.value);
      }
    }
    return sum;
  }

  FakeClock clock_;
};

}  // namespace

TEST_F(RecorderTest, EveryKindLeavesThroughTakeOnce) {
  Recorder recorder({}, clock_.now());
  const SeriesHandle hits = series(recorder, kHits, "/");
  const SeriesHandle latency = series(recorder, kLatency, "/");
  const SeriesHandle level = series(recorder, kLevel, "/");
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
  Recorder recorder({.window_s = 60, .max_late_s = 300, .max_ahead_s = 120}, clock_.now());
  const SeriesHandle hits = series(recorder, kHits, "/");
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
  const SeriesHandle hits = series(recorder, kHits, "/");
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
    Recorder recorder(at_most(max_series), clock_.now());
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
                         clock_.now() - age, static_cast<int64_t>(random() >> 30), n);
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
  Recorder recorder(at_most(2), clock_.now());
  for (const char* route : {"a", "b"}) {
    for (int i = 0; i < 5; ++i) recorder.count(series(recorder, kHits, route), clock_.now(), 1);
  }
  const SeriesHandle c = series(recorder, kHits, "c");
  EXPECT_EQ(series(recorder, kHits, "d"), c);
  EXPECT_FALSE(recorder.alive(c)) << "nobody may keep it: each event must come by";
  EXPECT_TRUE(recorder.alive(series(recorder, kHits, "a")));
  EXPECT_EQ(recorder.table().labels_of(c.id), (Labels{{kOverflowLabel, "true"}}));
  EXPECT_EQ(recorder.table().metric_of(c.id), kHits);
  EXPECT_EQ(recorder.drops().overflowed, 2U);
}

TEST_F(RecorderTest, ALabelSetThatComesOftenTakesAPlaceAndItsVictimIsFolded) {
  Recorder recorder(at_most(2), clock_.now());
  const SeriesHandle a = series(recorder, kHits, "a");
  recorder.count(a, clock_.now(), 100);
  for (int i = 0; i < 9; ++i) recorder.count(series(recorder, kHits, "b"), clock_.now(), 1);
  SeriesHandle c;
  for (int i = 0; i < 6; ++i) {
    c = series(recorder, kHits, "c");
    recorder.count(c, clock_.now(), 1);
  }
  EXPECT_TRUE(recorder.alive(c));
  EXPECT_FALSE(recorder.alive(a));
  EXPECT_EQ(recorder.drops().evicted, 1U);
  recorder.count(a, clock_.now(), 1);  // a source that did not look
  EXPECT_EQ(recorder.drops().refused, 1U);
  const auto all = recorded(recorder);
  // Which of its events earned the place depends on the hashes of this process.
  const uint64_t own = std::get<Counter>(all.at("hits_total{route=c}")).delta;
  EXPECT_GE(own, 1U);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{otel.metric.overflow=true}")).delta, 106U - own);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{route=b}")).delta, 9U);
}

TEST_F(RecorderTest, BeyondTheLimitNewMetricNamesShareOneMetricPerKindAndUnit) {
  Recorder recorder(at_most(1), clock_.now());
  for (int i = 0; i < 9; ++i) recorder.count(series(recorder, kHits, "a"), clock_.now(), 1);
  Metric junk = kHits;
  for (int i = 0; i < 5000; ++i) {
    junk.name = "junk_" + std::to_string(i);
    recorder.count(series(recorder, junk, "x"), clock_.now(), 1);
  }
  recorder.observe(series(recorder, kLatency, "x"), clock_.now(), 5);
  EXPECT_EQ(recorder.table().size(), 3U) << "route a, and __other__ of two kinds";
  EXPECT_TRUE(recorder.alive(series(recorder, kHits, "a")));
  EXPECT_EQ(total(recorder), 9U + 5000 + 1);
}

TEST_F(RecorderTest, AMetricAfterAFloodOfNamesEarnsItsNameAndTheFloodLeavesNothingBehind) {
  Recorder recorder(at_most(100), clock_.now());
  Metric metric = kHits;
  for (int i = 0; i < 20'000; ++i) {
    metric.name = "junk_" + std::to_string(i);
    recorder.count(series(recorder, metric, "x"), clock_.now(), 1);
  }
  metric.name = "orders";
  SeriesHandle orders;
  int events = 0;
  for (; !recorder.alive(orders) && events < 10; ++events) {
    orders = series(recorder, metric, "x");
    recorder.count(orders, clock_.now(), 1);
  }
  EXPECT_LE(events, 4);
  EXPECT_LE(recorder.table().metrics(), 102U);
  EXPECT_LE(recorder.table().size(), 103U);
  EXPECT_EQ(total(recorder), 20'000U + static_cast<uint64_t>(events));
}

TEST_F(RecorderTest, NamesBeyondTheMetricTableAreOtherToo) {
  RecorderLimits limits = at_most(1'000'000);
  limits.series.metrics = 1'000;
  Recorder recorder(limits, clock_.now());
  Metric junk = kHits;
  for (size_t i = 0; i < 3'000; ++i) {
    junk.name = "junk_" + std::to_string(i);
    recorder.count(series(recorder, junk, "x"), clock_.now(), 1);
  }
  EXPECT_LE(recorder.table().metrics(), 1'001U);
  EXPECT_EQ(total(recorder), 3'000U);
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
  const LabelView nameless[] = {{"", "1"}};
  EXPECT_FALSE(recorder.series(kHits, nameless).ok());
  EXPECT_FALSE(recorder.series({"\xff", Kind::kCounter, "", 0}, {}).ok());
  EXPECT_EQ(recorder.table().size(), 0U);
}

TEST_F(RecorderTest, ManyLabelsGoToOverflowAndLongTextsAreCut) {
  Recorder recorder({}, clock_.now());
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) names.push_back("l" + std::to_string(i));
  for (const size_t labels : {10U, 11U, 40U}) {
    std::vector<LabelView> many;
    for (size_t i = 0; i < labels; ++i) many.push_back({names[i], "v"});
    const auto id = recorder.series(kHits, many);
    ASSERT_TRUE(id.ok());
    EXPECT_EQ(recorder.alive(*id), labels == 10);
    recorder.count(*id, clock_.now(), labels);
  }
  const std::string longest(3000, 'x');
  const LabelView label{"path", longest};
  const auto cut = recorder.series(kHits, {&label, 1});
  ASSERT_TRUE(cut.ok());
  EXPECT_TRUE(recorder.alive(*cut));
  EXPECT_EQ(*recorder.series(kHits, {&label, 1}), *cut);
  EXPECT_EQ(recorder.table().labels_of(cut->id)[0].second, cut_text(longest, 128));
  const auto all = recorded(recorder);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{otel.metric.overflow=true}")).delta, 51U);
}

TEST_F(RecorderTest, ValuesBeyondTheLimitKeepTheLabel) {
  RecorderLimits limits;
  limits.series.values_per_label = 2;
  Recorder recorder(limits, clock_.now());
  for (const char* route : {"a", "b", "c", "d", "a"}) {
    recorder.count(series(recorder, kHits, route), clock_.now(), 1);
  }
  EXPECT_FALSE(recorder.alive(series(recorder, kHits, "c"))) << "c may be elected";
  const auto all = recorded(recorder);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{route=__other__}")).delta, 2U);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{route=a}")).delta, 2U);
}

TEST_F(RecorderTest, SomebodyElsesOverflowIsOverflow) {
  Recorder recorder({}, clock_.now());
  const LabelView labels[] = {{kOverflowLabel, "true"}, {"route", "a"}};
  recorder.count(*recorder.series(kHits, labels), clock_.now(), 2);
  recorder.count(*recorder.series(kHits, std::span(labels).first(1)), clock_.now(), 3);
  recorder.count(*recorder.series({kOther, Kind::kCounter, "", 0}, {}), clock_.now(), 4);
  const auto all = recorded(recorder);
  EXPECT_EQ(std::get<Counter>(all.at("hits_total{otel.metric.overflow=true}")).delta, 5U);
  EXPECT_EQ(std::get<Counter>(all.at("__other__{otel.metric.overflow=true}")).delta, 4U);
}

TEST_F(RecorderTest, ALoweredLimitFoldsAtTheWindowsEnd) {
  Recorder recorder({}, clock_.now());
  for (uint64_t i = 0; i < 100; ++i) {
    recorder.count(series(recorder, kHits, std::to_string(i)), clock_.now(), 1);
    for (uint64_t n = 0; n < i; ++n) {
      recorder.observe(series(recorder, kLatency, std::to_string(i)), clock_.now(), 1);
    }
  }
  recorder.set_limits(at_most(20).series, size_t{64} << 20);
  EXPECT_TRUE(recorder.alive(series(recorder, kHits, "1")));
  recorder.end_window(clock_.now());
  EXPECT_LE(recorder.limiter().table_rows(), 20U);
  EXPECT_TRUE(recorder.alive(series(recorder, kLatency, "99")));
  EXPECT_EQ(total(recorder), 100U + 99 * 100 / 2);
}

TEST_F(RecorderTest, AScaleIsOfItsMetricAndFoldsKeepTheTotal) {
  RecorderLimits limits = at_most(3);
  limits.series.rules = {{.name = "latency*", .scale = 7}};
  Recorder recorder(limits, clock_.now());
  for (const char* route : {"a", "b"}) {
    recorder.observe(series(recorder, kLatency, route), clock_.now(), 1'000);
  }
  Metric plain = kLatency;
  plain.name = "plain_seconds";
  for (int i = 0; i < 40; ++i) {
    plain.name = "plain_seconds" + std::to_string(i % 6);
    recorder.observe(series(recorder, plain, "x"), clock_.now(), 1'000);
  }
  EXPECT_EQ(recorder.drops().unfolded, 0U);
  const auto all = recorded(recorder);
  uint64_t count = 0;
  for (const auto& [name, value] : all) {
    const auto& distribution = std::get<Distribution>(value);
    count += distribution.count();
    const bool fine = name.starts_with("latency") || name.find("scale=7") != std::string::npos;
    EXPECT_EQ(distribution.scale(), fine ? 7 : 6) << name;
  }
  EXPECT_EQ(count, 42U);
}

TEST_F(RecorderTest, BytesBeyondTheBudgetAreGivenBackByLightSeries) {
  RecorderLimits limits = at_most(100'000);
  limits.series.series_per_metric = 100'000;
  limits.series.values_per_label = 100'000;
  limits.memory_bytes = size_t{4} << 20;
  Recorder recorder(limits, clock_.now());
  SeriesHandle heavy = series(recorder, kLatency, "heavy");
  uint64_t pushed = 0;
  size_t most = 0;
  std::mt19937_64 random(5);
  for (int i = 0; i < 100'000; ++i) {
    recorder.advance(clock_.now());
    recorder.observe(series(recorder, kLatency, std::to_string(i)), clock_.now(),
                     static_cast<int64_t>(random() >> 20));
    ASSERT_TRUE(recorder.alive(heavy));
    recorder.observe(heavy, clock_.now(), 5);
    pushed += 2;
    if (i % 1000 == 0) most = std::max(most, recorder.memory_bytes());
  }
  EXPECT_LE(most, size_t{6} << 20);
  EXPECT_GT(recorder.drops().evicted, 0U);
  EXPECT_EQ(total(recorder), pushed);
}

TEST_F(RecorderTest, SeriesWithoutEventsAreForgotten) {
  RecorderLimits limits;
  limits.idle_windows = 2;
  Recorder recorder(limits, clock_.now());
  const SeriesHandle once = series(recorder, kHits, "once");
  recorder.count(once, clock_.now(), 1);
  for (int window = 0; window < 2; ++window) {
    recorder.end_window(clock_.now());
    EXPECT_TRUE(recorder.alive(once));
  }
  EXPECT_EQ(total(recorder), 1U);
  for (int window = 0; window < 3; ++window) recorder.end_window(clock_.now());
  EXPECT_FALSE(recorder.alive(once));
  EXPECT_LE(recorder.table().size(), 1U) << "what is left is __other__";
}

// Everything at once, with cuts between: the weight that went in comes out.
TEST_F(RecorderTest, WeightIsConservedThroughEvictionsAndFlushes) {
  std::mt19937_64 random(13);
  RecorderLimits limits = at_most(50);
  limits.series.series_per_metric = 20;
  limits.series.values_per_label = 10;
  Recorder recorder(limits, clock_.now());
  uint64_t pushed = 0;
  uint64_t taken = 0;
  for (int i = 0; i < 20'000; ++i) {
    Metric metric = random() % 2 == 0 ? kHits : kLatency;
    metric.name += std::to_string(random() % (random() % 60 + 1));
    const std::string value = std::to_string(random() % (random() % 100 + 1));
    const LabelView labels[] = {{"route", value}, {"code", random() % 3 == 0 ? "500" : "200"}};
    const auto id = recorder.series(metric, labels);
    ASSERT_TRUE(id.ok());
    const uint64_t n = random() % 5;
    const nanoseconds age = seconds(random() % 300);
    if (metric.kind == Kind::kCounter) {
      recorder.count(*id, clock_.now() - age, n);
    } else {
      recorder.observe(*id, clock_.now() - age, static_cast<int64_t>(random() >> 30), n);
    }
    pushed += n;
    if (i % 501 == 0) taken += total(recorder);
    if (i % 777 == 0) recorder.end_window(clock_.now());
    clock_.advance(std::chrono::milliseconds(random() % 100));
    recorder.advance(clock_.now());
  }
  EXPECT_EQ(taken + total(recorder), pushed);
  EXPECT_GT(recorder.drops().evicted, 1'000U);
  EXPECT_EQ(recorder.drops().refused + recorder.drops().unfolded + recorder.drops().late, 0U);
}

TEST_F(RecorderTest, WrongKindAndOverflowingCountsAreRefusedAndCounted) {
  Recorder recorder({}, clock_.now());
  const SeriesHandle hits = series(recorder, kHits, "/");
  const SeriesHandle latency = series(recorder, kLatency, "/");
  const SeriesHandle level = series(recorder, kLevel, "/");
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

// An "__other__" series has no place of its own: rows given out after it do not make it one.
TEST_F(RecorderTest, EventsOfOtherInAFullTableDoNotDisturbTheReport) {
  Recorder recorder(RecorderLimits{}, clock_.now());
  const auto metric = [](const std::string& name) {
    return Metric{.name = name, .kind = Kind::kCounter, .unit = "", .quantum = 0};
  };
  uint64_t events = 0;
  const auto hit = [&](const std::string& name, const std::string& route) {
    recorder.count(series(recorder, metric(name), route), clock_.now(), 1);
    ++events;
  };
  for (int m = 0; m < 200; ++m) {
    for (int v = 0; v < 50; ++v) hit("m" + std::to_string(m), std::to_string(v));
  }
  hit("newname", "x");
  hit("m1", "77777");
  hit("newname2", "x");
  recorder.end_window(clock_.now());
  EXPECT_EQ(total(recorder), events);
}

TEST_F(RecorderTest, DryRunStillCutsWhatNoTableTakes) {
  RecorderLimits limits;
  limits.series.dry_run = true;
  Recorder recorder(limits, clock_.now());
  const SeriesHandle long_one = series(recorder, kHits, std::string(5000, 'a'));
  recorder.count(long_one, clock_.now(), 3);
  EXPECT_EQ(recorder.table().labels_of(long_one.id)[0].second.size(), kMaxLabelText);
  EXPECT_EQ(total(recorder), 3U);
}

// Spellings that a source remembers are in the budget, but shedding cannot give them back.
TEST_F(RecorderTest, SpellingsBeyondTheBudgetDoNotCostSeriesTheirNames) {
  RecorderLimits limits;
  limits.memory_bytes = size_t{8} << 20;
  Recorder recorder(limits, clock_.now());
  for (int i = 0; i < 90; ++i) {
    recorder.count(series(recorder, kHits, std::to_string(i)), clock_.now(), 1);
  }
  recorder.set_cache_bytes(size_t{64} << 20);
  recorder.end_window(clock_.now());
  EXPECT_TRUE(recorder.alive(series(recorder, kHits, "5")));
  EXPECT_EQ(total(recorder), 90U);
}

}  // namespace weir::daemon
