#pragma once
// Packed counts: groups of 16 unsigned counts, each in `width` bits, least significant bit first,
// so a group takes exactly 2 * width bytes and a group of zeros none.
//
// Pure. Promise: unpacking reads 2 * width bytes, not one more, for every width 0..64.

#include <array>
#include <cstdint>

#include "common/bytes.h"

namespace weir {

inline constexpr uint32_t kGroupCounts = 16;
inline constexpr uint8_t kMaxPackedWidth = 64;

using CountGroup = std::array<uint64_t, kGroupCounts>;

[[nodiscard]] uint8_t packed_width(const CountGroup& counts);  // bits of the largest
void pack_counts(const CountGroup& counts, uint8_t width, Bytes& out);

// `in` holds at least 2 * width bytes; width <= kMaxPackedWidth.
void unpack_counts(ByteView in, uint8_t width, CountGroup& counts);
// The same into narrow cells; width <= 16. Returns the bitwise or of the counts.
uint16_t unpack_counts16(ByteView in, uint8_t width, uint16_t* counts);

}  // namespace weir
