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

  // Unnamed events exist that may be of series selected and are in none of them.
  [[nodiscard]] bool leaves_out_unnamed() const { return !left_out_.empty() || unattributed_; }

  // Unnamed events of a kind whose samples carry no upper bound were selected.
  [[nodiscard]] bool has_unnamed_sketches() const { return has_unnamed_sketches_; }

 private:
  struct Series {
    std::shared_ptr<const Metric> metric;  // shared with the Selection's other series
    LabelSetId named = 0;
    LabelSetId nameless = 0;
    std::vector<WindowValue> windows;
    std::vector<uint32_t> unnamed{};  // rows of unnamed_ that may be of this series, or are it
  };

  // A row of unnamed events: one of series_, or one that the matchers leave out.
  struct UnnamedRow {
    bool selected = false;
    size_t at = 0;    // in series_ or left_out_
    uint32_t id = 0;  // in the query
  };

  void find_unnamed(const LabelSets& sets, QueryNotes& notes);
  // What `holds` takes of the rows that may be of series_[at].
  template <class Holds>
  [[nodiscard]] Unnamed unnamed_of(size_t at, const Holds& holds) const;

  SelectorNode node_;
  std::vector<Series> series_;
  std::vector<SelectedSeries> left_out_;
  std::vector<UnnamedRow> unnamed_;
  bool unattributed_ = false;  // too many to say which series they may be of
  bool has_unnamed_sketches_ = false;
  Tiling tiling_;
};

// "5m", "90s", "1500ms".
[[nodiscard]] std::string duration_text(int64_t ms);

}  // namespace weir::aggregator
