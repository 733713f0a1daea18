#include "common/hash.h"

#include <bit>
#include <set>
#include <string>
#include <utility>

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
  for (const size_t size : {1U, 7U, 8U, 9U, 16U, 17U, 32U, 33U, 64U, 65U, 100U}) {
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

// What anybody can compute must not tell which keys meet: whatever the seed, the same bytes in
// another place of the text are another key.
TEST(Hash64, BlocksThatChangePlacesChangeTheHash) {
  std::string text;
  for (size_t block = 0; block < 16; ++block)
    text += std::string(8, static_cast<char>('a' + block));
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::set<uint64_t> seen{hash64(as_bytes(text), seed)};
    size_t texts = 1;
    for (const size_t size : {8U, 16U, 32U}) {
      for (size_t a = 0; a < text.size(); a += size) {
        for (size_t b = a + size; b < text.size(); b += size) {
          std::string swapped = text;
          swapped.replace(a, size, text, b, size).replace(b, size, text, a, size);
          seen.insert(hash64(as_bytes(swapped), seed));
          ++texts;
        }
      }
    }
    EXPECT_EQ(seen.size(), texts) << seed;
  }
}

// Sketches store fixed-seed values: these never change. Computed by a second implementation.
TEST(Hash64, FixedSeedValuesAreTheSameForEver) {
  std::string text;
  for (size_t i = 0; i < 200; ++i) text += static_cast<char>((i * 37 + 11) & 255);
  constexpr std::pair<size_t, uint64_t> kValues[] = {
      {0, 0xd726fcb012741621},  {1, 0xeceed524c4b65a4c},  {3, 0x1dd81719011173a8},
      {4, 0x217791763907c2e1},  {7, 0xdf6e394de492eab6},  {8, 0x904532e40c7cb639},
      {16, 0xe57a699c96ca9355}, {17, 0x33d6cb4621f48e29}, {32, 0xef06941eeda7ee38},
      {33, 0x7472bfac9c593bce}, {64, 0xbad2cd745c184f30}, {65, 0xfc9498069f0f41cc},
      {200, 0x316a39fc3f533b69}};
  for (const auto& [size, value] : kValues) {
    EXPECT_EQ(hash64(as_bytes(text).first(size), 0x5eed), value) << size;
  }
  EXPECT_EQ(hash64(12345, 0x5eed), 0xc0171e27617ec7e2);
}

// std::hash is MurmurHash64A with a seed everybody knows: blocks that multiply to chosen words make
// any number of texts with one hash. Here it is enough that our hash is the seeded one.
TEST(TextHash, IsSeededAndTakesViews) {
  const std::string text = "orders_total|env:prod";
  EXPECT_EQ(TextHash{}(text), hash64(as_bytes(text), process_seed()));
  EXPECT_NE(TextHash{}(text), std::hash<std::string_view>{}(text));
}

}  // namespace weir
