#pragma once
// Names: which label sets of a tier have a row of their own now, in fine windows and in coarse
// ones, and which share their metric's overflow row (docs/cardinality.md, docs/adr/0013).
//
// The two grains are limited apart: a fine label set without a name still brings its values to its
// coarse one. Rows of the catalog stay for ever, names come and go: a label set that loses its name
// keeps what is written, and its later values go to overflow until it earns its place again. An
// overflow row keeps the labels that say whose it is, so sums by host and region stay exact.
//
// Owner and thread: the store thread, beside its Catalog. Promise: a function of what is committed:
// after a rolled-back transaction it is made anew and restore()d from blocks. Cost: a named label
// set is one hash lookup and one addition; one without, a few microseconds. About 130 bytes per
// name and 16 per row of the catalog.

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/store/block_key.h"
#include "aggregator/store/catalog.h"
#include "aggregator/tier.h"
#include "common/clock.h"
#include "common/limiter.h"
#include "common/result.h"
#include "common/series_report.h"
#include "common/value.h"

namespace weir::aggregator {

// What a region's limits are when nobody says otherwise; of the whole table there are none.
[[nodiscard]] inline Limits tier_limits(size_t series_per_metric = 20'000,
                                        size_t values_per_label = 2'000) {
  Limits out;
  out.series_per_metric = series_per_metric;  // of each grain
  out.values_per_label = values_per_label;
  return out;
}

// Rows a metric may ever have, named or not. Never less than four times its limit, nor more than
// keys can tell apart. The last quarter is for coarse windows: hosts that come and go do not use up
// what is sent up.
inline constexpr size_t kCatalogRows = 80'000;

// What a delivery counts for its name: its events, bounded, for the units of counters differ.
[[nodiscard]] inline uint64_t weight_of(uint64_t events) {
  return std::clamp<uint64_t>(events, 1, 1000);
}

using SeriesReports = std::array<SeriesReport, 2>;  // by grain

class Names {
 public:
  struct Counts {
    std::array<uint64_t, 2> overflow{};  // rows, by grain
    std::array<uint64_t, 2> evicted{};   // names lost
    uint64_t catalog_full = 0;           // label sets that found no row left
    uint64_t rewritten = 0;              // with a text cut, or a value that became "__other__"
    uint64_t dry_run = 0;                // what limits in dry_run would have done
  };

  // The references outlive it. It goes on counting from `counts`.
  Names(Catalog& catalog, const Tier& tier, const Limits& limits, size_t catalog_rows,
        const Counts& counts, SeriesReports& reports);

  struct Placed {
    uint32_t row = 0;
    bool overflow = false;
  };

  // Where so many events of a label set go. In overflow: in coarse windows, too, they go by their
  // own labels, to coarse().
  Result<Placed> fine(uint32_t metric, const Labels& labels, uint64_t events);
  Result<uint32_t> coarse(uint32_t metric, const Labels& labels, uint64_t events);
  // As coarse() of the row's labels, faster.
  Result<uint32_t> coarse_of(uint32_t metric, uint32_t fine_row, uint64_t events);

  [[nodiscard]] bool is_overflow(uint32_t metric, uint32_t row);

  // Names rows again, the heaviest first, as far as limits allow: (row, weight) of recent windows.
  void restore(Grain grain, uint32_t metric, std::vector<std::pair<uint32_t, uint64_t>> used);

  // The end of a coarse window, before close_window(): what the limits did, as metrics.
  void publish(UnixTime when, uint64_t source,
               const std::function<void(const Metric&, const Labels&, const Value&)>& record);

  // In force from the next close_window() on.
  void set_limits(const Limits& limits);
  // The end of a coarse window: the past counts half, names that are not used any more are free.
  void close_window();

  [[nodiscard]] bool is_named(Grain grain, uint32_t metric, uint32_t row) const;
  [[nodiscard]] size_t named(Grain grain) const;
  [[nodiscard]] Counts counts() const;

  // What of a label set says where it came from: host, region, and what this tier adds or drops.
  [[nodiscard]] Labels whose(const Labels& labels) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  struct Row {
    std::array<uint32_t, 2> place{kNone, kNone};  // the limiter's number for it, by grain
    uint32_t coarse = kNone;                      // the row of its coarse label set, if known
    bool overflow = false;
  };

  struct OfGrain {
    explicit OfGrain(Limits limits) : limiter(std::move(limits)) {}

    Limiter limiter;
    std::vector<std::pair<uint32_t, uint32_t>> rows;  // (metric, row) by place
    std::vector<uint32_t> free;
  };

  struct InGrain {  // where a label set is, and whether asking again gives the same
    Placed placed;
    bool stable = false;
  };

  [[nodiscard]] OfGrain& of(Grain grain) { return grains_[static_cast<size_t>(grain)]; }

  [[nodiscard]] const OfGrain& of(Grain grain) const { return grains_[static_cast<size_t>(grain)]; }

  [[nodiscard]] Limits limits_here(Limits limits) const;
  [[nodiscard]] bool is_whose(const std::string& label) const;
  std::vector<Row>& rows_of(uint32_t metric);
  Limiter& limiter_of(Grain grain, uint32_t metric);  // which knows the metric
  uint32_t place_of(Grain grain, uint32_t metric, uint32_t row);
  Result<InGrain> place(Grain grain, uint32_t metric, const Labels& labels, uint64_t events);
  // The same for one that has no name.
  Result<InGrain> contend(Grain grain, uint32_t metric, const Labels& labels,
                          std::optional<uint32_t> known, uint64_t events);
  Result<InGrain> excess(Grain grain, uint32_t metric, const Labels& labels, uint64_t events);
  void report(Grain grain, uint32_t metric, std::span<const LabelView> labels, uint64_t events);
  Result<InGrain> overflow(Grain grain, uint32_t metric, const Labels& labels);
  [[nodiscard]] bool has_room(Grain grain, uint32_t metric);
  void give_name(Grain grain, uint32_t metric, uint32_t row, std::span<const LabelView> labels,
                 uint64_t weight);
  void take_name(Grain grain, uint32_t place);

  Catalog* catalog_;
  const Tier* tier_;
  size_t catalog_rows_;
  std::vector<std::string> whose_;  // labels
  std::array<OfGrain, 2> grains_;
  std::vector<std::vector<Row>> rows_;  // by metric and row
  uint64_t draws_ = 0;
  Counts counts_;
  SeriesReports* reports_;
};

}  // namespace weir::aggregator
