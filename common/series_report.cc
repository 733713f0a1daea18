#include "common/series_report.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "common/limiter.h"
#include "common/log.h"

namespace weir {

namespace {

// The same for the same labels on every host, whatever their order.
uint64_t hash_of(std::span<const LabelView> labels) {
  uint64_t hash = 0;
  for (const LabelView& label : labels) {
    hash += hash64(Distinct::hash_of(label.value), Distinct::hash_of(label.name));
  }
  return hash64(hash, labels.size());
}

const Metric kEstimated{"weir_series_estimated", Kind::kDistinct, "", 0};
const Metric kValues{"weir_series_values", Kind::kDistinct, "", 0};
const Metric kOffenders{"weir_series_offenders", Kind::kTopk, "", 0};
const Metric kAdmitted{"weir_series_admitted", Kind::kGauge, "", 0};
const Metric kOverflowEvents{"weir_series_overflow_events_total", Kind::kCounter, "", 0};

}  // namespace

SeriesReport::Entry* SeriesReport::entry_of(std::string_view metric) {
  if (const auto known = metrics_.find(metric); known != metrics_.end()) return &known->second;
  if (metrics_.size() >= kMaxMetrics) return nullptr;
  return &metrics_.try_emplace(std::string(metric)).first->second;
}

void SeriesReport::see(Entry& entry, std::span<const LabelView> labels, uint64_t n) {
  (void)entry.sets.add(hash_of(labels), n);  // fails beyond 2^63 events: it has seen enough
  for (const LabelView& label : labels) {
    auto values = entry.values.find(label.name);
    if (values == entry.values.end()) {
      if (labels_ >= kMaxLabels) continue;
      ++labels_;
      values = entry.values.try_emplace(std::string(label.name)).first;
    }
    (void)values->second.add(Distinct::hash_of(label.value), n);
  }
}

void SeriesReport::refused(std::string_view metric, std::span<const LabelView> labels, uint64_t n) {
  Entry* entry = entry_of(metric);
  if (entry == nullptr) return;
  see(*entry, labels, n);
  entry->refused += n;
  if (!entry->offenders) {
    if (offenders_ >= kMaxOffenders) return;
    ++offenders_;
    entry->offenders = std::make_unique<Topk>();
  }
  // A label that always has the same value is on every event and tells nobody apart.
  const auto tells = [entry](const LabelView& label) {
    const auto values = entry->values.find(label.name);
    return values == entry->values.end() || !values->second.exact() ||
           values->second.hashes().size() > 1;
  };
  const bool any = std::ranges::any_of(labels, tells);
  std::string key;
  for (const LabelView& label : labels) {
    if (any && !tells(label)) continue;
    key.assign(label.name).append("=").append(label.value);
    (void)entry->offenders->add(key, n);
  }
}

void SeriesReport::named(std::string_view metric, const Labels& labels) {
  Entry* entry = entry_of(metric);
  if (entry == nullptr) return;
  std::vector<LabelView> views;
  for (const auto& [name, value] : labels) views.push_back({name, value});
  see(*entry, views, 1);
}

void SeriesReport::publish(UnixTime when, uint64_t source,
                           const std::function<State(std::string_view metric)>& state_of,
                           const Record& record) {
  for (auto at = metrics_.begin(); at != metrics_.end();) {
    auto& [name, entry] = *at;
    const State state = state_of(name);
    const std::array<LabelView, 1> of_metric = {{{"metric", name}}};
    if (entry.sets.n() > 0) record(kEstimated, of_metric, entry.sets);
    for (const auto& [label, values] : entry.values) {
      const std::array<LabelView, 2> both = {{{"label", label}, {"metric", name}}};
      record(kValues, both, values);
    }
    if (entry.offenders) record(kOffenders, of_metric, *entry.offenders);
    Gauge admitted;
    (void)admitted.add(static_cast<int64_t>(state.rows), when.time_since_epoch().count(), source);
    record(kAdmitted, of_metric, admitted);
    if (entry.refused > 0) record(kOverflowEvents, of_metric, Counter{entry.refused});
    tell(name, entry, state);
    const bool stays = entry.breached || state.rows >= kWorthAReport;
    const bool breached = entry.breached;
    entry = {};
    entry.breached = breached;
    at = stays ? std::next(at) : metrics_.erase(at);
  }
  if (changes_ > kMaxLines) {
    log::warn("series limit{}: {} more metrics left their limits or came back", of_,
              changes_ - kMaxLines);
  }
  changes_ = 0;
  offenders_ = 0;
  labels_ = 0;
}

void SeriesReport::forget() {
  for (auto& [name, entry] : metrics_) {
    const bool breached = entry.breached;
    entry = {};
    entry.breached = breached;
  }
  offenders_ = labels_ = 0;
}

void SeriesReport::tell(std::string_view metric, Entry& entry, const State& state) {
  const bool over = entry.refused > 0;
  if (over == entry.breached) return;
  entry.breached = over;
  if (++changes_ > kMaxLines) return;
  if (over) {
    std::string most;
    if (entry.offenders) {
      for (const auto& item : entry.offenders->top(1)) most = std::string(item.key);
    }
    log::warn(
        "series limit{}: metric {}: {} of about {:.0f} label sets have names; {} events went to "
        "overflow or {}; most often: {}",
        of_, log::quoted(metric), state.rows, entry.sets.estimate().value, entry.refused, kOther,
        log::quoted(most));
  } else {
    log::info("series limit{}: metric {} is within its limits again", of_, log::quoted(metric));
  }
}

size_t SeriesReport::memory_bytes() const {
  size_t bytes = sizeof *this;
  for (const auto& [name, entry] : metrics_) {
    bytes += sizeof entry + name.capacity() + entry.sets.memory_bytes();
    for (const auto& [label, values] : entry.values) {
      bytes += sizeof values + label.capacity() + values.memory_bytes() + 64;
    }
    if (entry.offenders) bytes += entry.offenders->memory_bytes();
  }
  return bytes;
}

}  // namespace weir
