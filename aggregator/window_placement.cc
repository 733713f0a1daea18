#include "aggregator/window_placement.h"

#include <algorithm>

namespace weir::aggregator {
namespace {

constexpr int64_t kFar = int64_t{1} << 40;  // seconds: no clock is there, and sums stay small

Window moved(const Window& window, int64_t offset_ns) {
  if (offset_ns >= -kClockOffNs && offset_ns <= kClockOffNs) return window;
  if (window.start_s < -kFar || window.start_s > kFar) return window;
  const int64_t width_s = window.width_s;
  const int64_t offset_s = offset_ns / 1'000'000'000;
  const int64_t half = offset_s < 0 ? -width_s / 2 : width_s / 2;
  return {window.start_s + (offset_s + half) / width_s * width_s, window.width_s};
}

bool fits(const Window& window, const Kept& kept) {
  return window.start_s >= kept.oldest_s && window.start_s <= kept.newest_s;
}

}  // namespace

Placement place(const Window& window, const ClockView& clocks, const Kept& kept) {
  const Window ours = moved(window, clocks.offset_ns);
  if (fits(ours, kept)) return {ours};
  if (fits(window, kept)) return {window};
  const bool ahead = std::max(ours.start_s, window.start_s) > kept.newest_s;
  if (!ahead) return {window, "window_old"};
  if (!clocks.known) return {window, "window_ahead"};
  return {window_at(clocks.now_s, window.width_s)};
}

Window place_always(int64_t start_s, uint32_t width_s, const ClockView& clocks, const Kept& kept) {
  const Window window = window_at(std::clamp(start_s, -kFar, kFar), width_s);
  const Placement placed = place(window, clocks, kept);
  if (placed.fault == nullptr) return placed.window;
  return window_at(std::clamp(window.start_s, kept.oldest_s, kept.newest_s), width_s);
}

}  // namespace weir::aggregator
