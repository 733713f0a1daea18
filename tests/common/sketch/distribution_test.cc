#include "common/sketch/distribution.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace weir {
namespace {

constexpr int8_t kNano = -9;

Distribution of(std::initializer_list<uint64_t> samples) {
  Distribution out(kNano);
  for (const uint64_t sample : samples) EXPECT_TRUE(out.add(sample).ok());
  return out;
}

std::map<int32_t, uint64_t> buckets(const Distribution& distribution) {
  std::map<int32_t, uint64_t> out;
  distribution.for_each_bucket([&](int32_t index, uint64_t count) { out[index] = count; });
  return out;
}

TEST(Distribution, StartsEmpty) {
  const Distribution empty(kNano);
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.count(), 0U);
  EXPECT_EQ(empty.min(), 0U);
  EXPECT_EQ(empty.max(), 0U);
  EXPECT_TRUE(empty.sum() == 0);
  EXPECT_EQ(empty.quantile(500'000'000).error().code, Errc::kNotFound);
}

TEST(Distribution, KeepsCountSumMinAndMaxExactly) {
  const auto sketch = of({7, (1ULL << 53) + 1, UINT64_MAX, 1});
  EXPECT_EQ(sketch.count(), 4U);
  EXPECT_EQ(sketch.min(), 1U);
  EXPECT_EQ(sketch.max(), UINT64_MAX);
  EXPECT_TRUE(sketch.sum() == static_cast<Int128>(UINT64_MAX) + (1LL << 53) + 9);
}

TEST(Distribution, ZeroHasItsOwnBucket) {
  auto sketch = of({0, 0, 5});
  EXPECT_EQ(sketch.zero_count(), 2U);
  EXPECT_EQ(sketch.min(), 0U);
  EXPECT_EQ(sketch.quantile(500'000'000)->value, 0.0);
  EXPECT_GT(sketch.quantile(900'000'000)->value, 0.0);
  EXPECT_TRUE(of({0}) == of({0}));
}

TEST(Distribution, EverySampleCountsInTheBucketOfTheIndexTable) {
  std::mt19937_64 random(3);
  Distribution sketch(kNano);
  std::map<int32_t, uint64_t> expected;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t sample = (random() >> (random() % 64)) | 1;
    const uint64_t n = 1 + random() % 200'000;
    ASSERT_TRUE(sketch.add(sample, n).ok());
    expected[index_table(6, kNano).index(sample)] += n;
  }
  EXPECT_EQ(buckets(sketch), expected);
}

TEST(Distribution, CountersWidenFromTwoToFourToEightBytes) {
  Distribution sketch(kNano);
  ASSERT_TRUE(sketch.add(1000, UINT16_MAX).ok());
  const size_t narrow = sketch.memory_bytes();
  ASSERT_TRUE(sketch.add(1000).ok());
  EXPECT_EQ(buckets(sketch).begin()->second, 65536U);
  EXPECT_GT(sketch.memory_bytes(), narrow);
  ASSERT_TRUE(sketch.add(1000, UINT32_MAX).ok());
  EXPECT_EQ(buckets(sketch).begin()->second, uint64_t{65536} + UINT32_MAX);
}

TEST(Distribution, CountBeyondTheLimitIsRefusedAndChangesNothing) {
  auto sketch = of({3});
  const auto before = sketch;
  EXPECT_EQ(sketch.add(9, kMaxCount).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.add_zero(kMaxCount).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.add_bucket(0, kMaxCount).error().code, Errc::kLimit);
  EXPECT_TRUE(sketch == before);
  Distribution full(kNano);
  ASSERT_TRUE(full.add(UINT64_MAX, kMaxCount).ok());
  EXPECT_EQ(full.merge(before).error().code, Errc::kLimit);
  EXPECT_EQ(full.count(), kMaxCount);
  EXPECT_TRUE(full.sum() == static_cast<Int128>(kMaxCount) * static_cast<Int128>(UINT64_MAX));
}

TEST(Distribution, LimitHoldsToTheLastSampleWhenZerosFillIt) {
  auto sketch = of({7});
  ASSERT_TRUE(sketch.add_zero(kMaxCount - 3).ok());
  EXPECT_TRUE(sketch.add(7).ok());
  EXPECT_TRUE(sketch.add(7).ok());
  EXPECT_EQ(sketch.add(7).error().code, Errc::kLimit);
  EXPECT_EQ(sketch.count(), kMaxCount);
  EXPECT_EQ(buckets(sketch).begin()->second, 3U);
}

TEST(Distribution, NoSamplesAddNothing) {
  Distribution sketch(kNano);
  ASSERT_TRUE(sketch.add(5, 0).ok());
  ASSERT_TRUE(sketch.add(0, 0).ok());
  EXPECT_TRUE(sketch == Distribution(kNano));
}

