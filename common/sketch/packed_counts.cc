#include "common/sketch/packed_counts.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace weir {

uint8_t packed_width(const CountGroup& counts) {
  uint64_t all = 0;
  for (const uint64_t count : counts) all |= count;
  return static_cast<uint8_t>(std::bit_width(all));
}

void pack_counts(const CountGroup& counts, uint8_t width, Bytes& out) {
  UInt128 pending = 0;
  unsigned bits = 0;
  for (const uint64_t count : counts) {
    pending |= static_cast<UInt128>(count) << bits;
    for (bits += width; bits >= 8; bits -= 8) {
      out.push_back(static_cast<std::byte>(static_cast<uint8_t>(pending)));
      pending >>= 8;
    }
  }
  WEIR_CHECK(bits == 0 && pending == 0);  // 16 counts end on a byte; a set bit here was too wide
}

void unpack_counts(ByteView in, uint8_t width, CountGroup& counts) {
  WEIR_CHECK(width <= kMaxPackedWidth && in.size() >= size_t{2} * width);
  const uint64_t mask = width == 64 ? UINT64_MAX : (uint64_t{1} << width) - 1;
  UInt128 pending = 0;
  unsigned bits = 0;
  size_t next = 0;
  for (uint64_t& count : counts) {
    for (; bits < width; bits += 8) {  // at most 63 + 8 bits are ever pending
      pending |= static_cast<UInt128>(static_cast<uint8_t>(in[next++])) << bits;
    }
    count = static_cast<uint64_t>(pending) & mask;
    pending >>= width;
    bits -= width;
  }
}

bool unpack_counts16(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum) {
  constexpr size_t kReach = 32 + 8;  // the widest group, and what an 8-byte load may pass it by
  constexpr uint64_t kEven = 0x0000ffff0000ffff;
  WEIR_CHECK(widths.size() <= 8192);
  std::array<std::byte, 2 * kReach> tail{};
  const std::byte* from = packed.data();
  size_t left = packed.size();
  bool in_tail = false;
  uint64_t sums = 0;  // two 32-bit lanes, each 8 counts a group
  unsigned wrong = 0;
  for (const std::byte raw : widths) {
    const auto width = static_cast<unsigned>(raw);
    WEIR_CHECK(width <= 16 && left >= size_t{2} * width);
    if (left < kReach && !in_tail) {  // once: the rest moves to where loads may pass its end
      std::copy_n(from, left, tail.begin());
      from = tail.data();
      in_tail = true;
    }
    const uint64_t low = (uint64_t{1} << width) - 1;
    const uint64_t pair = low << width | low;
    const uint64_t lanes = low << 32 | low;
    uint64_t all = 0;
    // Four counts start at bit 4 * width * quarter, half a byte in at most: 64 bits hold them. They
    // are spread from `width` to 16 bits by halves: first the pairs, then the counts.
    const auto unpack_quarter = [&](unsigned quarter) __attribute__((always_inline)) {
      const unsigned bit = 4 * width * quarter;
      uint64_t word = 0;
      std::memcpy(&word, from + bit / 8, sizeof word);
      word >>= bit % 8;
      const uint64_t pairs = (word & pair) | ((word >> (2 * width)) & pair) << 32;
      const uint64_t spread = (pairs & lanes) | ((pairs << (16 - width)) & lanes << 16);
      std::memcpy(counts + 4 * size_t{quarter}, &spread, sizeof spread);
      all |= spread;
      sums += (spread & kEven) + ((spread >> 16) & kEven);
    };
    unpack_quarter(0);
    unpack_quarter(1);
    unpack_quarter(2);
    unpack_quarter(3);
    all |= all >> 32;
    all |= all >> 16;
    wrong |= static_cast<unsigned>(std::bit_width(static_cast<uint16_t>(all))) ^ width;
    from += size_t{2} * width;
    left -= size_t{2} * width;
    counts += kGroupCounts;
  }
  WEIR_CHECK(left == 0);
  sum += (sums & UINT32_MAX) + (sums >> 32);
  return wrong == 0;
}

}  // namespace weir
