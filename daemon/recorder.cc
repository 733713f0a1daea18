#include "daemon/recorder.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/hash.h"
#include "common/utf8.h"

namespace weir::daemon {

namespace {

constexpr size_t kFewestOpens = 4096;  // between two looks at the budget

RecorderLimits within_reason(RecorderLimits limits) {
  limits.series.series = std::min(limits.series.series, Recorder::kMostSeries);
  return limits;
}

// Without its generation a handle serves until the next call, and is never alive.
SeriesHandle for_now(SeriesId id) { return {.id = id, .generation = 0}; }

Status check_metric(const Metric& metric) {
  if (metric.name.empty() || metric.name.size() > kMaxLabelText || !is_utf8(metric.name)) {
    return invalid("metric name is empty, too long or not UTF-8");
  }
  return {};
}

// What no cutting and folding can mend.
Status check_labels(std::span<const LabelView> labels) {
  for (const LabelView& label : labels) {
    if (label.name.empty()) return invalid("label name is empty");
    if (!is_utf8(label.name) || !is_utf8(label.value)) return invalid("label is not UTF-8");
    const auto twin = std::ranges::count_if(labels, [&](const LabelView& other) {
      return other.name == label.name && !other.value.empty();
    });
    if (twin > 1) return invalid("label " + std::string(label.name) + " is repeated");
  }
  return {};
}

// Somebody else's overflow is overflow; and two names may be cut to one.
bool belongs_to_overflow(std::span<const LabelView> sorted) {
  const auto same = [](const LabelView& a, const LabelView& b) { return a.name == b.name; };
  return std::ranges::find(sorted, kOverflowLabel, &LabelView::name) != sorted.end() ||
         std::ranges::adjacent_find(sorted, same) != sorted.end();
}

}  // namespace

// What bounds the table is the limiter.
Recorder::Recorder(const RecorderLimits& limits, UnixTime now, uint64_t source)
    : limits_(within_reason(limits)),
      now_s_(unix_seconds(now)),
      source_(source),
      random_(process_seed()),
      limiter_(limits_.series),
      rollup_(limits_.window_s),
      next_weighing_(kFewestOpens) {}

void Recorder::advance(UnixTime now) {
  now_s_ = unix_seconds(now);
  if (opens_ >= next_weighing_) stay_within_budget();
}

Result<SeriesHandle> Recorder::series(const Metric& metric, std::span<const LabelView> labels,
                                      uint64_t events) {
  if (const auto known = table_.find_metric(metric)) {
    if (labels.size() <= kMaxSampleLabels) {
      const auto found = table_.find(*known, labels);
      if (found.ok()) return table_.handle(*found);
    }
  } else if (known.error().code != Errc::kNotFound) {
    return known.error();
  }
  return name(metric, labels, events);
}

Result<SeriesHandle> Recorder::name(const Metric& metric, std::span<const LabelView> labels,
                                    uint64_t events) {
  if (opens_ >= next_weighing_) stay_within_budget();
  WEIR_TRY(check_metric(metric));
  const bool too_many = labels.size() > kMaxSampleLabels;
  if (!too_many) WEIR_TRY(check_labels(labels));
  const auto admitted = admit_metric(metric, events);
  if (!admitted) return other(metric, events);
  const MetricId id = *admitted;
  const auto fitted = limiter_.fit(id, labels, events);
  if (!fitted.fits || too_many || belongs_to_overflow(fitted.labels))
    return overflow(id, labels, events);
  if (const auto found = table_.find(id, fitted.labels)) {
    if (fitted.stable) return table_.handle(*found);
    report_.refused(metric.name, labels, events);
    return for_now(*found);
  }
  const auto admission = limiter_.admit(id, fitted.labels, events, next_random());
  if (!admission.named) return overflow(id, labels, events);
  if (admission.victim) evict(*admission.victim, id);
  const auto series = table_.intern(id, fitted.labels);
  WEIR_CHECK(series.ok());  // checked, cut to length, and the limiter said there is room
  limiter_.add(*series, id, fitted.labels);
  if (fitted.stable) return table_.handle(*series);
  report_.refused(metric.name, labels, events);
  return for_now(*series);
}

// The metric's id; a new one may have to do without.
std::optional<MetricId> Recorder::admit_metric(const Metric& metric, uint64_t events) {
  if (metric.name == kOther) return std::nullopt;
  if (const auto known = table_.find_metric(metric)) return *known;
  const auto admission = limiter_.admit_metric(metric.name, events, next_random());
  if (!admission.named) return std::nullopt;
  if (admission.victim) evict(*admission.victim, std::nullopt);
  const auto made = table_.metric(metric);
  WEIR_CHECK(made.ok());
  limiter_.add_metric(*made, metric.name);
  if (*made >= scales_.size()) scales_.resize(size_t{*made} + 1, kDefaultScale);
  scales_[*made] = rule_of(limiter_.limits().rules, metric.name).scale.value_or(kDefaultScale);
  return *made;
}

SeriesHandle Recorder::overflow(MetricId metric, std::span<const LabelView> labels,
                                uint64_t events) {
  drops_.overflowed += 1;
  report_.refused(table_.metric_at(metric).name, labels, events);
  return for_now(overflow_series(metric));
}

SeriesHandle Recorder::other(const Metric& metric, uint64_t events) {
  drops_.overflowed += 1;
  const LabelView name{"name", metric.name};
  report_.refused(kOther, {&name, 1}, events);
  return for_now(other_series(metric, kDefaultScale));
}

SeriesId Recorder::overflow_series(MetricId metric) {
  if (const auto row = limiter_.overflow_row(metric)) return *row;
  const LabelView label{kOverflowLabel, "true"};
  const auto id = table_.intern(metric, {&label, 1});
  WEIR_CHECK(id.ok());
  limiter_.add_overflow(*id, metric);
  return *id;
}

// Folded distributions of another scale do not add up: they have a row of their own.
SeriesId Recorder::other_series(const Metric& metric, uint8_t scale) {
  Metric other = metric;
  other.name = kOther;
  const auto id = table_.metric_apart(other);
  WEIR_CHECK(id.ok());
  const std::string digit = std::to_string(scale);
  const std::array<LabelView, 2> labels = {{{kOverflowLabel, "true"}, {"scale", digit}}};
  const bool apart = metric.kind == Kind::kDistribution && scale != kDefaultScale;
  const auto series = table_.intern(*id, std::span(labels).first(apart ? 2 : 1));
  WEIR_CHECK(series.ok());
  return *series;
}

// The limiter has removed it already. A metric that has nothing left goes with it, but for `keep`,
// which is about to get a row.
void Recorder::evict(SeriesId victim, std::optional<MetricId> keep) {
  const MetricId metric = table_.metric_id_of(victim);
  const bool last = limiter_.rows(metric) == 0 && !limiter_.overflow_row(metric) && metric != keep;
  const SeriesId into =
      last ? other_series(table_.metric_at(metric), scales_[metric]) : overflow_series(metric);
  if (into == victim) return;  // the overflow series of the metric to keep: it has a row again
  drops_.evicted += 1;
  if (!rollup_.fold(victim, into).ok()) drops_.unfolded += rollup_.forget(victim);
  table_.remove(victim);
  if (!last || table_.series_of(metric) > 0) return;
  limiter_.remove_metric(metric);
  table_.remove_metric(metric);
  scales_[metric] = kDefaultScale;
}

void Recorder::evict(const std::vector<Limiter::Row>& victims) {
  for (const SeriesId victim : victims) evict(victim, std::nullopt);
}

void Recorder::end_window(UnixTime last) {
  publish_report(last);
  evict(limiter_.close(limits_.idle_windows));
  stay_within_budget();
}

void Recorder::publish_report(UnixTime last) {
  std::map<std::string, size_t, std::less<>> active;  // named rows of each; ids may be reused below
  for (SeriesId id = 0; id < table_.ids(); ++id) {
    if (!limiter_.is_active(id)) continue;
    const MetricId metric = table_.metric_id_of(id);
    const std::string& name = table_.metric_at(metric).name;
    if (!limiter_.knows(metric)) continue;
    active.try_emplace(name, limiter_.rows(metric));
    const bool worth = limiter_.rows(metric) >= SeriesReport::kWorthAReport || report_.knows(name);
    if (worth && !name.starts_with("weir_") && limiter_.overflow_row(metric) != id) {
      report_.named(name, table_.labels_of(id));
    }
  }
  const auto state_of = [&](std::string_view metric) {
    const auto rows = active.find(metric);
    if (rows == active.end()) return SeriesReport::State{};
    return SeriesReport::State{.rows = rows->second};
  };
  report_.publish(last, source_, state_of,
                  [&](const Metric& metric, std::span<const LabelView> labels, const Value& value) {
                    const auto id = series(metric, labels);
                    if (!id.ok()) return;
                    limiter_.hit(id->id);
                    if (!rollup_.merge(id->id, unix_seconds(last), value).ok()) ++drops_.refused;
                  });
}

void Recorder::set_limits(const Limits& limits, size_t memory_bytes) {
  limits_.series = limits;
  limits_.memory_bytes = memory_bytes;
  limits_ = within_reason(limits_);
  limiter_.set_limits(limits_.series);
}

size_t Recorder::memory_bytes() const {
  return table_.memory_bytes() + rollup_.memory_bytes() + limiter_.memory_bytes() +
         report_.memory_bytes() + scales_.capacity() + cache_bytes_;
}

// Light series give way until the rest fits; a sixteenth stays free, so that this is not every
// time, and newcomers need a victim until an eighth is.
void Recorder::stay_within_budget() {
  opens_ = 0;
  next_weighing_ = std::max(kFewestOpens, table_.ids());
  const size_t budget = limits_.memory_bytes;
  size_t used = memory_bytes();
  // What the sources remember cannot be shed here: beyond a quarter it is theirs to bound.
  used -= cache_bytes_ - std::min(cache_bytes_, budget / 4);
  if (used <= budget) {
    if (used < budget - budget / 8) limiter_.set_pressure(false);
    return;
  }
  limiter_.set_pressure(true);
  for (size_t rows = limiter_.table_rows(); used > budget - budget / 16 && rows > 0;
       rows = limiter_.table_rows()) {
    const size_t share = rows / 8 + 1;
    evict(limiter_.shed(share));
    const size_t now = memory_bytes() - (cache_bytes_ - std::min(cache_bytes_, budget / 4));
    if (now >= used) break;  // what is left is not of the series
    used = now;
  }
}

Value* Recorder::open(const SeriesHandle& series, UnixTime when, uint64_t events) {
  const int64_t at = unix_seconds(when);
  if (at < now_s_ - limits_.max_late_s) {
    ++drops_.late;
    return nullptr;
  }
  if (at > now_s_ + limits_.max_ahead_s) {
    ++drops_.ahead;
    return nullptr;
  }
  if (series.generation != 0 && !table_.alive(series)) {
    ++drops_.refused;
    return nullptr;
  }
  ++opens_;
  limiter_.hit(series.id, events);
  const MetricId metric = table_.metric_id_of(series.id);
  const uint8_t scale = metric < scales_.size() ? scales_[metric] : kDefaultScale;
  return &rollup_.at(series.id, table_.metric_at(metric), at, scale);
}

void Recorder::count(const SeriesHandle& series, UnixTime when, uint64_t n) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* counter = std::get_if<Counter>(value);
  if (counter == nullptr || n > kMaxCount - counter->delta) {
    ++drops_.refused;
  } else {
    counter->delta += n;
  }
}

void Recorder::observe(const SeriesHandle& series, UnixTime when, int64_t quanta, uint64_t n) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* distribution = std::get_if<Distribution>(value);
  if (distribution == nullptr || !distribution->add_signed(quanta, n).ok()) ++drops_.refused;
}

void Recorder::gauge(const SeriesHandle& series, UnixTime when, int64_t quanta) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* gauge = std::get_if<Gauge>(value);
  if (gauge == nullptr || !gauge->add(quanta, when.time_since_epoch().count(), source_).ok()) {
    ++drops_.refused;
  }
}

void Recorder::member(const SeriesHandle& series, UnixTime when, uint64_t hash, uint64_t n) {
  Value* value = open(series, when);
  if (value == nullptr) return;
  auto* distinct = std::get_if<Distinct>(value);
  if (distinct == nullptr || !distinct->add(hash, n).ok()) ++drops_.refused;
}

std::vector<int64_t> Recorder::open_windows() const { return rollup_.open_windows(); }

std::vector<Delta> Recorder::take(int64_t window_start_s) { return rollup_.take(window_start_s); }

}  // namespace weir::daemon
