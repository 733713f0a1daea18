#include "common/sketch/packed_counts.h"

#include <random>

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(PackedCounts, EveryWidthComesBackFromExactlyTwiceItsBytes) {
  std::mt19937_64 random(4);
  for (unsigned width = 0; width <= kMaxPackedWidth; ++width) {
    CountGroup counts{};
    for (auto& count : counts) count = width == 0 ? 0 : random() >> (64 - width);
    if (width > 0) counts[random() % kGroupCounts] |= uint64_t{1} << (width - 1);
    ASSERT_EQ(packed_width(counts), width);
    Bytes out;
    pack_counts(counts, static_cast<uint8_t>(width), out);
    ASSERT_EQ(out.size(), 2 * width);
    const Bytes exact(out.begin(), out.end());  // sanitizers see a read past this end
    CountGroup back{};
    unpack_counts(exact, static_cast<uint8_t>(width), back);
    EXPECT_EQ(back, counts) << width;
  }
}

TEST(PackedCounts, NarrowCellsGetTheSameCounts) {
  std::mt19937_64 random(5);
  for (uint8_t width = 0; width <= 16; ++width) {
    CountGroup counts{};
    for (auto& count : counts) count = width == 0 ? 0 : random() >> (64 - width);
    Bytes out;
    pack_counts(counts, width, out);
    for (const size_t spare : {size_t{0}, size_t{8}, size_t{64}}) {
      Bytes input = out;
      input.resize(out.size() + spare, std::byte{0xff});
      std::array<uint16_t, kGroupCounts> narrow{};
      uint64_t all = unpack_counts16(input, width, narrow.data());
      for (size_t i = 0; i < kGroupCounts; ++i) {
        EXPECT_EQ(narrow[i], counts[i]) << int{width};
        all |= counts[i];
      }
      EXPECT_EQ(all, unpack_counts16(input, width, narrow.data()));
    }
  }
}

}  // namespace
}  // namespace weir
