#include "daemon/statsd/intake.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/fakes/recorded.h"

namespace weir::daemon::statsd {
namespace {

class StatsdIntake : public testing::Test {
 protected:
  void push(std::string_view packet) { intake_.packet(packet, clock_.now()); }

  uint64_t counter(const std::string& series) {
    const auto all = recorded(recorder_);
    const auto it = all.find(series);
    return it == all.end() ? 0 : std::get<Counter>(it->second).delta;
  }

  FakeClock clock_;
  Recorder recorder_{RecorderLimits{}, clock_.now()};
  Intake intake_{recorder_};
};

TEST_F(StatsdIntake, EveryTypeBecomesItsMetric) {
  push(
      "hits:2:3|c|#env:prod\ntemp:-1.5|g\ntemp:20.25|g\nrpc:1.5|ms\nsize:3|h\nsize2:3|d\nusers:a:b|"
      "s");
  const auto all = recorded(recorder_);
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(std::get<Counter>(all.at("hits{env=prod}")).delta, 5u);
  EXPECT_EQ(std::get<Distinct>(all.at("users")).estimate().value, 1);  // one member, colon and all
  const auto& gauge = std::get<Gauge>(all.at("temp"));
  EXPECT_EQ(gauge.last.value, 20'250'000);
  EXPECT_EQ(gauge.min, -1'500'000);
  EXPECT_EQ(gauge.n, 2u);
  const auto& timer = std::get<Distribution>(all.at("rpc_seconds"));
  EXPECT_EQ(timer.quantum(), -9);
  EXPECT_EQ(timer.sum(), Int128{1'500'000});
  EXPECT_EQ(std::get<Distribution>(all.at("size")).sum(), Int128{3'000'000});
  EXPECT_EQ(std::get<Distribution>(all.at("size2")).quantum(), -6);
  EXPECT_EQ(intake_.counts().packets, 1u);
  EXPECT_EQ(intake_.counts().values, 8u);
}

TEST_F(StatsdIntake, HundredThousandIntegersAddUpExactly) {
  uint64_t expected = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    push("clicks:" + std::to_string(i * i % 9973) + "|c|#page:" + std::to_string(i % 7));
    expected += i * i % 9973;
  }
  uint64_t got = 0;
  for (const auto& [series, value] : recorded(recorder_)) got += std::get<Counter>(value).delta;
  EXPECT_EQ(got, expected);
  EXPECT_EQ(intake_.remembered(), 7u);
}

// What gauges remember is by series id and does not push spellings out.
TEST_F(StatsdIntake, AGaugeOfAHighSeriesIdLeavesFractionsWhole) {
  Intake small(recorder_, 4096);
  for (int i = 0; i < 2000; ++i) {  // ids up to where the gauge's memory passes the cache's limit
    const std::string value = std::to_string(i % 90);
    small.packet("m" + std::to_string(i / 90) + ":1|c|#v:" + value, clock_.now());
  }
  small.packet("level:1|g", clock_.now());
  for (int i = 0; i < 1000; ++i) small.packet("a:0.5|c\nb:0.5|c", clock_.now());
  const auto all = recorded(recorder_);
  EXPECT_EQ(std::get<Counter>(all.at("a")).delta, 500U);
  EXPECT_EQ(std::get<Counter>(all.at("b")).delta, 500U);
}

TEST_F(StatsdIntake, TagOrderDoesNotMakeASeries) {
  push("a:1|c|#x:1,y:2\na:1|c|#y:2,x:1");
  EXPECT_EQ(counter("a{x=1,y=2}"), 2u);
}

TEST_F(StatsdIntake, ReservedLabelsAreRenamedAndARepeatedOneKeepsItsFirstValue) {
  push("a:1|c|#host:h,region:r,__x:y,k:1,k:2,empty:,flag");
  EXPECT_EQ(counter("a{exported___x=y,exported_host=h,exported_region=r,flag=true,k=1}"), 1u);
}

TEST_F(StatsdIntake, SampledCountersAreScaledAndSampledTimersWeighted) {
  for (int i = 0; i < 10; ++i) push("a:1|c|@0.3\nt:5|ms|@0.25\nu:x|s|@0.5");
  const auto all = recorded(recorder_);
  EXPECT_EQ(std::get<Counter>(all.at("a")).delta, 33u);
  EXPECT_EQ(std::get<Distinct>(all.at("u")).n(), 20u);
  EXPECT_EQ(std::get<Distinct>(all.at("u")).estimate().value, 1);
  EXPECT_EQ(std::get<Distribution>(all.at("t_seconds")).count(), 40u);
}

TEST_F(StatsdIntake, MembersOfASetCountOnceWhateverTheirTags) {
  for (int i = 0; i < 300; ++i) push("users:u" + std::to_string(i % 100) + "|s|#page:a,env:x");
  push("users:u1|s|#env:x,page:a\nusers:u1|s\nusers:\xff|s");
  const auto all = recorded(recorder_);
  const auto& tagged = std::get<Distinct>(all.at("users{env=x,page=a}"));
  EXPECT_EQ(tagged.n(), 301u);
  EXPECT_EQ(tagged.estimate().value, 100);
  EXPECT_EQ(std::get<Distinct>(all.at("users")).estimate().value, 2);
}

TEST_F(StatsdIntake, RatesOfOneSeriesKeepTheirFractionsApart) {
  push("a:1|c|@0.4\na:1|c|@0.4\na:1|c\na:1|c|@0.4\na:1|c|@0.4");  // 2.5 * 4 + 1
  EXPECT_EQ(counter("a"), 11u);
}

TEST_F(StatsdIntake, SignedGaugeIsAChange) {
  push("g:10|g\ng:+5.5|g\ng:-20|g");
  const auto all = recorded(recorder_);
  const auto& gauge = std::get<Gauge>(all.at("g"));
  EXPECT_EQ(gauge.max, 15'500'000);
  EXPECT_EQ(gauge.min, -4'500'000);
  EXPECT_EQ(gauge.n, 3u);
}

TEST_F(StatsdIntake, HistogramsAndDistributionsMayBeNegativeAndTimersMayNot) {
  push("h:-1.5:2:-0|h\nd:-3|d\nt:-1|ms");
  const auto all = recorded(recorder_);
  const auto& histogram = std::get<Distribution>(all.at("h"));
  EXPECT_EQ(histogram.count(), 3u);
  EXPECT_EQ(histogram.negative_count(), 1u);
  EXPECT_TRUE(histogram.min() == -1'500'000);
  EXPECT_TRUE(histogram.sum() == 500'000);
  EXPECT_TRUE(std::get<Distribution>(all.at("d")).max() == -3'000'000);
  EXPECT_EQ(all.count("t_seconds"), 0u);
  EXPECT_EQ(intake_.counts().rejected(Reject::kNegative), 1u);
}

TEST_F(StatsdIntake, BadValuesAreCountedByReasonAndTheGoodBesideThemCount) {
  push("a:1:x:2|c\na:-5|c\nb:nan|g\nc:-1|ms\nd:1e19|g\na:1|q\nnothing\na:4|c\na:0:-0|c");
  EXPECT_EQ(intake_.counts().rejected(Reject::kNumber), 2u);
  EXPECT_EQ(intake_.counts().rejected(Reject::kNegative), 2u);
  EXPECT_EQ(intake_.counts().rejected(Reject::kRange), 1u);
  EXPECT_EQ(intake_.counts().rejected(Reject::kType), 1u);
  EXPECT_EQ(intake_.counts().rejected(Reject::kNoValue), 1u);
  EXPECT_EQ(counter("a"), 7u);
}

TEST_F(StatsdIntake, NameWithTwoKindsKeepsTheFirst) {
  push("a:1|c\na:1|g\na:1|g\na:1|c");
  EXPECT_EQ(intake_.counts().rejected(Reject::kKindClash), 2u);
  EXPECT_EQ(counter("a"), 2u);
}

TEST_F(StatsdIntake, ManyTagsAreOverflowLongOnesAreCutAndOnlyMalformedOnesRefused) {
  std::string many = "a:1|c|#";
  for (int i = 0; i < 500; ++i) many += "t" + std::to_string(i) + ":v,";
  push(many);
  push("a:2|c|#t:" + std::string(2000, 'v'));
  push("a:4|c|#t:\xff");
  EXPECT_EQ(intake_.counts().rejected(Reject::kLabel), 1u);
  const auto all = recorded(recorder_);
  EXPECT_EQ(all.size(), 2u);
  EXPECT_EQ(std::get<Counter>(all.at("a{otel.metric.overflow=true}")).delta, 1u);
}

TEST_F(StatsdIntake, ANameIsForTheKindThatHasItNow) {
  push("a:1|c\na:1|g");
  EXPECT_EQ(intake_.counts().rejected(Reject::kKindClash), 1u);
  for (int window = 0; window < 200; ++window) recorder_.end_window(clock_.now());  // forgotten
  push("a:2|g");
  EXPECT_EQ(intake_.counts().rejected(Reject::kKindClash), 1u);
}

TEST_F(StatsdIntake, AGaugeOfARecycledSeriesStartsFromItsOwnZero) {
  push("g:10|g");
  for (int window = 0; window < 200; ++window) recorder_.end_window(clock_.now());
  recorded(recorder_);
  push("h:+1|g\ng:+5|g");
  const auto all = recorded(recorder_);
  EXPECT_EQ(std::get<Gauge>(all.at("h")).last.value, 1'000'000);
  EXPECT_EQ(std::get<Gauge>(all.at("g")).last.value, 5'000'000);
}

TEST_F(StatsdIntake, SpellingsInUseStayRememberedThroughAFlood) {
  Intake small(recorder_, size_t{64} << 10);
  for (int i = 0; i < 20'000; ++i) {
    small.packet("n" + std::to_string(i) + ":1|c", clock_.now());
    if (i % 100 == 0) small.packet("half:1|c|@0.4", clock_.now());  // 2.5 each
  }
  EXPECT_EQ(counter("half"), 500u) << "its fractions were kept";
  EXPECT_LE(small.memory_bytes(), size_t{80} << 10);
}

TEST_F(StatsdIntake, TimestampedValueLandsInItsOwnMinute) {
  const int64_t now = unix_seconds(clock_.now());
  push("a:1|c|T" + std::to_string(now - 120) + "\na:2|c");
  EXPECT_EQ(recorder_.open_windows().size(), 2u);
  EXPECT_EQ(counter("a"), 3u);
}

TEST_F(StatsdIntake, FloodOfNamesKeepsTheCacheBoundedAndTheTotalExact) {
  Intake small(recorder_, size_t{64} << 10);
  for (int i = 0; i < 50'000; ++i) {
    small.packet("n" + std::to_string(i) + ":1|c\nsteady:1|c", clock_.now());
    ASSERT_LE(small.remembered(), 600u);
  }
  uint64_t total = 0;
  for (const auto& [series, value] : recorded(recorder_)) total += std::get<Counter>(value).delta;
  EXPECT_EQ(total, 100'000u);
}

}  // namespace
}  // namespace weir::daemon::statsd
