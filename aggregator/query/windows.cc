#include "aggregator/query/windows.h"

#include <algorithm>

namespace weir::aggregator {
namespace {

int64_t width_ms(const Window& window) { return int64_t{window.width_s} * 1000; }

int64_t floor_to(int64_t value, int64_t step) {
  const int64_t rest = value % step;
  return value - (rest < 0 ? rest + step : rest);
}

}  // namespace

Tiling::Tiling(const std::vector<SelectedSeries>& series, uint32_t kept_s, int64_t now_s)
    : now_s_(now_s), kept_s_(kept_s) {
  for (const auto& one : series) {
    for (const auto& [window, value] : one.windows) {
      // Series share their windows, so most are the same as the ones just added.
      if (windows_.empty() || windows_.back() != window) windows_.push_back(window);
    }
    if (windows_.size() > 65'536) shrink();
  }
  shrink();
  for (const auto& window : windows_) {
    if (finest_s_ == 0 || window.width_s < finest_s_) finest_s_ = window.width_s;
    coarsest_s_ = std::max(coarsest_s_, window.width_s);
  }
}

void Tiling::shrink() {
  std::ranges::sort(windows_, [](const Window& a, const Window& b) {
    return a.end_s() != b.end_s() ? a.end_s() < b.end_s() : a.width_s < b.width_s;
  });
  windows_.erase(std::unique(windows_.begin(), windows_.end()), windows_.end());
}

bool Tiling::has_open() const { return !windows_.empty() && windows_.back().end_s() > now_s_; }

std::optional<Span> Tiling::span_at(int64_t at_ms, int64_t range_ms) const {
  int64_t reach_ms = std::max(range_ms, int64_t{kept_s_} * 1000);
  const int64_t furthest_ms = at_ms - std::max(reach_ms, int64_t{coarsest_s_} * 1000);
  const auto begin = std::ranges::partition_point(
      windows_, [&](const Window& w) { return w.end_s() * 1000 <= furthest_ms; });
  // Pass 1: are the windows of this time wider than the range? Those that merely lie near it do
  // not matter: where finer ones are kept, an idle minute is idle.
  Span span{.at_ms = at_ms, .now_s = now_s_};
  const int64_t asked_from_ms = at_ms - reach_ms;
  for (auto it = begin; it != windows_.end(); ++it) {
    if (it->end_s() * 1000 <= asked_from_ms || it->start_s * 1000 >= at_ms) continue;
    reach_ms = std::max(reach_ms, width_ms(*it));
  }
  span.widened = reach_ms > range_ms;
  span.after_ms = at_ms - reach_ms;
  // Pass 2: how far they reach. A window without a row is covered too: nothing happened in it.
  const Window* first = nullptr;
  const Window* last_closed = nullptr;
  const Window* open = nullptr;
  for (auto it = begin; it != windows_.end(); ++it) {
    if (!span.holds(*it)) continue;
    if (first == nullptr) first = &*it;
    span.widest_s = std::max(span.widest_s, it->width_s);
    (span.open(*it) ? open : last_closed) = &*it;
  }
  if (first == nullptr) return std::nullopt;
  const int64_t present_ms = std::min(at_ms, now_s_ * 1000);
  const int64_t from_ms = floor_to(span.after_ms, width_ms(*first));
  const int64_t to_ms = open != nullptr ? present_ms : floor_to(present_ms, width_ms(*last_closed));
  span.covered_ms = std::max<int64_t>(to_ms - from_ms, 1);
  return span;
}

}  // namespace weir::aggregator
