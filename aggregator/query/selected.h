#pragma once
// The windows of one selector for a whole query: read once, then asked at each step.
//
// Thread: the query's own. Promise: one select (two when the range is finer than what is kept);
// every answer names its windows in the notes. Cost per step: a binary search and the merges of
// the windows in range, per series.

#include <memory>
#include <vector>

#include "aggregator/query/ast.h"
#include "aggregator/query/evaluator.h"
#include "aggregator/query/value.h"
#include "aggregator/query/windows.h"

namespace weir::aggregator {

// Labels the rest of the query needs of a selector, besides its matchers.
struct LabelNeed {
  LabelUse use = LabelUse::kAll;
  std::vector<std::string> names;
};

// Asked now and then in loops; kUnavailable once it is time to stop.
class Interrupt {
 public:
  explicit Interrupt(const std::function<bool()>& stop) : stop_(stop) {}

  Status tick();

 private:
  const std::function<bool()>& stop_;
  uint32_t ticks_ = 0;
};

class SelectedWindows {
 public:
  static Result<SelectedWindows> load(const SelectorNode& node, const LabelNeed& need,
                                      DataSource& source, const EvalOptions& options,
                                      LabelSets& sets, QueryNotes& notes);

  // The selector alone: gauges their last value, everything else the delta of its last window.
  Result<Vector> instant_at(int64_t time_ms, Interrupt& interrupt, QueryNotes& notes) const;
  // rate or increase over the selector's range.
  Result<Vector> delta_at(FunctionId function, int64_t time_ms, Interrupt& interrupt,
                          QueryNotes& notes) const;
  // Every window of the range, as points at the windows' ends.
  [[nodiscard]] std::vector<ResultSeries> points_at(int64_t time_ms, const LabelSets& sets) const;

 private:
  struct Series {
    std::shared_ptr<const Metric> metric;  // shared with the Selection's other series
    LabelSetId named = 0;
    LabelSetId nameless = 0;
    std::vector<WindowValue> windows;
  };

  SelectorNode node_;
  std::vector<Series> series_;
  Tiling tiling_;
};

// "5m", "90s", "1500ms".
[[nodiscard]] std::string duration_text(int64_t ms);

}  // namespace weir::aggregator
