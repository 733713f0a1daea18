#pragma once
// Which stored windows answer a time range: coarse ones wherever a whole coarse window lies in it,
// fine ones at its edges, and coarse ones again where the fine ones are gone.
//
// Pure. Promise: spans ascend and never overlap, so every delta is read once; any tiling gives the
// same merged bytes, because coarse windows are the merge of their fine ones.

#include <cstdint>
#include <vector>

#include "aggregator/query/data_source.h"
#include "aggregator/store/block_key.h"

namespace weir::aggregator {

struct PlanInput {
  uint32_t in_s = 60;
  uint32_t out_s = 300;
  TimeRange range;
  int64_t now_s = 0;
  int64_t fine_from_s = 0;    // fine windows that start before this are deleted; multiple of out_s
  int64_t coarse_from_s = 0;  // the same for coarse windows
  bool prefer_coarse = true;  // false: the caller needs the dropped labels, or a finer step
};

// Windows of one grain with from_s <= start < to_s.
struct WindowSpan {
  Grain grain = Grain::kFine;
  int64_t from_s = 0;
  int64_t to_s = 0;
  friend bool operator==(const WindowSpan&, const WindowSpan&) = default;
};

struct Plan {
  std::vector<WindowSpan> spans;
  bool fine_missing = false;  // some fine windows were wanted and are no longer kept
};

[[nodiscard]] Plan plan_windows(const PlanInput& input);

}  // namespace weir::aggregator
