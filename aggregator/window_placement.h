#pragma once
// Which window a batch counts in, where neither its sender's clock nor ours can be trusted.
//
// Pure functions, any thread. Promise: nothing waits longer than until both clocks are known to
// each other, and data is refused for good only when it is too old by both. Windows move by whole
// widths.

#include <cstdint>

#include "common/metric.h"

namespace weir::aggregator {

// Beyond it a clock is wrong, and windows are moved.
inline constexpr int64_t kClockOffNs = 30'000'000'000;

// What is known while a batch is looked at.
struct ClockView {
  int64_t now_s = 0;      // ours
  int64_t offset_ns = 0;  // ours minus its sender's; 0: none, or not known
  bool known = false;     // neither was set since the offset was measured
};

struct Kept {
  int64_t oldest_s = 0;  // windows that start before are too old
  int64_t newest_s = 0;  // and after, not possible yet
};

struct Placement {
  Window window;
  const char* fault = nullptr;  // window_old, window_ahead: it has none
};

// Of data: in its own window, in our time if that differs; where that cannot be, as it was sent,
// for it may be from before its sender's clock was set. What is ahead of both clocks was stamped by
// one that was wrong: it counts now, or, while the clocks are not known, waits.
[[nodiscard]] Placement place(const Window& window, const ClockView& clocks, const Kept& kept);

// The same of what is taken however wrong its window is: in the nearest one that is kept.
[[nodiscard]] Window place_always(int64_t start_s, uint32_t width_s, const ClockView& clocks,
                                  const Kept& kept);

}  // namespace weir::aggregator
