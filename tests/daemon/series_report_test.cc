#include "common/series_report.h"

#include <string>

#include <gtest/gtest.h>

#include "daemon/recorder.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/recorded.h"

namespace weir::daemon {

namespace {

const Metric kHits{.name = "hits_total", .kind = Kind::kCounter, .unit = "", .quantum = 0};

class SeriesReportTest : public testing::Test {
 protected:
  static RecorderLimits limits() {
    RecorderLimits limits;
    limits.series.series_per_metric = 50;
    limits.series.values_per_label = 1'000;
    return limits;
  }

  void hit(Recorder& recorder, const std::string& user, const std::string& app) {
    const LabelView labels[] = {{"app", app}, {"user", user}};
    const auto series = recorder.series(kHits, labels);
    ASSERT_TRUE(series.ok());
    recorder.count(*series, clock_.now(), 1);
  }

  FakeClock clock_;
};

}  // namespace

TEST_F(SeriesReportTest, ABreachIsReportedAsMetricsThatMerge) {
  Recorder recorder(limits(), clock_.now());
  for (int i = 0; i < 200; ++i) hit(recorder, std::to_string(i), i % 4 == 0 ? "shop" : "bot");
  recorder.end_window(clock_.now());
  const auto all = recorded(recorder);
  const auto& sets = std::get<Distinct>(all.at("weir_series_estimated{metric=hits_total}"));
  EXPECT_EQ(sets.estimate().value, 200);
  EXPECT_EQ(sets.n(), 200u);
  const auto& users = all.at("weir_series_values{label=user,metric=hits_total}");
  EXPECT_EQ(std::get<Distinct>(users).estimate().value, 200);
  const auto& apps = all.at("weir_series_values{label=app,metric=hits_total}");
  EXPECT_EQ(std::get<Distinct>(apps).estimate().value, 2);
  const auto top = std::get<Topk>(all.at("weir_series_offenders{metric=hits_total}")).top(1);
  ASSERT_EQ(top.size(), 1u);
  EXPECT_EQ(top[0].key, "app=bot");
  EXPECT_EQ(std::get<Gauge>(all.at("weir_series_admitted{metric=hits_total}")).last.value, 50);
  const auto& over = all.at("weir_series_overflow_events_total{metric=hits_total}");
  EXPECT_EQ(std::get<Counter>(over).delta, 150u);
}

TEST_F(SeriesReportTest, HostsSeeTheSameLabelSetsAsOne) {
  Recorder one(limits(), clock_.now());
  Recorder two(limits(), clock_.now());
  for (int i = 0; i < 100; ++i) {
    hit(one, std::to_string(i), "a");
    hit(two, std::to_string(99 - i), "a");
  }
  one.end_window(clock_.now());
  two.end_window(clock_.now());
  auto a = recorded(one);
  auto b = recorded(two);
  const std::string name = "weir_series_estimated{metric=hits_total}";
  ASSERT_TRUE(merge(a.at(name), b.at(name)).ok());
  EXPECT_EQ(std::get<Distinct>(a.at(name)).estimate().value, 100);
}

TEST_F(SeriesReportTest, MetricsWithinTheirLimitsAreLeftOutWhileSmall) {
  Recorder recorder(limits(), clock_.now());
  for (size_t i = 0; i + 1 < SeriesReport::kWorthAReport; ++i) {
    hit(recorder, std::to_string(i), "a");
  }
  recorder.end_window(clock_.now());
  for (const auto& [name, value] : recorded(recorder)) EXPECT_FALSE(name.starts_with("weir_"));
  hit(recorder, "one more", "a");
  for (int i = 0; i < 10; ++i) hit(recorder, std::to_string(i), "a");
  recorder.end_window(clock_.now());
  const auto all = recorded(recorder);
  const auto& sets = all.at("weir_series_estimated{metric=hits_total}");
  EXPECT_EQ(std::get<Distinct>(sets).estimate().value, 11) << "of this window";
  EXPECT_FALSE(all.contains("weir_series_overflow_events_total{metric=hits_total}"));
}

TEST_F(SeriesReportTest, AFloodOfMetricsAndLabelsStaysBounded) {
  SeriesReport report;
  for (int i = 0; i < 3'000; ++i) {
    const std::string text = std::to_string(i);
    const LabelView labels[] = {{text, "v"}, {"user", text}};
    report.refused("m" + std::to_string(i % 1'000), labels, 1);
  }
  EXPECT_LE(report.memory_bytes(), size_t{8} << 20);
  size_t published = 0;
  const auto none = [](std::string_view) { return SeriesReport::State{}; };
  report.publish(clock_.now(), 1, none, [&](const auto&, auto, const auto&) { ++published; });
  EXPECT_LE(published, 4 * SeriesReport::kMaxMetrics + SeriesReport::kMaxLabels);
  published = 0;
  for (int i = 0; i < 3; ++i) {
    report.publish(clock_.now(), 1, none, [&](const auto&, auto, const auto&) { ++published; });
  }
  EXPECT_LE(published, SeriesReport::kMaxMetrics) << "once more, for the recovery, then nothing";
}

}  // namespace weir::daemon
