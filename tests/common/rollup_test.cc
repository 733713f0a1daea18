#include "common/rollup.h"

#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "tests/fakes/samples.h"

namespace weir {

namespace {

constexpr int64_t kHour = 1'700'002'800;  // a multiple of 3600

const Metric& counter_metric() { return sample_metrics()[0]; }

uint64_t delta_of(const Delta& delta) { return std::get<Counter>(delta.value).delta; }

// One series per (metric, service); hosts are dropped.
SeriesId series_of(const Sample& sample) {
  return static_cast<SeriesId>(sample.metric * 3 + sample.service);
}

using Encoded = std::map<SeriesId, Bytes>;

Encoded encoded(Rollup& rollup, int64_t start) {
  Encoded out;
  for (const Delta& delta : rollup.take(start)) {
    out[delta.series] = bytes_of(sample_metrics()[delta.series / 3], delta.value);
  }
  return out;
}

// Everything `from` holds, window by window in any order, into wider windows.
void fold(Rollup& from, Rollup& to, std::mt19937_64& random) {
  auto windows = from.open_windows();
  std::shuffle(windows.begin(), windows.end(), random);
  for (const int64_t start : windows) {
    auto deltas = from.take(start);
    std::shuffle(deltas.begin(), deltas.end(), random);
    for (const Delta& delta : deltas) {
      ASSERT_TRUE(to.merge(delta.series, start, delta.value).ok());
    }
  }
}

}  // namespace

TEST(Rollup, SixtyMinutesTwelveFivesAndOneHourAreTheSameBytes) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 20; ++round) {
    Rollup direct(3600);
    Rollup minutes(60);
    Rollup minutes_for_fives(60);
    Rollup fives(300);
    for (int i = 0; i < 500; ++i) {
      const Sample sample = random_sample(random, kHour, kHour + 3600);
      for (Rollup* rollup : {&direct, &minutes, &minutes_for_fives}) {
        put(sample, rollup->at(series_of(sample), sample_metrics()[sample.metric], sample.unix_s));
      }
    }
    ASSERT_LE(minutes.open_windows().size(), 60U);
    Rollup from_minutes(3600);
    fold(minutes, from_minutes, random);
    fold(minutes_for_fives, fives, random);
    ASSERT_LE(fives.open_windows().size(), 12U);
    Rollup from_fives(3600);
    fold(fives, from_fives, random);
    const Encoded whole = encoded(direct, kHour);
    ASSERT_EQ(whole.size(), 3 * sample_metrics().size());
    ASSERT_EQ(encoded(from_minutes, kHour), whole);
    ASSERT_EQ(encoded(from_fives, kHour), whole);
  }
}

TEST(Rollup, PartsMergeToWhatOneTakeGives) {
  std::mt19937_64 random(2);
  Rollup direct(60);
  Rollup cut(60);
  Rollup merged(60);
  for (int i = 0; i < 2000; ++i) {
    const Sample sample = random_sample(random, kHour, kHour + 60);
    for (Rollup* rollup : {&direct, &cut}) {
      put(sample, rollup->at(series_of(sample), sample_metrics()[sample.metric], sample.unix_s));
    }
    if (i % 97 == 0) fold(cut, merged, random);
  }
  fold(cut, merged, random);
  EXPECT_EQ(encoded(merged, kHour), encoded(direct, kHour));
}

TEST(Rollup, LateSampleLandsInItsOwnMinute) {
  Rollup rollup(60);
  const auto count = [&](int64_t at) {
    std::get<Counter>(rollup.at(0, counter_metric(), at)).delta += 1;
  };
  count(kHour + 61);
  count(kHour + 119);
  count(kHour + 59);
  EXPECT_EQ(rollup.open_windows(), (std::vector<int64_t>{kHour, kHour + 60}));
  EXPECT_EQ(delta_of(rollup.take(kHour + 60).at(0)), 2U);
  count(kHour + 60);  // after its window was taken: one more delta of that window
  EXPECT_EQ(delta_of(rollup.take(kHour + 60).at(0)), 1U);
  EXPECT_EQ(delta_of(rollup.take(kHour).at(0)), 1U);
}

TEST(Rollup, TimesBefore1970StayAligned) {
  Rollup rollup(60);
  rollup.at(0, counter_metric(), -1);
  rollup.at(0, counter_metric(), -60);
  rollup.at(0, counter_metric(), -61);
  EXPECT_EQ(rollup.open_windows(), (std::vector<int64_t>{-120, -60}));
}

TEST(Rollup, TakeIsOrderedBySeriesAndEmptiesTheWindow) {
  Rollup rollup(60);
  for (const SeriesId series : {7U, 0U, 3U}) {
    std::get<Counter>(rollup.at(series, counter_metric(), kHour)).delta += series;
  }
  const auto taken = rollup.take(kHour);
  ASSERT_EQ(taken.size(), 3U);
  EXPECT_EQ(taken[0].series, 0U);  // a counter at zero is a statement
  EXPECT_EQ(taken[1].series, 3U);
  EXPECT_EQ(taken[2].series, 7U);
  EXPECT_TRUE(rollup.take(kHour).empty());
  EXPECT_TRUE(rollup.open_windows().empty());
}

