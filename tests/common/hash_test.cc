#include "common/hash.h"

#include <bit>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace weir {

TEST(Hash64, TellsLengthsZerosAndSeedsApart) {
  std::set<uint64_t> seen;
  for (size_t size = 0; size < 100; ++size) {
    seen.insert(hash64(as_bytes(std::string(size, '\0')), 1));
    seen.insert(hash64(as_bytes(std::string(size, '\0')), 2));
    seen.insert(hash64(as_bytes(std::string(size, 'x')), 1) + (size == 0 ? 1 : 0));
  }
  EXPECT_EQ(seen.size(), 300U);
}

TEST(Hash64, EveryInputBitMovesAboutHalfOfTheOutput) {
  for (const size_t size : {1U, 7U, 8U, 9U, 16U, 17U, 33U}) {
    const std::string text(size, 'a');
    const uint64_t base = hash64(as_bytes(text), 42);
    int moved = 0;
    for (size_t bit = 0; bit < 8 * size; ++bit) {
      std::string flipped = text;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      const int changed = std::popcount(base ^ hash64(as_bytes(flipped), 42));
      EXPECT_GT(changed, 8) << size << " " << bit;
      moved += changed;
    }
    const int mean = moved / static_cast<int>(8 * size);
    EXPECT_GT(mean, 26);
    EXPECT_LT(mean, 38);
  }
}

TEST(Hash64, DenseIntegersSpreadOverTheLowBits) {
  // Fixed seeds: a property of the function, not of one run's luck.
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::set<uint64_t> slots;
    const uint64_t drawn = hash64(seed, 0x5eed);
    for (uint64_t i = 0; i < 4096; ++i) slots.insert(hash64(i, drawn) & 4095);
    EXPECT_GT(slots.size(), 2300U) << drawn;  // 63 % of 4096 expected for random: 2,589
  }
}

// std::hash is MurmurHash64A with a seed everybody knows: blocks that multiply to chosen words make
// any number of texts with one hash. Here it is enough that our hash is the seeded one.
TEST(TextHash, IsSeededAndTakesViews) {
  const std::string text = "orders_total|env:prod";
  EXPECT_EQ(TextHash{}(text), hash64(as_bytes(text), process_seed()));
  EXPECT_NE(TextHash{}(text), std::hash<std::string_view>{}(text));
}

}  // namespace weir
