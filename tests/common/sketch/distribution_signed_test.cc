#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "common/block_codec.h"
#include "common/sketch/distribution.h"

namespace weir {
namespace {

const Metric kMetric{.name = "m", .kind = Kind::kDistribution, .unit = "", .quantum = -6};

Distribution of(std::initializer_list<int64_t> samples, uint8_t scale = kDefaultScale) {
  Distribution out(kMetric.quantum, scale);
  for (const int64_t sample : samples) EXPECT_TRUE(out.add_signed(sample).ok());
  return out;
}

Distribution merged(Distribution a, const Distribution& b) {
  EXPECT_TRUE(a.merge(b).ok());
  return a;
}

Bytes bytes_of(const Distribution& distribution) {
  const Value value = distribution;
  const Value* row = &value;
  return encode_block(kMetric, {&row, 1});
}

// As it arrives elsewhere.
Distribution sent(const Distribution& distribution) {
  Distribution out(kMetric.quantum);
  const auto status = decode_block(kMetric, bytes_of(distribution), [&](size_t, Value&& value) {
    out = std::get<Distribution>(std::move(value));
  });
  EXPECT_TRUE(status.ok());
  return out;
}

std::map<int32_t, uint64_t> negative_buckets(const Distribution& distribution) {
  std::map<int32_t, uint64_t> out;
  distribution.for_each_negative_bucket([&](int32_t index, uint64_t n) { out[index] = n; });
  return out;
}

TEST(SignedDistribution, KeepsCountSumMinAndMaxExactlyWhateverTheSigns) {
  const auto expect = [](const Distribution& d, uint64_t count, Int128 sum, Int128 min,
                         Int128 max) {
    EXPECT_EQ(d.count(), count);
    EXPECT_TRUE(d.sum() == sum);
    EXPECT_TRUE(d.min() == min);
    EXPECT_TRUE(d.max() == max);
    EXPECT_TRUE(sent(d) == d);
  };
  expect(of({-5, -700}), 2, -705, -700, -5);
  expect(of({-5, 0}), 2, -5, -5, 0);
  expect(of({-5, 3}), 2, -2, -5, 3);
  expect(of({-5, 0, 3}), 3, -2, -5, 3);
  expect(of({INT64_MIN, INT64_MAX}), 2, -1, INT64_MIN, INT64_MAX);
  Distribution extreme(kMetric.quantum);
  ASSERT_TRUE(extreme.add_negative(UINT64_MAX, kMaxCount - 1).ok());
  ASSERT_TRUE(extreme.add(UINT64_MAX).ok());
  const auto most = static_cast<Int128>(UINT64_MAX);
  expect(extreme, kMaxCount, most - most * static_cast<Int128>(kMaxCount - 1), -most, most);
  EXPECT_EQ(extreme.negative_count(), kMaxCount - 1);
}

TEST(SignedDistribution, NegativeSamplesCountInTheBucketsOfTheirMagnitude) {
  const auto& table = index_table(kDefaultScale, kMetric.quantum);
  const auto sketch = of({-1000, -1000, -1, 1000});
  const std::map<int32_t, uint64_t> expected = {{table.index(1), 1}, {table.index(1000), 2}};
  EXPECT_EQ(negative_buckets(sketch), expected);
  size_t positive = 0;
  sketch.for_each_bucket([&](int32_t index, uint64_t n) {
    EXPECT_EQ(index, table.index(1000));
    positive += n;
  });
  EXPECT_EQ(positive, 1U);
}

TEST(SignedDistribution, CountBeyondTheLimitIsRefusedAndChangesNothing) {
  auto sketch = of({-3, 4});
  const auto before = sketch;
  EXPECT_EQ(sketch.add_negative(9, kMaxCount - 1).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.add_negative_bucket(0, kMaxCount - 1).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.add_negative_bucket(INT32_MAX, 1).error().code, Errc::kInvalid);
  EXPECT_TRUE(sketch == before);
  ASSERT_TRUE(sketch.add_negative(1, kMaxCount - 3).ok());
  EXPECT_TRUE(sketch.add(4).ok());
  EXPECT_EQ(sketch.add(4).error().code, Errc::kLimit) << "the fast path heeds negatives too";
  EXPECT_EQ(sketch.add_signed(-4).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.merge(before).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.count(), kMaxCount);
}

TEST(SignedDistribution, MergeCommutesAssociatesAndHasAnIdentity) {
  const std::vector<Distribution> some = {of({}),           of({-7, -900}), of({0}),
                                          of({5, 70'000}),  of({-1, 1}),    of({-3, 0, 3}),
                                          of({-70'000, 0}), of({INT64_MIN})};
  for (const auto& a : some) {
    EXPECT_TRUE(merged(a, of({})) == a);
    EXPECT_TRUE(merged(of({}), a) == a);
    EXPECT_TRUE(merged(a, a).sum() == 2 * a.sum());
    for (const auto& b : some) {
      EXPECT_TRUE(merged(a, b) == merged(b, a));
      for (const auto& c : some) {
        EXPECT_TRUE(merged(merged(a, b), c) == merged(a, merged(b, c)));
      }
    }
  }
}

// What an encoding leaves out (the sum of the negative part, the smallest magnitudes beside others)
// must not come back by another way round.
TEST(SignedDistribution, AnyMergeTreeThroughAnyWiresGivesTheSameBytes) {
  std::mt19937_64 random(21);
  Distribution whole(kMetric.quantum);
  std::vector<Distribution> parts;
  for (int part = 0; part < 12; ++part) {
    auto& one = parts.emplace_back(kMetric.quantum);
    const auto shape = random() % 4;  // negative, positive, both, with zeros
    for (int i = 0; i < 40; ++i) {
      auto sample = static_cast<int64_t>(random() >> (20 + random() % 40));
      if (shape == 0 || (shape >= 2 && random() % 2 == 0)) sample = -sample;
      if (shape == 3 && i % 5 == 0) sample = 0;
      const uint64_t n = 1 + random() % 3000;
      ASSERT_TRUE(one.add_signed(sample, n).ok());
      ASSERT_TRUE(whole.add_signed(sample, n).ok());
    }
  }
  const Bytes expected = bytes_of(whole);
  for (int tree = 0; tree < 300; ++tree) {
    auto forest = parts;
    while (forest.size() > 1) {
      std::swap(forest[random() % forest.size()], forest.back());
      Distribution taken = std::move(forest.back());
      forest.pop_back();
      if (random() % 2 == 0) taken = sent(taken);
      auto& into = forest[random() % forest.size()];
      ASSERT_TRUE(into.merge(taken).ok());
      if (random() % 4 == 0) into = sent(into);
    }
    ASSERT_EQ(bytes_of(forest[0]), expected);
  }
}

TEST(SignedDistribution, BucketsCountedElsewhereEqualSamplesCountedHere) {
  for (const auto& sampled : {of({-9'000, -9'000, -50}), of({-50, 0}), of({-50, 0, 0, 1'000})}) {
    Distribution cells(kMetric.quantum);
    sampled.for_each_negative_bucket(
        [&](int32_t index, uint64_t n) { ASSERT_TRUE(cells.add_negative_bucket(index, n).ok()); });
    sampled.for_each_bucket(
        [&](int32_t index, uint64_t n) { ASSERT_TRUE(cells.add_bucket(index, n).ok()); });
    ASSERT_TRUE(cells.add_zero(sampled.zero_count()).ok());
    cells.add_totals(sampled.sum(), sampled.min(), sampled.max());
    EXPECT_TRUE(cells == sampled);
  }
}

TEST(SignedDistribution, TotalsThatContradictTheBucketsAreClamped) {
  const auto& table = index_table(kDefaultScale, kMetric.quantum);
  constexpr auto kWild = static_cast<Int128>(UINT64_MAX) << 62;
  for (const Int128 sum : {kWild, -kWild, Int128{0}}) {
    for (const Int128 min : {kWild, -kWild, Int128{5}, Int128{-5}}) {
      Distribution sketch(kMetric.quantum);
      ASSERT_TRUE(sketch.add_negative_bucket(table.index(1000), 1).ok());
      ASSERT_TRUE(sketch.add_negative_bucket(table.index(9000), 2).ok());
      sketch.add_totals(sum, min, -min);
      EXPECT_EQ(table.index(static_cast<uint64_t>(-sketch.min())), table.index(9000));
      EXPECT_EQ(table.index(static_cast<uint64_t>(-sketch.max())), table.index(1000));
      EXPECT_TRUE(sent(sketch) == sketch);
      ASSERT_TRUE(sketch.add_bucket(table.index(7), 1).ok());
      sketch.add_totals(sum, min, -min);
      EXPECT_EQ(table.index(static_cast<uint64_t>(sketch.max())), table.index(7));
      EXPECT_TRUE(sent(sketch) == sketch);
    }
  }
}

TEST(SignedDistribution, QuantilesWalkFromTheMostNegativeToTheGreatest) {
  const auto sketch = of({-40, -30, 0, 20, 30});
  const auto near = [&](uint32_t phi, double quanta) {
    const double expected = quanta * 1e-6;
    const auto estimate = *sketch.quantile(phi);
    EXPECT_NEAR(estimate.value, expected, std::abs(expected) * sketch.relative_error());
    EXPECT_LE(estimate.lo, expected);
    EXPECT_GE(estimate.hi, expected);
  };
  near(0, -40);
  near(200'000'000, -40);
  near(200'000'001, -30);
  near(500'000'000, 0);
  near(800'000'000, 20);
  near(1'000'000'000, 30);
}

TEST(SignedDistribution, StatedErrorHoldsForMixedSigns) {
  std::mt19937_64 random(22);
  std::normal_distribution<double> normal(-2e5, 1e6);
  for (const uint8_t scale : {uint8_t{5}, uint8_t{6}, uint8_t{7}}) {
    Distribution sketch(kMetric.quantum, scale);
    std::vector<int64_t> samples(20'000);
    for (auto& sample : samples) {
      sample = std::llround(normal(random));
      ASSERT_TRUE(sketch.add_signed(sample).ok());
    }
    std::sort(samples.begin(), samples.end());
    for (uint32_t phi = 0; phi <= 1'000'000'000; phi += 12'500'000) {
      const size_t rank = (uint64_t{phi} * samples.size() + 999'999'999) / 1'000'000'000;
      const double truth = static_cast<double>(samples[rank == 0 ? 0 : rank - 1]) / 1e6;
      const auto estimate = *sketch.quantile(phi);
      EXPECT_LE(std::abs(estimate.value - truth),
                std::abs(truth) * sketch.relative_error() * (1 + 1e-9));
      EXPECT_LE(estimate.lo, truth + std::abs(truth) * 1e-15);
      EXPECT_GE(estimate.hi, truth - std::abs(truth) * 1e-15);
    }
  }
}

TEST(SignedDistribution, ZeroThresholdMergesByMaximumAndWidensWhatLandsInIt) {
  auto wide = of({0, 0, 0, 3, 900});
  wide.raise_zero_threshold(10);
  auto wider = of({0});
  wider.raise_zero_threshold(50);
  wider.raise_zero_threshold(20);  // a smaller one changes nothing
  EXPECT_TRUE(sent(wide) == wide);
  EXPECT_TRUE(merged(wide, wider) == merged(wider, wide));
  EXPECT_EQ(merged(wide, wider).zero_threshold(), 50U);
  EXPECT_EQ(merged(wide, of({5})).zero_threshold(), 10U);
  EXPECT_FALSE(wide == of({0, 0, 0, 3, 900}));

  const auto zero = *wide.quantile(500'000'000);
  EXPECT_EQ(zero.value, 0.0);
  EXPECT_DOUBLE_EQ(zero.lo, -10e-6);
  EXPECT_DOUBLE_EQ(zero.hi, 10e-6);
  const auto within = *wide.quantile(800'000'000);  // 3 may have changed places with a "zero"
  EXPECT_DOUBLE_EQ(within.lo, -10e-6);
  EXPECT_DOUBLE_EQ(within.hi, 10e-6);
  const auto beyond = *wide.quantile(1'000'000'000);
  EXPECT_GT(beyond.lo, 800e-6);
}

TEST(SignedDistribution, CoarserBucketsAreThoseOfTheSameSamplesCountedSo) {
  std::mt19937_64 random(23);
  Distribution fine(kMetric.quantum, 7);
  Distribution middle(kMetric.quantum, 6);
  Distribution coarse(kMetric.quantum, 5);
  for (int i = 0; i < 3'000; ++i) {
    auto sample = static_cast<int64_t>(random() >> (2 + random() % 61));
    if (random() % 2 == 0) sample = -sample;
    for (auto* each : {&fine, &middle, &coarse}) ASSERT_TRUE(each->add_signed(sample, 40).ok());
  }
  for (auto* each : {&fine, &middle, &coarse}) each->raise_zero_threshold(4);
  EXPECT_TRUE(fine.coarsened(7) == fine);
  EXPECT_TRUE(fine.coarsened(6) == middle);
  EXPECT_TRUE(fine.coarsened(5) == coarse);
  EXPECT_TRUE(fine.coarsened(6).coarsened(5) == coarse);
  EXPECT_TRUE(merged(fine, fine).coarsened(5) == merged(coarse, coarse));
  EXPECT_TRUE(sent(fine.coarsened(6)) == middle);
  EXPECT_TRUE(of({}, 7).coarsened(5) == of({}, 5));
}

TEST(SignedDistribution, CopyIsDeep) {
  const auto first = of({-5});
  auto copy = first;
  ASSERT_TRUE(copy.add_signed(-6).ok());
  EXPECT_EQ(first.negative_count(), 1U);
  EXPECT_EQ(copy.negative_count(), 2U);
  EXPECT_GT(copy.memory_bytes(), of({5}).memory_bytes());
}

}  // namespace
}  // namespace weir
