#pragma once
// Recorder: where every source puts what it measured. Names series, applies the limiter, keeps the
// open one-minute windows.
//
// Owner: the edge loop; loop thread only. Promise: everything recorded leaves through take(), once;
// events later than max_late before the present, or further ahead than max_ahead, are refused and
// counted by reason; the present is what advance() was told, so it is read once per batch of
// events, and what a journal replays is judged as it was when it came; a label set beyond the limit
// lands in its metric's overflow series, and a metric that is new then in "__other__" of its kind
// and unit, so totals stay exact. Bounded: max_series, plus an overflow series for each of their
// metrics; windows between max_late and max_ahead. Cost: series() one hash lookup (keep the id);
// open() one hash lookup.

#include <cstdint>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/limiter.h"
#include "common/result.h"
#include "common/rollup.h"
#include "common/series.h"

namespace weir::daemon {

// A batch has room for kMaxLabels; the rest is for the labels of the host and of upper tiers.
inline constexpr size_t kMaxSampleLabels = 32;
inline constexpr const char* kOtherMetric = "__other__";

struct RecorderLimits {
  uint32_t window_s = 60;
  size_t max_series = 10'000;  // at most a million
  int64_t max_late_s = 300;
  int64_t max_ahead_s = 120;
};

class Recorder {
 public:
  Recorder(const RecorderLimits& limits, UnixTime now);

  // The present, for events recorded from here on. It may go back.
  void advance(UnixTime now) { now_s_ = unix_seconds(now); }

  // The series of these labels, or the metric's overflow series beyond the limit. kInvalid: the
  // metric exists with another kind or unit, or a label is malformed, or there are too many.
  Result<SeriesId> series(const Metric& metric, std::span<const LabelView> labels);

  // The open delta of `series` in the window of `when`; nullptr (counted) when too late or ahead.
  // The pointer holds until the next call.
  Value* open(SeriesId series, UnixTime when);

  // Shorthands over open(); they count what they refuse.
  void count(SeriesId series, UnixTime when, uint64_t n);
  void observe(SeriesId series, UnixTime when, int64_t quanta, uint64_t n = 1);
  void gauge(SeriesId series, UnixTime when, int64_t quanta);

  [[nodiscard]] const SeriesTable& table() const { return table_; }

  [[nodiscard]] std::vector<int64_t> open_windows() const;
  std::vector<Delta> take(int64_t window_start_s);

  // Calls, not the weight they carried.
  struct Drops {
    uint64_t late = 0;
    uint64_t ahead = 0;
    uint64_t refused = 0;     // a count would overflow, or kinds clash
    uint64_t overflowed = 0;  // label sets that went to an overflow series (not lost)
  };

  [[nodiscard]] const Drops& drops() const { return drops_; }

 private:
  Result<SeriesId> overflow(MetricId metric);

  RecorderLimits limits_;
  int64_t now_s_;
  SeriesTable table_;
  Rollup rollup_;
  size_t admitted_ = 0;  // series that are not overflow series
  Drops drops_;
};

}  // namespace weir::daemon