TEST(Distribution, BucketsCountedElsewhereEqualSamplesCountedHere) {
  const auto sampled = of({0, 1'000'000, 1'000'000, 250'000'000});
  Distribution cells(kNano);
  sampled.for_each_bucket(
      [&](int32_t index, uint64_t n) { ASSERT_TRUE(cells.add_bucket(index, n).ok()); });
  ASSERT_TRUE(cells.add_zero(1).ok());
  cells.add_totals(sampled.sum(), sampled.min(), sampled.max());
  EXPECT_TRUE(cells == sampled);
}

TEST(Distribution, BucketNoSampleCanReachIsRefused) {
  Distribution sketch(kNano);
  EXPECT_EQ(sketch.add_bucket(-1915, 1).error().code, Errc::kInvalid);
  EXPECT_EQ(sketch.add_bucket(2183, 1).error().code, Errc::kInvalid);
  EXPECT_TRUE(sketch.add_bucket(-1914, 1).ok());
  EXPECT_TRUE(sketch.add_bucket(2182, 1).ok());
}

TEST(Distribution, TotalsThatContradictTheBucketsAreClamped) {
  const auto& table = index_table(6, kNano);
  Distribution sketch(kNano);
  ASSERT_TRUE(sketch.add_bucket(table.index(1000), 1).ok());
  ASSERT_TRUE(sketch.add_bucket(table.index(9000), 2).ok());
  sketch.add_totals(-5, UINT64_MAX, 0);
  EXPECT_EQ(table.index(static_cast<uint64_t>(sketch.min())), table.index(1000));
  EXPECT_EQ(table.index(static_cast<uint64_t>(sketch.max())), table.index(9000));
  EXPECT_TRUE(sketch.sum() == 3 * sketch.min());
  Bytes widths;
  Bytes packed;
  const auto groups = sketch.pack(widths, packed);  // aborts if inconsistent
  EXPECT_EQ(groups.number, widths.size());
}

