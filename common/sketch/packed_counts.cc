#include "common/sketch/packed_counts.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/check.h"

namespace weir {

namespace {

// Four counts of W <= 16 bits start at bit 4W*k: on a byte, or for odd W and odd k half a byte in.
// Either way they end within kBytes, so no load leaves the group. Offsets are constants once W is,
// so this unrolls into loads, shifts and masks.
template <unsigned W>
uint16_t unpack16(const std::byte* in, uint16_t* counts) {
  uint16_t all = 0;
  for (unsigned quarter = 0; quarter < 4; ++quarter) {
    const unsigned bit = 4 * W * quarter;
    constexpr unsigned kBytes = (4 * W + 7) / 8;
    uint64_t word = 0;
    std::memcpy(&word, in + bit / 8, kBytes);
    word >>= bit % 8;
    for (unsigned i = 0; i < 4; ++i) {
      const auto count = static_cast<uint16_t>((word >> (i * W)) & ((1U << W) - 1));
      counts[4 * quarter + i] = count;
      all |= count;
    }
  }
  return all;
}

using Unpack16 = uint16_t (*)(const std::byte*, uint16_t*);

template <unsigned... W>
constexpr auto unpack16_table(std::integer_sequence<unsigned, W...>) {
  return std::array<Unpack16, sizeof...(W)>{&unpack16<W + 1>...};
}

}  // namespace

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

uint16_t unpack_counts16(ByteView in, uint8_t width, uint16_t* counts) {
  static constexpr auto kTable = unpack16_table(std::make_integer_sequence<unsigned, 16>());
  WEIR_CHECK(width <= kTable.size() && in.size() >= size_t{2} * width);
  if (width == 0) {
    std::fill_n(counts, kGroupCounts, uint16_t{0});
    return 0;
  }
  return kTable[width - 1U](in.data(), counts);
}

}  // namespace weir
