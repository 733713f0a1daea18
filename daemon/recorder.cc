#include "daemon/recorder.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace weir::daemon {

namespace {

constexpr size_t kMostSeries = 1'000'000;
constexpr size_t kMostMetrics = SeriesTable::kMaxMetrics - 1000;  // the rest: each kind's __other__

RecorderLimits within_reason(RecorderLimits limits) {
  limits.max_series = std::min(limits.max_series, kMostSeries);
  return limits;
}

}  // namespace

// The table has room for an overflow series beside every admitted one.
Recorder::Recorder(const RecorderLimits& limits, UnixTime now)
    : limits_(within_reason(limits)),
      now_s_(unix_seconds(now)),
      table_(2 * limits_.max_series + 1024),
      rollup_(limits_.window_s) {}

Result<SeriesId> Recorder::series(const Metric& metric, std::span<const LabelView> labels) {
  if (labels.size() > kMaxSampleLabels) return invalid("too many labels");
  auto known = table_.find_metric(metric);
  if (!known.ok()) {
    if (known.error().code != Errc::kNotFound) return std::move(known).error();
    if (admitted_ >= limits_.max_series || table_.metrics() >= kMostMetrics) {
      drops_.overflowed += 1;
      Metric other = metric;
      other.name = kOtherMetric;
      WEIR_TRY_ASSIGN(const MetricId id, table_.metric_apart(other));
      return overflow(id);
    }
    known = table_.metric(metric);
    if (!known.ok()) return std::move(known).error();
  }
  auto found = table_.find(*known, labels);
  if (found.ok() || found.error().code != Errc::kNotFound) return found;
  if (admitted_ >= limits_.max_series) {
    drops_.overflowed += 1;
    return overflow(*known);
  }
  ++admitted_;
  return table_.intern(*known, labels);
}

Result<SeriesId> Recorder::overflow(MetricId metric) {
  const LabelView label{kOverflowLabel, "true"};
  return table_.intern(metric, {&label, 1});
}

Value* Recorder::open(SeriesId series, UnixTime when) {
  const int64_t at = unix_seconds(when);
  if (at < now_s_ - limits_.max_late_s) {
    ++drops_.late;
    return nullptr;
  }
  if (at > now_s_ + limits_.max_ahead_s) {
    ++drops_.ahead;
    return nullptr;
  }
  return &rollup_.at(series, table_.metric_of(series), at);
}

void Recorder::count(SeriesId series, UnixTime when, uint64_t n) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* counter = std::get_if<Counter>(value);
  if (counter == nullptr || n > kMaxCount - counter->delta) {
    ++drops_.refused;
  } else {
    counter->delta += n;
  }
}

void Recorder::observe(SeriesId series, UnixTime when, int64_t quanta, uint64_t n) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* distribution = std::get_if<Distribution>(value);
  if (distribution == nullptr || !distribution->add_signed(quanta, n).ok()) ++drops_.refused;
}

void Recorder::gauge(SeriesId series, UnixTime when, int64_t quanta) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  const Gauge sample{
      .n = 1,
      .sum = quanta,
      .min = quanta,
      .max = quanta,
      .last = {.time_ns = when.time_since_epoch().count(), .source = 0, .value = quanta}};
  if (!merge(*value, sample).ok()) ++drops_.refused;
}

std::vector<int64_t> Recorder::open_windows() const { return rollup_.open_windows(); }

std::vector<Delta> Recorder::take(int64_t window_start_s) { return rollup_.take(window_start_s); }

}  // namespace weir::daemon