TEST(Distribution, MergeCommutesAssociatesAndHasAnIdentity) {
  const auto a = of({1, 500, 70'000});
  const auto b = of({0, 500, UINT64_MAX});
  auto c = of({42});
  ASSERT_TRUE(c.add(500, 1'000'000).ok());
  const auto merged = [](Distribution x, const Distribution& y) {
    EXPECT_TRUE(x.merge(y).ok());
    return x;
  };
  EXPECT_TRUE(merged(a, b) == merged(b, a));
  EXPECT_TRUE(merged(merged(a, b), c) == merged(a, merged(b, c)));
  EXPECT_TRUE(merged(a, Distribution(kNano)) == a);
  EXPECT_TRUE(merged(Distribution(kNano), a) == a);
  EXPECT_EQ(merged(a, a).count(), 6U);
}

TEST(Distribution, MergingWithItselfDoubles) {
  auto sketch = of({5, 6, 7});
  ASSERT_TRUE(sketch.add(5, 40'000).ok());
  ASSERT_TRUE(sketch.merge(sketch).ok());
  EXPECT_EQ(sketch.count(), 2 * 40'003U);
}

TEST(Distribution, MergesWidenExactlyWhenACounterPasses) {
  for (const uint64_t limit : {uint64_t{UINT16_MAX}, uint64_t{UINT32_MAX}}) {
    Distribution sketch(kNano);
    ASSERT_TRUE(sketch.add(1000, limit - 1).ok());
    ASSERT_TRUE(sketch.add(9, 3).ok());  // the total passes, no counter does
    const size_t narrow = sketch.memory_bytes();
    ASSERT_TRUE(sketch.merge(of({1000, 9})).ok());
    EXPECT_EQ(sketch.memory_bytes(), narrow);
    ASSERT_TRUE(sketch.merge(of({1000, 1'000'000})).ok());
    EXPECT_GT(sketch.memory_bytes(), narrow);
    Distribution expected(kNano);
    ASSERT_TRUE(expected.add(1000, limit + 1).ok());
    ASSERT_TRUE(expected.add(9, 4).ok());
    ASSERT_TRUE(expected.add(1'000'000).ok());
    EXPECT_TRUE(sketch == expected);
  }
}

TEST(Distribution, OtherScaleOrQuantumDoesNotMerge) {
  auto sketch = of({5});
  EXPECT_EQ(sketch.merge(Distribution(kNano, 5)).error().code, Errc::kInvalid);
  EXPECT_EQ(sketch.merge(Distribution(-6)).error().code, Errc::kInvalid);
  EXPECT_FALSE(sketch == Distribution(-6));
}

TEST(Distribution, QuantileTakesTheFirstBucketThatReachesItsRank) {
  Distribution sketch(0);
  for (const uint64_t sample : {10U, 20U, 30U, 40U}) ASSERT_TRUE(sketch.add(sample).ok());
  const auto near = [&](uint32_t phi, double expected) {
    const auto estimate = *sketch.quantile(phi);
    EXPECT_NEAR(estimate.value, expected, expected * sketch.relative_error());
    EXPECT_LT(estimate.lo, expected);
    EXPECT_GE(estimate.hi, expected);
  };
  near(0, 10);
  near(250'000'000, 10);  // exactly a quarter: still the first
  near(250'000'001, 20);
  near(500'000'000, 20);
  near(1'000'000'000, 40);
  EXPECT_EQ(sketch.quantile(1'000'000'001).error().code, Errc::kInvalid);
}

TEST(Distribution, ConstantSamplesAreAnsweredExactly) {
  Distribution sketch(kNano);
  ASSERT_TRUE(sketch.add(20'000'000, 1000).ok());
  EXPECT_DOUBLE_EQ(sketch.quantile(990'000'000)->value, 0.02);
}

TEST(Distribution, RelativeErrorIsTheDocumentedOne) {
  EXPECT_NEAR(Distribution(kNano, 5).relative_error(), 0.01083, 5e-6);
  EXPECT_NEAR(Distribution(kNano, 6).relative_error(), 0.00542, 5e-6);
  EXPECT_NEAR(Distribution(kNano, 7).relative_error(), 0.00271, 5e-6);
}

// Samples in nanoseconds of five shapes: the ones the stated error is promised for.
std::vector<uint64_t> samples_of(int shape, size_t n) {
  std::mt19937_64 random(static_cast<uint64_t>(shape) + 10);
  std::lognormal_distribution<double> lognormal(std::log(20e6), 1.0);
  std::lognormal_distribution<double> slow(std::log(800e6), 0.3);
  std::normal_distribution<double> fast(2e6, 1e5);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<uint64_t> out;
  for (size_t i = 0; i < n; ++i) {
    double sample = 5e6;  // shape 4: constant
    if (shape == 0) sample = lognormal(random);
    if (shape == 1) sample = uniform(random) < 0.95 ? lognormal(random) / 10 : slow(random);
    if (shape == 2) sample = 1e6 * std::pow(1 - uniform(random), -1 / 1.5);  // Pareto 1.5
    if (shape == 3) sample = uniform(random) < 0.5 ? fast(random) : slow(random);
    out.push_back(static_cast<uint64_t>(std::max(1.0, sample)));
  }
  return out;
}

TEST(Distribution, StatedErrorHoldsOnFiveShapesBeforeAndAfterAThousandMerges) {
  for (const uint8_t scale : {uint8_t{5}, uint8_t{6}, uint8_t{7}}) {
    for (int shape = 0; shape < 5; ++shape) {
      auto samples = samples_of(shape, 50'000);
      Distribution whole(kNano, scale);
      std::vector<Distribution> parts(1000, Distribution(kNano, scale));
      for (size_t i = 0; i < samples.size(); ++i) {
        ASSERT_TRUE(whole.add(samples[i]).ok());
        ASSERT_TRUE(parts[i % parts.size()].add(samples[i]).ok());
      }
      Distribution merged(kNano, scale);
      for (const auto& part : parts) ASSERT_TRUE(merged.merge(part).ok());
      ASSERT_TRUE(merged == whole);
      std::sort(samples.begin(), samples.end());
      for (const uint32_t phi :
           {500'000'000U, 900'000'000U, 990'000'000U, 999'000'000U, 999'900'000U}) {
        const size_t rank = (uint64_t{phi} * samples.size() + 999'999'999) / 1'000'000'000;
        const double truth = static_cast<double>(samples[rank - 1]) / 1e9;
        const auto estimate = *merged.quantile(phi);
        EXPECT_LE(std::abs(estimate.value - truth) / truth, merged.relative_error() * (1 + 1e-9))
            << "scale " << int{scale} << " shape " << shape << " phi " << phi;
        EXPECT_LT(estimate.lo, truth);
        EXPECT_GE(estimate.hi * (1 + 1e-15), truth);
      }
    }
  }
}

TEST(Distribution, CopyIsDeepAndMoveLeavesNothingBehind) {
  auto first = of({5});
  auto copy = first;
  ASSERT_TRUE(copy.add(6).ok());
  EXPECT_EQ(first.count(), 1U);
  first = std::move(copy);
  EXPECT_EQ(first.count(), 2U);
  copy = first;
  EXPECT_TRUE(copy == first);
}

TEST(Distribution, EqualityIgnoresSpareRoomAndCounterWidth) {
  Distribution wide(kNano);
  ASSERT_TRUE(wide.add(1).ok());
  ASSERT_TRUE(wide.add(1'000'000).ok());
  Distribution other(kNano);
  ASSERT_TRUE(other.add(1'000'000).ok());
  ASSERT_TRUE(other.add(1).ok());
  EXPECT_TRUE(wide == other);
}

}  // namespace
}  // namespace weir
