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

TEST(PackedCounts, RunOfNarrowGroupsHoldsTheSameCounts) {
  std::mt19937_64 random(5);
  for (int run = 0; run < 500; ++run) {
    Bytes widths;
    Bytes packed;
    std::vector<uint16_t> expected;
    uint64_t expected_sum = 0;
    for (size_t group = random() % 12; group > 0; --group) {
      const auto bits = static_cast<unsigned>(random() % 17);
      CountGroup counts{};
      for (auto& count : counts) {
        count = bits == 0 ? 0 : random() >> (64 - bits);
        expected.push_back(static_cast<uint16_t>(count));
        expected_sum += count;
      }
      const uint8_t width = packed_width(counts);
      widths.push_back(static_cast<std::byte>(width));
      pack_counts(counts, width, packed);
    }
    packed = Bytes(packed.begin(), packed.end());  // exact size: sanitizers see a read past it
    std::vector<uint16_t> narrow(expected.size());
    uint64_t sum = 0;
    EXPECT_TRUE(unpack_counts16(widths, packed, narrow.data(), sum));
    EXPECT_EQ(narrow, expected);
    EXPECT_EQ(sum, expected_sum);
  }
}

TEST(PackedCounts, WidthThatIsNotTheSmallestIsNoticed) {
  for (uint8_t width = 1; width <= 16; ++width) {
    CountGroup counts{};
    counts[7] = (uint64_t{1} << (width - 1)) - 1;  // one bit less than `width` needs
    Bytes packed;
    pack_counts(counts, width, packed);
    std::array<uint16_t, kGroupCounts> narrow{};
    uint64_t sum = 0;
    const Bytes widths = {static_cast<std::byte>(width)};
    EXPECT_FALSE(unpack_counts16(widths, packed, narrow.data(), sum));
  }
}

}  // namespace
}  // namespace weir
