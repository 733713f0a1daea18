#include "common/count_min.h"

#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace weir {

TEST(CountMin, AnEstimateIsNeverBelowTheCount) {
  const auto sketch = std::make_unique<CountMin>();
  std::mt19937_64 random(3);
  std::vector<std::pair<uint64_t, uint32_t>> keys;
  for (int i = 0; i < 20'000; ++i) keys.emplace_back(random(), 0);
  for (int i = 0; i < 60'000; ++i) {
    auto& [hash, count] = keys[random() % keys.size()];
    const uint64_t n = random() % 3;
    count += static_cast<uint32_t>(n);
    EXPECT_GE(sketch->add(hash, n), count);
  }
  for (const auto& [hash, count] : keys) EXPECT_GE(sketch->estimate(hash), count);
  EXPECT_GT(sketch->noise(), 0U);
}

TEST(CountMin, HalvingForgets) {
  const auto sketch = std::make_unique<CountMin>();
  EXPECT_EQ(sketch->add(5, 9), 9U);
  sketch->halve();
  EXPECT_EQ(sketch->estimate(5), 4U);
  EXPECT_EQ(sketch->add(5, 0), 4U);
}

TEST(CountMin, CellsSaturate) {
  const auto sketch = std::make_unique<CountMin>();
  EXPECT_EQ(sketch->add(7, 65'534), 65'534U);
  EXPECT_EQ(sketch->add(7, UINT64_MAX), CountMin::kSaturated);
  EXPECT_EQ(sketch->add(7, 1), CountMin::kSaturated);
}

}  // namespace weir
