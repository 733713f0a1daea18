#pragma once
// Rollup: open windows of one width, each a map from series to its delta. Pure window algebra:
// a window is a key, everything in it is a delta, taking it out in parts or at once is the same.
//
// Owner: the edge loop (60 s), a tier's fold (fine and coarse). One thread. Promise: no sample is
// lost or counted twice between add and take; order of arrival never matters.
// Cost: one array access per add (series ids are dense; the last window is at hand); memory is that
// of the values, and 4 B per series and window. Bounded by the series table and by the windows its
// owner lets in.

#include <cstdint>
#include <map>
#include <vector>

#include "common/metric.h"
#include "common/result.h"
#include "common/series.h"
#include "common/value.h"

namespace weir {

struct Delta {
  SeriesId series = 0;
  Value value;
};

class Rollup {
 public:
  explicit Rollup(uint32_t width_s);
  Rollup(const Rollup&) = delete;  // holds a pointer into itself
  Rollup& operator=(const Rollup&) = delete;

  // The open delta of `series` in the window that contains unix_s; created empty by kind, and if it
  // is a distribution of this scale. The reference holds until the next call.
  Value& at(SeriesId series, const Metric& metric, int64_t unix_s, uint8_t scale = kDefaultScale);
  // On failure (weir::merge) nothing is changed.
  Status merge(SeriesId series, int64_t unix_s, const Value& value);

  // Moves all that is open of series `from` into `into`, of the same metric: afterwards nothing is
  // open under `from`, and its id may name another series. On failure (weir::merge) nothing is
  // changed.
  Status fold(SeriesId from, SeriesId into);
  // Drops all that is open of a series, and says how much that was (weir::mass), so that it can be
  // counted.
  uint64_t forget(SeriesId series);

  // Takes what a window holds now; the window stays open for more. Ordered by series id. Deltas
  // that were opened but hold no sample are left out; a counter at zero is a statement and stays.
  std::vector<Delta> take(int64_t window_start_s);
  [[nodiscard]] std::vector<int64_t> open_windows() const;  // starts, ascending
  [[nodiscard]] size_t memory_bytes() const;                // reads each open value's header

  [[nodiscard]] uint32_t width_s() const { return width_s_; }

 private:
  struct Open {
    std::vector<uint32_t> index;  // by series id: position in deltas + 1, 0 = none
    std::vector<Delta> deltas;    // in order of arrival
  };

  // The position + 1 of `series` in a window: 0 and to be filled if it is new.
  static uint32_t& place(Open& window, SeriesId series) {
    if (series >= window.index.size()) [[unlikely]]
      grow(window, series);
    return window.index[series];
  }

  Open& window(int64_t unix_s) {
    const auto into_last = static_cast<uint64_t>(unix_s) - static_cast<uint64_t>(last_start_s_);
    if (last_ != nullptr && into_last < width_s_) [[likely]]
      return *last_;
    return other_window(unix_s);
  }

  static void grow(Open& window, SeriesId series);
  static Value* find(Open& window, SeriesId series);  // null: nothing open
  static void drop(Open& window, SeriesId series);
  Open& other_window(int64_t unix_s);  // and makes it the last one

  uint32_t width_s_;
  std::map<int64_t, Open> windows_;
  Open* last_ = nullptr;  // the window of the last call; null: it was taken
  int64_t last_start_s_ = 0;
};

}  // namespace weir
