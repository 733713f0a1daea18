#pragma once
// Recorder: where every source puts what it measured. Names series, applies the limits of
// cardinality, keeps the open one-minute windows.
//
// Owner: the edge loop; loop thread only. Promise: everything recorded leaves through take(), once;
// events later than max_late before the present, or further ahead than max_ahead, are refused and
// counted by reason; the present is what advance() was told, so it is read once per batch of
// events, and what a journal replays is judged as it was when it came. A label set without a place
// (common/limiter.h) lands in its metric's overflow series, a metric without one in "__other__" of
// its kind and unit, and a series that loses its place is folded there, so totals stay exact.
// Bounded: series by limits, bytes by memory_bytes, windows by max_late and max_ahead. Cost:
// series() one hash lookup for a label set met before (keep the handle), a few for others; open()
// two array accesses.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/limiter.h"
#include "common/result.h"
#include "common/rollup.h"
#include "common/series.h"
#include "common/series_report.h"

namespace weir::daemon {

// A batch has room for kMaxLabels; the rest is for the labels of the host and of upper tiers.
inline constexpr size_t kMaxSampleLabels = 32;

struct RecorderLimits {
  uint32_t window_s = 60;
  Limits series{};
  size_t memory_bytes = size_t{64} << 20;  // table, open windows, limiter and the sources' caches
  uint32_t idle_windows = 60;              // a series without an event for so long is forgotten
  int64_t max_late_s = 300;
  int64_t max_ahead_s = 120;
};

class Recorder {
 public:
  static constexpr size_t kMostSeries = 1'000'000;

  // `source`: who "the last value" of a gauge comes from when two hosts measure at once.
  Recorder(const RecorderLimits& limits, UnixTime now, uint64_t source = 0);

  // The present, for events recorded from here on. It may go back.
  void advance(UnixTime now);

  // The series of these labels, or where the limits put them. Use a handle before the next call of
  // series(), advance() or end_window(), or keep it and ask again once it is not alive(). A label
  // set without a place of its own gets one that is never alive, for each of its events must come
  // by here to earn a name. `events`: how many it stands for. kInvalid: the metric exists with
  // another kind or unit, or a text is malformed.
  Result<SeriesHandle> series(const Metric& metric, std::span<const LabelView> labels,
                              uint64_t events = 1);

  [[nodiscard]] bool alive(const SeriesHandle& handle) const {
    return handle.generation != 0 && table_.alive(handle);
  }

  // The open delta of a series in the window of `when`; nullptr (counted) when too late or ahead.
  // The pointer holds until the next call.
  Value* open(const SeriesHandle& series, UnixTime when, uint64_t events = 1);

  // Shorthands over open(); they count what they refuse.
  void count(const SeriesHandle& series, UnixTime when, uint64_t n);
  void observe(const SeriesHandle& series, UnixTime when, int64_t quanta, uint64_t n = 1);
  void gauge(const SeriesHandle& series, UnixTime when, int64_t quanta);
  // n events of the member with this hash (Distinct::hash_of).
  void member(const SeriesHandle& series, UnixTime when, uint64_t hash, uint64_t n = 1);

  [[nodiscard]] const SeriesTable& table() const { return table_; }

  [[nodiscard]] const Limiter& limiter() const { return limiter_; }

  [[nodiscard]] std::vector<int64_t> open_windows() const;
  std::vector<Delta> take(int64_t window_start_s);

  // The window that ends with `last` is over: what the limits did in it is recorded in it as
  // metrics of Weir's own, new limits take effect, and series that lost their places are folded.
  void end_window(UnixTime last);
  // From the next end_window() on. A metric that is measured already keeps its scale.
  void set_limits(const Limits& limits, size_t memory_bytes);

  // What the sources remember beside the recorder, for the budget.
  void set_cache_bytes(size_t bytes) { cache_bytes_ = bytes; }

  [[nodiscard]] size_t memory_bytes() const;

  [[nodiscard]] size_t memory_limit() const { return limits_.memory_bytes; }

  // Calls, not the weight they carried.
  struct Drops {
    uint64_t late = 0;
    uint64_t ahead = 0;
    uint64_t refused = 0;     // a count would overflow, or kinds clash
    uint64_t overflowed = 0;  // events that went to an overflow series (not lost)
    uint64_t evicted = 0;     // series that lost their place (not lost)
    uint64_t unfolded = 0;    // weight of those that no overflow series could hold
  };

  [[nodiscard]] const Drops& drops() const { return drops_; }

 private:
  Result<SeriesHandle> name(const Metric& metric, std::span<const LabelView> labels,
                            uint64_t events);
  std::optional<MetricId> admit_metric(const Metric& metric, uint64_t events);
  SeriesHandle overflow(MetricId metric, std::span<const LabelView> labels, uint64_t events);
  SeriesHandle other(const Metric& metric, uint64_t events);
  SeriesId overflow_series(MetricId metric);
  SeriesId other_series(const Metric& metric, uint8_t scale);
  void evict(SeriesId victim, std::optional<MetricId> keep);
  void evict(const std::vector<Limiter::Row>& victims);
  void stay_within_budget();
  void publish_report(UnixTime last);

  uint64_t next_random() { return random_ = hash64(random_, 1); }

  RecorderLimits limits_;
  int64_t now_s_;
  uint64_t source_;
  uint64_t random_;
  Limiter limiter_;
  SeriesTable table_;
  Rollup rollup_;
  SeriesReport report_;
  std::vector<uint8_t> scales_;  // by metric
  size_t cache_bytes_ = 0;
  size_t opens_ = 0;          // since the budget was looked at
  size_t next_weighing_ = 0;  // at so many
  Drops drops_;
};

}  // namespace weir::daemon
