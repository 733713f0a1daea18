#pragma once
// The evaluator's view of stored windows: which series match, and their values by window.
//
// Implemented by aggregator/store/reader (SQLite) and by fakes in tests. Thread: the query's own.
// Promise: one select sees one moment (a read transaction): every committed batch once, whether it
// is in a block or still in the inbox. Open windows are included, marked by their end.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/metric.h"
#include "common/result.h"
#include "common/value.h"

namespace weir::aggregator {

enum class MatchOp : uint8_t { kEqual, kNotEqual, kRegex, kNotRegex };

[[nodiscard]] std::string_view match_op_text(MatchOp op);  // "=", "!=", "=~", "!~"

struct Matcher {
  std::string label;
  MatchOp op = MatchOp::kEqual;
  std::string value;  // RE2, anchored at both ends, for the regex operators
};

// Which windows: those whose end is in (from_s, to_s], plus the open one (its end is after `now`)
// that began before to_s.
struct TimeRange {
  int64_t from_s = 0;
  int64_t to_s = 0;
};

// Which labels of a series the answer depends on, besides those its matchers name.
enum class LabelUse : uint8_t { kAll, kOnly, kAllBut };

// kLabels: only which series exist in the range matters; windows may be left empty (the series,
// labels and label-values calls). A source that returns values all the same is right too.
enum class SelectWant : uint8_t { kValues, kLabels };

struct SelectRequest {
  std::string metric;             // exact name; empty when only matchers on __name__ are given
  std::vector<Matcher> matchers;  // without __name__ equality
  TimeRange range;
  bool needs_all_labels = true;  // false: the caller adds series up; label_use says over what
  LabelUse label_use = LabelUse::kAll;
  std::vector<std::string> label_names;  // of kOnly and kAllBut
  SelectWant want = SelectWant::kValues;
  // Finest width wanted at the edges of the range; 0: the planner chooses. Otherwise windows wider
  // than this are welcome only where no finer ones are kept (a range query steps through them).
  uint32_t step_s = 0;
  // Also: how complete the windows of the range are, what was lost in them, and the rows beyond
  // limits that the matchers leave out although they may hold what was asked for.
  bool with_truth = false;
};

// False: windows that have dropped this label answer the request as well. Always true for gauges:
// their `last` is one host's value, so windows without the host cannot be added up.
[[nodiscard]] bool needs_label(const SelectRequest& request, Kind kind, std::string_view label);

struct WindowValue {
  Window window;
  Value value;
};

struct SelectedSeries {
  std::shared_ptr<const Metric> metric;  // shared by all series of a select: one copy per metric
  Labels labels;
  std::vector<WindowValue> windows;  // ascending, no overlaps, one entry per window
};

// Windows of sources (a host's minute), in the windows selected, of the hosts and regions that the
// matchers leave.
struct SourceWindows {
  uint64_t merged = 0;
  uint64_t expected = 0;  // never less; 0: nothing is known of them
};

// Events that were seen and not kept, in the windows selected, of the same hosts and regions.
struct Loss {
  std::string where;
  std::string reason;
  uint64_t events = 0;
};

// What the answer does not say by itself; becomes `infos` and `warnings`.
// The accounts of the last tier (store/accounts.h).
struct LedgerNote {
  uint64_t sources = 0;
  uint64_t unbalanced = 0;
  uint64_t imbalance = 0;
};

struct SelectNotes {
  std::vector<std::string> warnings;  // damage, missing labels, ranges not kept
  uint32_t finest_width_s = 60;       // of the windows used
  uint64_t damaged_blocks = 0;
  SourceWindows coverage;              // with_truth
  std::vector<Loss> losses;            // with_truth; ascending, none empty
  std::optional<LedgerNote> ledger{};  // with_truth, of the last tier
};

struct Selection {
  std::vector<SelectedSeries> series;
  std::vector<SelectedSeries> unnamed;  // with_truth; query/unnamed.h
  SelectNotes notes;
};

struct QueryLimits {
  size_t max_series = 100'000;
  size_t max_rows = 2'000'000;
  size_t max_bytes = size_t{256} << 20;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

class DataSource {
 public:
  virtual ~DataSource() = default;
  // kLimit: over a limit (422). kUnavailable: deadline (503).
  virtual Result<Selection> select(const SelectRequest& request, const QueryLimits& limits) = 0;
  // Distinct label names (label empty) or values of one label, sorted. The values of `__name__`
  // are the metric names.
  virtual Result<std::vector<std::string>> label_values(const std::string& label) = 0;
  // Widths this store keeps, finest first, for planning and status.
  [[nodiscard]] virtual std::vector<uint32_t> widths() const = 0;
};

}  // namespace weir::aggregator