TEST(Rollup, DeltasOpenedButNeverFilledAreLeftOut) {
  Rollup rollup(60);
  for (SeriesId i = 0; i < sample_metrics().size(); ++i) rollup.at(i, sample_metrics()[i], kHour);
  const auto taken = rollup.take(kHour);
  ASSERT_EQ(taken.size(), 1U);
  EXPECT_EQ(kind_of(taken[0].value), Kind::kCounter);
}

TEST(Rollup, RefusedMergeChangesNothing) {
  Rollup rollup(60);
  ASSERT_TRUE(rollup.merge(0, kHour, Counter{5}).ok());
  EXPECT_FALSE(rollup.merge(0, kHour, Counter{kMaxCount}).ok());
  EXPECT_FALSE(rollup.merge(0, kHour, Profile()).ok());
  EXPECT_EQ(delta_of(rollup.take(kHour).at(0)), 5U);
}

TEST(Rollup, MemoryGrowsWithWhatIsHeldAndReturns) {
  Rollup rollup(60);
  const size_t empty = rollup.memory_bytes();
  for (SeriesId i = 0; i < 100; ++i) {
    ASSERT_TRUE(std::get<Distribution>(rollup.at(i, sample_metrics()[2], kHour)).add(i + 1).ok());
  }
  EXPECT_GT(rollup.memory_bytes(), empty + 100 * sizeof(Delta));
  rollup.take(kHour);
  EXPECT_EQ(rollup.memory_bytes(), empty);
}

TEST(Rollup, FoldedSeriesIsAsIfItsSamplesHadComeUnderTheOther) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 50; ++round) {
    Rollup direct(60);
    Rollup folded(60);
    for (int i = 0; i < 200; ++i) {
      const Sample sample = random_sample(random, kHour, kHour + 240);
      const auto kind = static_cast<SeriesId>(sample.metric * 3);
      const auto own = static_cast<SeriesId>(kind + sample.service);
      const Metric& metric = sample_metrics()[sample.metric];
      put(sample, direct.at(own == kind + 1 ? kind : own, metric, sample.unix_s));
      put(sample, folded.at(own, metric, sample.unix_s));
    }
    for (SeriesId i = 0; i < sample_metrics().size(); ++i) {
      ASSERT_TRUE(folded.fold(3 * i + 1, 3 * i).ok());
    }
    ASSERT_EQ(folded.open_windows(), direct.open_windows());
    for (const int64_t start : direct.open_windows()) {
      ASSERT_EQ(encoded(folded, start), encoded(direct, start));
    }
  }
}

TEST(Rollup, WhatCannotBeFoldedStaysAsItWas) {
  Rollup rollup(60);
  // Three windows; the one in the middle would pass the limit of a count.
  for (const int64_t at : {kHour, kHour + 60, kHour + 120}) {
    ASSERT_TRUE(rollup.merge(0, at, Counter{5}).ok());
    ASSERT_TRUE(rollup.merge(1, at, Counter{at == kHour + 60 ? kMaxCount : 7}).ok());
  }
  EXPECT_EQ(rollup.fold(1, 0).error().code, Errc::kLimit);
  for (const int64_t at : {kHour, kHour + 60, kHour + 120}) {
    const auto taken = rollup.take(at);
    ASSERT_EQ(taken.size(), 2U);
    EXPECT_EQ(delta_of(taken[0]), 5U);
    EXPECT_EQ(delta_of(taken[1]), at == kHour + 60 ? kMaxCount : 7);
  }
}

TEST(Rollup, IdOfAFoldedOrForgottenSeriesInheritsNothing) {
  Rollup rollup(60);
  ASSERT_TRUE(rollup.merge(1, kHour, Counter{5}).ok());
  ASSERT_TRUE(rollup.merge(2, kHour, Counter{6}).ok());
  ASSERT_TRUE(rollup.merge(2, kHour + 60, Counter{7}).ok());
  ASSERT_TRUE(rollup.merge(3, kHour, Counter{9}).ok());
  ASSERT_TRUE(rollup.fold(1, 5).ok());
  EXPECT_EQ(rollup.forget(2), 13U);
  EXPECT_EQ(rollup.forget(2), 0U);
  ASSERT_TRUE(rollup.fold(1, 5).ok());  // nothing is open
  EXPECT_EQ(std::get<Counter>(rollup.at(1, counter_metric(), kHour)).delta, 0U);
  EXPECT_EQ(std::get<Counter>(rollup.at(2, counter_metric(), kHour)).delta, 0U);
  std::get<Counter>(rollup.at(3, counter_metric(), kHour)).delta += 1;
  const auto taken = rollup.take(kHour);
  ASSERT_EQ(taken.size(), 4U);
  EXPECT_EQ(taken[2].series, 3U);
  EXPECT_EQ(delta_of(taken[2]), 10U);
  EXPECT_EQ(taken[3].series, 5U);
  EXPECT_EQ(delta_of(taken[3]), 5U);
  EXPECT_TRUE(rollup.take(kHour + 60).empty());
}

}  // namespace weir
