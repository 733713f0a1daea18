#include "common/sketch/cell_sums.h"

#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace weir {
namespace {

template <class To, class From>
void expect_sums(std::mt19937_64& random) {
  for (int round = 0; round < 200; ++round) {
    const size_t cells = 16 * (random() % 20);
    std::vector<To> to(cells);
    std::vector<From> from(cells);
    for (auto& each : to) each = static_cast<To>(random() >> 1) / 2;
    for (auto& each : from) each = static_cast<From>(random() >> 1) / 2;
    std::vector<To> expected = to;
    for (size_t i = 0; i < cells; ++i) expected[i] = static_cast<To>(expected[i] + from[i]);
    std::vector<To> sums = to;
    add_cells(sums.data(), std::span<const From>(from));
    EXPECT_EQ(sums, expected);
    if constexpr (sizeof(To) < 8) {
      sums = to;
      EXPECT_TRUE(try_add_cells(sums.data(), std::span<const From>(from)));
      EXPECT_EQ(sums, expected);
      if (cells == 0) continue;
      const size_t full = random() % cells;  // one passes by one
      from[full] = std::numeric_limits<From>::max();
      to[full] = static_cast<To>(std::numeric_limits<To>::max() - from[full] + 1);
      sums = to;
      EXPECT_FALSE(try_add_cells(sums.data(), std::span<const From>(from)));
      EXPECT_EQ(sums, to);
      --to[full];
      EXPECT_TRUE(try_add_cells(to.data(), std::span<const From>(from)));
      EXPECT_EQ(to[full], std::numeric_limits<To>::max());
    }
  }
}

TEST(CellSums, EveryCellIsTheSumAndOneThatPassesItsWidthChangesNothing) {
  std::mt19937_64 random(9);
  expect_sums<uint16_t, uint16_t>(random);
  expect_sums<uint32_t, uint16_t>(random);
  expect_sums<uint32_t, uint32_t>(random);
  expect_sums<uint64_t, uint16_t>(random);
  expect_sums<uint64_t, uint32_t>(random);
  expect_sums<uint64_t, uint64_t>(random);
}

}  // namespace
}  // namespace weir
