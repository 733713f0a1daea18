#pragma once
// Rollup: open windows of one width, each a map from series to its delta. Pure window algebra:
// a window is a key, everything in it is a delta, taking it out in parts or at once is the same.
//
// Owner: the edge loop (60 s), a tier's fold (fine and coarse). One thread. Promise: no sample is
// lost or counted twice between add and take; order of arrival never matters.
// Cost: one hash lookup per add; memory is that of the values.

#include <cstdint>
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

  // The open delta of `series` in the window that contains unix_s; created empty by kind.
  Value& at(SeriesId series, const Metric& metric, int64_t unix_s);
  Status merge(SeriesId series, int64_t unix_s, const Value& value);

  // Takes what a window holds now; the window stays open for more. Ordered by series id.
  std::vector<Delta> take(int64_t window_start_s);
  [[nodiscard]] std::vector<int64_t> open_windows() const;  // starts, ascending
  [[nodiscard]] size_t memory_bytes() const;
  [[nodiscard]] uint32_t width_s() const;
};

}  // namespace weir
