#include "common/sketch/index_table.h"

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "common/sketch/big_uint.h"

namespace weir {
namespace {

constexpr std::array<uint8_t, 8> kScales = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr std::array<int8_t, 4> kQuanta = {0, -3, -6, -9};

// 2^i < (v * 10^q)^N <= 2^(i+1), in integers: the definition, independent of the table's making.
class Oracle {
 public:
  Oracle(uint8_t scale, int8_t quantum)
      : n_(1U << scale), tens_(power(BigUint(10), n_ * static_cast<unsigned>(-quantum))) {}

  [[nodiscard]] bool holds(int32_t index, uint64_t v) const {
    const BigUint sample = power(BigUint(v), n_);
    return !less_equal(index, sample) && less_equal(index + 1, sample);
  }

 private:
  // sample <= 2^i * 10^(pN)
  [[nodiscard]] bool less_equal(int32_t i, const BigUint& sample) const {
    if (i >= 0) return sample <= tens_ << static_cast<size_t>(i);
    return sample << static_cast<size_t>(-i) <= tens_;
  }

  unsigned n_;
  BigUint tens_;
};

// The smallest v with index(v) >= i, by the table itself; the oracle then judges v and v - 1.
uint64_t first_at(const IndexTable& table, int32_t i) {
  uint64_t lo = 1;
  uint64_t hi = UINT64_MAX;
  while (lo < hi) {
    const uint64_t middle = lo + (hi - lo) / 2;
    if (table.index(middle) >= i) {
      hi = middle;
    } else {
      lo = middle + 1;
    }
  }
  return lo;
}

TEST(IndexTable, BoundariesAreExactAgainstBigIntegers) {
  std::mt19937_64 random(1);
  for (const uint8_t scale : kScales) {
    for (const int8_t quantum : kQuanta) {
      const IndexTable& table = index_table(scale, quantum);
      const Oracle oracle(scale, quantum);
      for (int probe = 0; probe < 60; ++probe) {
        const auto span = static_cast<uint64_t>(table.highest() - table.lowest());
        const auto i = table.lowest() + 1 + static_cast<int32_t>(random() % span);
        const uint64_t v = first_at(table, i);
        for (const uint64_t near : {v - 1, v, v + 1}) {
          if (near == 0) continue;
          EXPECT_TRUE(oracle.holds(table.index(near), near))
              << "scale " << int{scale} << " quantum " << int{quantum} << " v " << near;
        }
      }
    }
  }
}

TEST(IndexTable, RandomAndExtremeValuesLandInTheirBucket) {
  std::mt19937_64 random(2);
  for (const uint8_t scale : kScales) {
    for (const int8_t quantum : kQuanta) {
      const IndexTable& table = index_table(scale, quantum);
      const Oracle oracle(scale, quantum);
      std::vector<uint64_t> values = {1,          2,
                                      3,          (1ULL << 53) - 1,
                                      1ULL << 53, (1ULL << 53) + 1,
                                      1ULL << 63, UINT64_MAX - 1,
                                      UINT64_MAX};
      for (int i = 0; i < 40; ++i) values.push_back((random() >> (random() % 64)) | 1);
      for (const uint64_t v : values) {
        EXPECT_TRUE(oracle.holds(table.index(v), v))
            << int{scale} << " " << int{quantum} << " " << v;
      }
    }
  }
}

TEST(IndexTable, EveryOctaveOfScaleSixNanosecondsAgreesAtEveryBoundary) {
  const IndexTable& table = index_table(6, -9);
  const Oracle oracle(6, -9);
  for (int32_t i = 64; i < 64 + 64; ++i) {  // 2 s .. 4 s: one full octave of boundaries
    const uint64_t v = first_at(table, i);
    EXPECT_EQ(table.index(v), i);
    EXPECT_TRUE(oracle.holds(i, v));
    EXPECT_TRUE(oracle.holds(i - 1, v - 1));
  }
}

TEST(IndexTable, RangeIsTheDocumentedOne) {
  EXPECT_EQ(index_table(6, -9).lowest(), -1914);
  EXPECT_EQ(index_table(6, -9).highest(), 2182);
  EXPECT_EQ(index_table(6, 0).lowest(), -1);
  EXPECT_EQ(index_table(6, 0).highest(), 4095);
}

TEST(IndexTable, PowersOfTwoCloseTheirBucket) {
  const IndexTable& table = index_table(6, 0);
  EXPECT_EQ(table.index(1024), 10 * 64 - 1);  // x <= 2^10 belongs below
  EXPECT_EQ(table.index(1025), 10 * 64);
  EXPECT_DOUBLE_EQ(table.lower_edge(640), 1024.0);
}

TEST(IndexTable, OneSecondIsAnEdgeForNanosecondsToo) {
  const IndexTable& table = index_table(6, -9);
  EXPECT_EQ(table.index(1'000'000'000), -1);
  EXPECT_EQ(table.index(1'000'000'001), 0);
  EXPECT_DOUBLE_EQ(table.to_unit(1e9), 1.0);
}

TEST(IndexTable, SlotsAreSixteenBytesTwoPerBucketOfAnOctave) {
  EXPECT_EQ(index_table(5, 0).slots().size(), 64U);
  EXPECT_EQ(index_table(6, -9).slots().size(), 128U);
  EXPECT_EQ(index_table(7, -9).slots().size(), 256U);
}

TEST(IndexTable, OnlyTheDocumentedScalesAndQuantaExist) {
  for (int scale = 0; scale < 256; ++scale) {
    for (int quantum = -128; quantum < 128; ++quantum) {
      const bool expected =
          scale <= 7 && (quantum == 0 || quantum == -3 || quantum == -6 || quantum == -9);
      EXPECT_EQ(index_supported(static_cast<uint8_t>(scale), static_cast<int8_t>(quantum)),
                expected);
    }
  }
}

TEST(IndexTable, ThreadsShareOneTable) {
  const IndexTable* seen[2] = {};
  {
    std::jthread a([&] { seen[0] = &index_table(7, -6); });
    std::jthread b([&] { seen[1] = &index_table(7, -6); });
  }
  EXPECT_EQ(seen[0], seen[1]);
}

}  // namespace
}  // namespace weir
