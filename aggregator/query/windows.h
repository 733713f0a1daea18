#pragma once
// Which stored windows answer a selector at one moment, and how long they are together.
//
// Pure. A Tiling is made once per select; span_at() is asked once per step. All times are
// milliseconds of Unix time, except where named _s.

#include <cstdint>
#include <optional>
#include <vector>

#include "aggregator/query/data_source.h"

namespace weir::aggregator {

// The windows that count at one moment: ends in (after_ms, at_ms], and the open one.
struct Span {
  int64_t after_ms = 0;
  int64_t at_ms = 0;
  int64_t now_s = 0;
  int64_t covered_ms = 0;  // length of the windows, the open one as far as it has come
  uint32_t widest_s = 0;   // width of the widest of them
  bool widened = false;    // the range was shorter than the windows kept, so it became one window

  [[nodiscard]] bool open(const Window& window) const {
    return window.end_s() > now_s && window.start_s * 1000 < at_ms &&
           window.end_s() * 1000 > after_ms;
  }

  [[nodiscard]] bool closed(const Window& window) const {
    return window.end_s() <= now_s && window.end_s() * 1000 <= at_ms &&
           window.end_s() * 1000 > after_ms;
  }

  [[nodiscard]] bool holds(const Window& window) const { return open(window) || closed(window); }
};

class Tiling {
 public:
  Tiling() = default;
  // `kept_s`: the finest width the source keeps; 0 when unknown.
  Tiling(const std::vector<SelectedSeries>& series, uint32_t kept_s, int64_t now_s);

  // Empty when no window counts.
  [[nodiscard]] std::optional<Span> span_at(int64_t at_ms, int64_t range_ms) const;

  [[nodiscard]] bool empty() const { return windows_.empty(); }

  [[nodiscard]] uint32_t finest_s() const { return finest_s_; }

  [[nodiscard]] uint32_t coarsest_s() const { return coarsest_s_; }

  [[nodiscard]] bool has_open() const;

 private:
  void shrink();                 // sorts, drops repeats
  std::vector<Window> windows_;  // distinct, by end
  int64_t now_s_ = 0;
  uint32_t kept_s_ = 0;
  uint32_t finest_s_ = 0;
  uint32_t coarsest_s_ = 0;
};

}  // namespace weir::aggregator
