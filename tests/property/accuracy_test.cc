// The promise an operator relies on: a quantile merged from a thousand hosts is within the stated
// error of the truth, and is the same bytes whichever way the parts were merged.

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "common/block_codec.h"
#include "common/sketch/distribution.h"

namespace weir {
namespace {

constexpr size_t kValues = 10'000'000;
constexpr size_t kShards = 1000;
constexpr size_t kTrees = 1000;

struct DataSet {
  const char* name;
  int8_t quantum;
  std::function<double(std::mt19937_64&)> draw;  // in quanta
};

// Service times in nanoseconds unless said otherwise.
std::vector<DataSet> data_sets() {
  using Random = std::mt19937_64;
  const auto uniform = [](Random& random) {
    return std::uniform_real_distribution<double>(0, 1)(random);
  };
  return {
      {"lognormal", -9,
       [](Random& random) {
         return std::lognormal_distribution<double>(std::log(20e6), 1.0)(random);
       }},
      {"pareto", -9,
       [uniform](Random& random) { return 1e6 * std::pow(1 - uniform(random), -1 / 1.5); }},
      {"bimodal", -9,
       [uniform](Random& random) {
         return uniform(random) < 0.5
                    ? std::normal_distribution<double>(2e6, 1e5)(random)
                    : std::lognormal_distribution<double>(std::log(800e6), 0.3)(random);
       }},
      {"cache hit or timeout", -9,
       [uniform](Random& random) {
         const double which = uniform(random);
         if (which < 0.97) return 40e3 + 20e3 * uniform(random);
         return which < 0.999 ? 5e6 * (1 + uniform(random)) : 30e9;
       }},
      {"integers", 0,
       [uniform](Random& random) { return std::floor(-std::log(1 - uniform(random)) * 40); }},
  };
}

std::vector<uint64_t> samples_of(const DataSet& set, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> out(kValues);
  for (uint64_t& value : out) {
    value = static_cast<uint64_t>(std::max(0.0, std::nearbyint(set.draw(random))));
  }
  return out;
}

std::vector<Distribution> shards_of(const std::vector<uint64_t>& samples, int8_t quantum,
                                    uint8_t scale) {
  std::vector<Distribution> shards(kShards, Distribution(quantum, scale));
  for (size_t i = 0; i < samples.size(); ++i) {
    EXPECT_TRUE(shards[i % kShards].add(samples[i]).ok());
  }
  return shards;
}

Distribution merged(const std::vector<Distribution>& shards) {
  Distribution whole = shards[0];
  for (size_t i = 1; i < shards.size(); ++i) EXPECT_TRUE(whole.merge(shards[i]).ok());
  return whole;
}

Bytes bytes_of(const Distribution& distribution) {
  const Metric metric{"m_seconds", Kind::kDistribution, "seconds", distribution.quantum()};
  const Value value = distribution;
  const Value* const row = &value;
  return encode_block(metric, {&row, 1});
}

constexpr uint32_t kQuantiles[] = {500'000'000, 750'000'000, 900'000'000, 950'000'000,
                                   990'000'000, 999'000'000, 999'900'000};

class Accuracy : public testing::TestWithParam<size_t> {};

TEST_P(Accuracy, MergedFromAThousandShardsStaysWithinTheStatedErrorAtEveryScale) {
  const DataSet set = data_sets()[GetParam()];
  SCOPED_TRACE(set.name);
  std::vector<uint64_t> samples = samples_of(set, 20 + GetParam());
  std::vector<Distribution> wholes;
  for (const uint8_t scale : {uint8_t{5}, uint8_t{6}, uint8_t{7}}) {
    wholes.push_back(merged(shards_of(samples, set.quantum, scale)));
  }
  std::sort(samples.begin(), samples.end());
  const double unit = std::pow(10.0, set.quantum);
  for (const Distribution& whole : wholes) {
    EXPECT_EQ(whole.count(), kValues);
    // Half a bucket, on a logarithmic scale: 1.083, 0.5416 and 0.2708 %.
    EXPECT_NEAR(whole.relative_error(), std::tanh(std::log(2) / std::exp2(whole.scale() + 1)),
                1e-12);
    Int128 sum = 0;
    for (const uint64_t sample : samples) sum += static_cast<Int128>(sample);
    EXPECT_TRUE(whole.sum() == sum) << "sums are exact";
    EXPECT_EQ(whole.min(), samples.front());
    EXPECT_EQ(whole.max(), samples.back());
    for (const uint32_t phi : kQuantiles) {
      const size_t rank = (uint64_t{phi} * kValues + 999'999'999) / 1'000'000'000;
      const double truth = static_cast<double>(samples[rank - 1]) * unit;
      const auto answer = whole.quantile(phi);
      ASSERT_TRUE(answer.ok());
      EXPECT_LE(std::abs(answer->value - truth), whole.relative_error() * truth + unit / 2)
          << "scale " << int{whole.scale()} << ", p" << phi / 1e7 << ": " << answer->value
          << " instead of " << truth;
      // The interval that is printed holds the truth, up to how doubles write its ends.
      EXPECT_LE(answer->lo, truth * (1 + 1e-12));
      EXPECT_GE(answer->hi, truth * (1 - 1e-12));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DataSets, Accuracy, testing::Range<size_t>(0, 5));

TEST(MergeTrees, AThousandRandomTreesOverAThousandShardsGiveTheSameBytes) {
  const auto sets = data_sets();
  std::mt19937_64 random(3);
  std::vector<Distribution> shards;
  Distribution everything(-9);
  for (size_t shard = 0; shard < kShards; ++shard) {
    Distribution& part = shards.emplace_back(-9);
    const DataSet& set = sets[random() % 4];
    const size_t size = random() % 200;  // some shards are empty
    for (size_t i = 0; i < size; ++i) {
      const auto sample = static_cast<uint64_t>(std::max(0.0, set.draw(random)));
      ASSERT_TRUE(part.add(sample).ok());
      ASSERT_TRUE(everything.add(sample).ok());
    }
  }
  const Bytes expected = bytes_of(everything);
  for (size_t tree = 0; tree < kTrees; ++tree) {
    auto forest = shards;
    while (forest.size() > 1) {  // two at random become one
      std::swap(forest[random() % forest.size()], forest.back());
      const Distribution taken = std::move(forest.back());
      forest.pop_back();
      ASSERT_TRUE(forest[random() % forest.size()].merge(taken).ok());
    }
    ASSERT_EQ(bytes_of(forest[0]), expected) << "tree " << tree;
  }
}

}  // namespace
}  // namespace weir
