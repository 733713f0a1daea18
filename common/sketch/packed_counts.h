#pragma once
// Packed counts: groups of 16 unsigned counts, each in `width` bits, least significant bit first,
// so a group takes exactly 2 * width bytes and a group of zeros none.
//
// Pure. Promise: unpacking reads 2 * width bytes, not one more, for every width 0..64.

#include <array>
#include <cstdint>
#include <span>

#include "common/bytes.h"

namespace weir {

inline constexpr uint32_t kGroupCounts = 16;
inline constexpr uint8_t kMaxPackedWidth = 64;

// Groups are aligned: group g holds the indices from first_of(g) on. Floors below zero.
constexpr int32_t group_of(int32_t index) { return index >> 4; }

constexpr int32_t first_of(int32_t group) { return group * static_cast<int32_t>(kGroupCounts); }

using CountGroup = std::array<uint64_t, kGroupCounts>;

[[nodiscard]] uint8_t packed_width(const CountGroup& counts);  // bits of the largest
void pack_counts(const CountGroup& counts, uint8_t width, Bytes& out);
// A run of groups of narrow counts, 16 each: appends their widths and packed counts.
void pack_counts16(std::span<const uint16_t> counts, Bytes& widths, Bytes& packed);

// `in` holds at least 2 * width bytes; width <= kMaxPackedWidth.
void unpack_counts(ByteView in, uint8_t width, CountGroup& counts);

// What a run of groups takes, by its widths. At most kMaxRun of them.
inline constexpr size_t kMaxRun = 1024;

struct RunSize {
  size_t packed = 0;       // bytes
  uint8_t cell_bytes = 2;  // 2, 4 or 8: the narrowest that holds every count; 0: a width passes 64
};

[[nodiscard]] RunSize run_size(ByteView widths);

// A run of groups of widths <= 16 into narrow cells, 16 a group. `packed` starts with them; what
// lies behind them may be read too, never what lies behind it. Adds the counts to `sum`. False if
// some width is not the smallest. Without branches on the width; with AVX2 where the processor has
// it, twice as fast.
bool unpack_counts16(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum);
bool unpack_counts16_portable(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum);

}  // namespace weir
