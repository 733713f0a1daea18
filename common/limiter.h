#pragma once
// Limiter: which label sets get a series of their own. Pure: it knows rows by their owner's
// numbers, holds no values, reads no clock. Edge and tiers use the same.
//
// The checks, in this order, each with a counter: labels (count) -> label texts (length) -> values
// per label -> label sets per metric -> series and bytes of the whole table. Excess goes to the
// metric's overflow row, and a metric that finds no place to "__other__" of its kind and unit, so
// totals stay exact. Places are earned by frequency: a full pool counts those it turned away in a
// count-min sketch, and one seen at least twice, and more often than the lightest of eight sampled
// rows, takes that row's place (the owner folds the victim into its overflow row).
//
// How an owner uses it (daemon/recorder.cc):
//   1. the label set as received is a row it knows            -> hit(row)
//   2. its metric is new     -> admit_metric(): else "__other__"; then add_metric() with a number
//   3. fit(): else the overflow row. A rewritten set the owner knows -> hit(row), and the raw form
//      may be remembered for that row if Fitted::stable
//   4. admit(): else the overflow row. A victim is evicted first, then add(row, ...) and
//      hit(row)
// A row number is the owner's, small and dense; numbers may be used again after remove().
// remove() is for rows the owner forgets of itself; victims are removed already. A metric that has
// neither a row nor an overflow row left is the owner's to remove_metric(), but for the newcomer's;
// its last victims have no overflow row to go to, and go to "__other__". After close() and shed():
// first all victims, then the metrics.
//
// Owner: one, one thread. Cost: hit() one array access; fit() and admit() one hash per label text.
// Bounded: ~100 bytes per row and 60 per label value; 64 KiB per full metric up to kMaxSketches,
// beyond which full metrics share the table's.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "common/count_min.h"
#include "common/label_fit.h"
#include "common/label_values.h"
#include "common/metric.h"
#include "common/metric_rules.h"

namespace weir {

inline constexpr const char* kOverflowLabel = "otel.metric.overflow";
inline constexpr const char* kOther = "__other__";  // as a label's value, and as a metric

struct Limits {
  LabelLimits labels{};
  size_t values_per_label = 100;
  // Labels that say whose a row is: they number the fleet, and may have any number of values.
  std::vector<std::string> whose_labels{"host", "region"};
  size_t series_per_metric = 2'000;
  size_t series = 10'000;   // of the table; Weir's own metrics have kOwnSeries beside them
  size_t metrics = 50'000;  // names in the table
  // Counts what the limits above would do to single metrics, and does nothing. The limits of the
  // whole table hold all the same.
  bool dry_run = false;
  MetricRules rules{};

  friend bool operator==(const Limits&, const Limits&) = default;
};

// Decisions, not the weight of the events.
struct LimitCounts {
  uint64_t many_labels = 0;    // label sets with too many labels
  uint64_t cut_texts = 0;      // names and values that were shortened
  uint64_t other_values = 0;   // values that became "__other__"
  uint64_t metric_full = 0;    // label sets sent to overflow by their metric's limit
  uint64_t table_full = 0;     // and by that of the table
  uint64_t other_metrics = 0;  // new metrics sent to "__other__"
};

class Limiter {
 public:
  using Row = uint32_t;
  using MetricNumber = uint32_t;
  static constexpr size_t kMaxSketches = 64;
  static constexpr size_t kOwnSeries = 2'000;  // rows of weir_* metrics: no victims, bounded

  explicit Limiter(Limits limits);

  // n events of a row. Rows the limiter was not given are ignored.
  void hit(Row row, uint64_t n = 1) {
    if (row >= frequency_.size()) return;
    uint32_t& f = frequency_[row];
    f = n > UINT32_MAX - f ? UINT32_MAX : f + static_cast<uint32_t>(n);
  }

  // Whether a row had an event since the last close().
  [[nodiscard]] bool is_active(Row row) const {
    return row < rows_.size() && rows_[row].metric != kNone &&
           frequency_[row] != rows_[row].at_close;
  }

  struct Fitted {
    bool fits = false;    // else: more labels than may be
    bool stable = false;  // the same raw labels will fit the same way: worth remembering
    std::span<const LabelView> labels;  // canonical; hold until the next call
  };

  Fitted fit(MetricNumber metric, std::span<const LabelView> labels, uint64_t n = 1);

  struct Admission {
    bool named = false;
    std::optional<Row> victim;        // evict before the newcomer is added
    uint64_t missed_upper_bound = 0;  // events of the newcomer that may be in overflow
  };

  // A label set that fit, and is no row yet. `random`: the caller's, new each time.
  Admission admit(MetricNumber metric, std::span<const LabelView> fitted, uint64_t n,
                  uint64_t random);
  // A metric that is not in the table yet.
  Admission admit_metric(std::string_view name, uint64_t n, uint64_t random);

  void add_metric(MetricNumber metric, std::string_view name);
  void remove_metric(MetricNumber metric);  // it has no row left
  [[nodiscard]] bool knows(MetricNumber metric) const;
  void add(Row row, MetricNumber metric, std::span<const LabelView> fitted);
  // The metric's overflow row. It has a place of its own; it becomes a victim only when it is all
  // that is left of its metric.
  void add_overflow(Row row, MetricNumber metric);
  void remove(Row row);

