#pragma once
// BlockKey: where a block lies in the store, as the 63-bit integer that SQLite sorts by:
// tier 2 | metric 16 | window 26 | shard 13 | part 6. One metric's time range is one key range.
//
// Plain values, any thread.

#include <cstdint>

#include "common/metric.h"

namespace weir::aggregator {

// Which windows of this aggregator a block holds.
enum class Grain : uint8_t { kFine = 0, kCoarse = 1 };

inline constexpr uint32_t kRowsPerShard = 256;
inline constexpr uint32_t kMaxMetrics = 1U << 16;
inline constexpr uint32_t kMaxWindows = 1U << 26;
inline constexpr uint32_t kMaxShards = 1U << 13;
inline constexpr uint32_t kMaxParts = 1U << 6;

struct BlockKey {
  Grain grain = Grain::kFine;
  uint32_t metric = 0;
  uint32_t window = 0;  // (start - origin) / width
  uint32_t shard = 0;   // row / 256
  uint32_t part = 0;

  [[nodiscard]] constexpr int64_t packed() const {
    return (int64_t{static_cast<uint8_t>(grain)} << 61) | (int64_t{metric} << 45) |
           (int64_t{window} << 19) | (int64_t{shard} << 6) | int64_t{part};
  }

  friend auto operator<=>(const BlockKey&, const BlockKey&) = default;
};

[[nodiscard]] constexpr BlockKey unpack_key(int64_t key) {
  const auto bits = static_cast<uint64_t>(key);
  return {.grain = ((bits >> 61) & 3) == 0 ? Grain::kFine : Grain::kCoarse,
          .metric = static_cast<uint32_t>((bits >> 45) & (kMaxMetrics - 1)),
          .window = static_cast<uint32_t>((bits >> 19) & (kMaxWindows - 1)),
          .shard = static_cast<uint32_t>((bits >> 6) & (kMaxShards - 1)),
          .part = static_cast<uint32_t>(bits & (kMaxParts - 1))};
}

// Window numbers of one store. 26 bits of minutes from 1970 last to 2097; shorter windows count
// from an origin near the day the store was made.
struct WindowNumbers {
  int64_t origin_s = 0;  // a multiple of both widths

  [[nodiscard]] constexpr bool fits(const Window& window) const {
    const int64_t offset = window.start_s - origin_s;
    return offset >= 0 && offset / window.width_s < int64_t{kMaxWindows};
  }

  // Out of range values are clamped, so any time range becomes a key range.
  [[nodiscard]] constexpr uint32_t number(int64_t start_s, uint32_t width_s) const {
    const int64_t offset = start_s - origin_s;
    if (offset <= 0) return 0;
    const int64_t index = offset / width_s;
    return index < int64_t{kMaxWindows} ? static_cast<uint32_t>(index) : kMaxWindows - 1;
  }

  [[nodiscard]] constexpr int64_t start_s(uint32_t number, uint32_t width_s) const {
    return origin_s + int64_t{number} * width_s;
  }
};

}  // namespace weir::aggregator