  [[nodiscard]] size_t rows(MetricNumber metric) const;  // named ones
  [[nodiscard]] std::optional<Row> overflow_row(MetricNumber metric) const;

  // The table has no bytes left: no row more, newcomers only in the place of victims.
  void set_pressure(bool no_bytes_left) { pressure_ = no_bytes_left; }

  // Up to `count` victims among the lightest rows, removed: for an owner that must give way.
  std::vector<Row> shed(size_t count);

  // From the next close() on.
  void set_limits(Limits limits) { next_limits_ = std::move(limits); }

  [[nodiscard]] const Limits& limits() const { return limits_; }

  // The end of a window: new limits take effect, values are elected, the past counts half. Returns
  // the rows that must go, removed: of lowered limits, of values that lost their place, and rows
  // without an event for `idle_windows` closes.
  std::vector<Row> close(uint32_t idle_windows);

  [[nodiscard]] const LimitCounts& counts() const { return counts_; }

  // What the limits would have done where dry_run holds.
  [[nodiscard]] const LimitCounts& dry_run_counts() const { return dry_run_counts_; }

  // Of one metric, since its last close().
  struct MetricState {
    size_t limit = 0;
    size_t rows = 0;
    uint64_t overflow_events = 0;  // sent to overflow, or would have been
    uint64_t evicted = 0;
  };

  [[nodiscard]] MetricState state(MetricNumber metric) const;

  [[nodiscard]] const LabelValues& values() const { return values_; }

  // What counts against Limits::series; between two closes it may exceed that by overflow rows that
  // lost the last named row of their metric.
  [[nodiscard]] size_t table_rows() const { return pool_.size(); }

  [[nodiscard]] size_t memory_bytes() const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct RowState {
    MetricNumber metric = kNone;  // kNone: no such row
    uint32_t at_metric = kNone;   // position among the metric's named rows
    uint32_t at_pool = kNone;     // position in pool_
    uint32_t at_close = 0;        // frequency as the last close left it
    uint32_t idle = 0;            // closes without an event
    bool overflow = false;
    uint64_t hash = 0;
    std::vector<LabelValues::Key> values;
  };

  struct MetricEntry {
    bool known = false;
    bool own = false;  // weir_*
    bool dry_run = false;
    size_t limit = 0;
    size_t values_limit = 0;
    uint64_t name_hash = 0;
    std::string name;
    std::vector<Row> rows;
    Row overflow = kNone;
    std::unique_ptr<CountMin> sketch;
    uint64_t overflow_events = 0;
    uint64_t evicted = 0;
  };

  // Which rows of a sample may be victims.
  enum class Only : uint8_t { kAny, kLastOfMetric };

  [[nodiscard]] bool is_counted(const LabelView& label) const;
  void apply_rules(MetricEntry& metric) const;
  [[nodiscard]] uint64_t hash_of(const MetricEntry& metric,
                                 std::span<const LabelView> labels) const;

  [[nodiscard]] bool table_is_full() const { return pressure_ || table_rows() >= limits_.series; }

  RowState& make_row(Row row, MetricNumber metric);
  void enter_pool(Row row);
  void leave_pool(Row row);
  [[nodiscard]] bool is_last_of_metric(Row row) const;
  CountMin* sketch_of(MetricEntry& metric);
  [[nodiscard]] std::optional<Row> lightest_of_sample(const std::vector<Row>& of, uint64_t random,
                                                      Only only) const;

  [[nodiscard]] std::optional<uint32_t> frequency_of(std::optional<Row> row) const {
    return row ? std::optional(frequency_[*row]) : std::nullopt;
  }

  static Admission contest(CountMin& sketch, uint64_t hash, uint64_t n,
                           std::optional<uint32_t> lightest);
  Admission contest_metric(MetricEntry& metric, uint64_t hash, uint64_t n, uint64_t random);
  Admission contest_table(uint64_t hash, uint64_t n, uint64_t random, Only only);

  void evict(Row row, std::vector<Row>& out);
  void evict_lightest(std::vector<Row> of, size_t count, std::vector<Row>& out);
  void elect_values(std::vector<Row>& out);
  void forget_idle(uint32_t idle_windows, std::vector<Row>& out);
  void enforce_limits(std::vector<Row>& out);
  void halve();

  Limits limits_;
  std::optional<Limits> next_limits_;
  bool pressure_ = false;
  std::vector<uint32_t> frequency_;  // by row; apart, for it is touched by every event
  std::vector<RowState> rows_;
  std::vector<MetricEntry> metrics_;
  // What may become a victim: named rows but Weir's own, and overflow rows that are all that is
  // left of their metric.
  std::vector<Row> pool_;
  size_t own_rows_ = 0;
  size_t known_metrics_ = 0;
  size_t sketches_ = 0;
  std::unique_ptr<CountMin> table_sketch_;
  LabelFit label_fit_;
  LabelValues values_;
  LimitCounts counts_;
  LimitCounts dry_run_counts_;
};

}  // namespace weir
