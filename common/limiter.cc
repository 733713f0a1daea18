#include "common/limiter.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/hash.h"

namespace weir {

namespace {

constexpr size_t kSample = 8;

Limiter::Admission at_once() {
  Limiter::Admission out;
  out.named = true;
  return out;
}

bool is_own(std::string_view metric) { return metric.starts_with("weir_"); }

}  // namespace

Limiter::Limiter(Limits limits) : limits_(std::move(limits)) {}

// Towards the values of its label.
bool Limiter::is_counted(const LabelView& label) const {
  return label.value != kOther &&
         std::ranges::find(limits_.whose_labels, label.name) == limits_.whose_labels.end();
}

void Limiter::apply_rules(MetricEntry& metric) const {
  const MetricRule rule = rule_of(limits_.rules, metric.name);
  metric.limit = rule.series.value_or(limits_.series_per_metric);
  metric.values_limit = rule.values_per_label.value_or(limits_.values_per_label);
  metric.dry_run = rule.dry_run.value_or(limits_.dry_run);
  metric.own = is_own(metric.name);
}

void Limiter::add_metric(MetricNumber metric, std::string_view name) {
  if (metric >= metrics_.size()) metrics_.resize(size_t{metric} + 1);
  MetricEntry& entry = metrics_[metric];
  WEIR_CHECK(!entry.known);
  entry.known = true;
  entry.name = name;
  entry.name_hash = hash64(as_bytes(name), process_seed());
  apply_rules(entry);
  ++known_metrics_;
}

void Limiter::remove_metric(MetricNumber metric) {
  MetricEntry& entry = metrics_.at(metric);
  WEIR_CHECK(entry.known && entry.rows.empty() && entry.overflow == kNone);
  if (entry.sketch) --sketches_;
  entry = {};
  --known_metrics_;
}

bool Limiter::knows(MetricNumber metric) const {
  return metric < metrics_.size() && metrics_[metric].known;
}

Limiter::Fitted Limiter::fit(MetricNumber metric, std::span<const LabelView> labels, uint64_t n) {
  const MetricEntry& entry = metrics_.at(metric);
  LimitCounts& counts = entry.dry_run ? dry_run_counts_ : counts_;
  auto fitted = label_fit_(labels, limits_.labels);
  counts.many_labels += fitted.fits ? 0 : 1;
  counts.cut_texts += fitted.cut;
  if (entry.dry_run) fitted = label_fit_(labels, LabelFit::kUnlimited);
  if (!fitted.fits) return {};
  Fitted out{.fits = true, .stable = true, .labels = fitted.labels};
  if (entry.own) return out;
  for (LabelView& label : fitted.labels) {
    if (!is_counted(label)) continue;
    const auto value = LabelValues::key_of(metric, label.name, label.value);
    if (values_.admits(value, entry.values_limit)) continue;
    counts.other_values += 1;
    if (entry.dry_run) continue;
    values_.refuse(value, n);
    label.value = kOther;
    out.stable = false;
  }
  return out;
}

uint64_t Limiter::hash_of(const MetricEntry& metric, std::span<const LabelView> labels) const {
  uint64_t hash = metric.name_hash;
  for (const LabelView& label : labels) {
    hash = hash64(as_bytes(label.value), hash64(as_bytes(label.name), hash));
  }
  return hash;
}

Limiter::Admission Limiter::admit(MetricNumber metric, std::span<const LabelView> fitted,
                                  uint64_t n, uint64_t random) {
  MetricEntry& entry = metrics_.at(metric);
  if (entry.rows.size() >= entry.limit) {
    entry.overflow_events += n;
    if (!entry.dry_run) {
      const Admission out = contest_metric(entry, hash_of(entry, fitted), n, random);
      if (!out.named) ++counts_.metric_full;
      return out;
    }
    ++dry_run_counts_.metric_full;
  }
  if ((entry.own && own_rows_ < kOwnSeries) || !table_is_full()) return at_once();
  Admission out = contest_table(hash_of(entry, fitted), n, random, Only::kAny);
  if (!out.named) {
    if (!entry.dry_run) entry.overflow_events += n;
    ++counts_.table_full;
  }
  return out;
}

Limiter::Admission Limiter::admit_metric(std::string_view name, uint64_t n, uint64_t random) {
  const bool no_metrics = known_metrics_ >= limits_.metrics;
  if (is_own(name) && own_rows_ < kOwnSeries && !no_metrics) return at_once();
  if (!table_is_full() && !no_metrics) return at_once();
  Admission out = contest_table(hash64(as_bytes(name), process_seed()), n, random,
                                no_metrics ? Only::kLastOfMetric : Only::kAny);
  if (!out.named) ++counts_.other_metrics;
  return out;
}

// The sketch is what a full metric pays for; beyond kMaxSketches they share the table's, whose keys
// hold the metric too.
CountMin* Limiter::sketch_of(MetricEntry& metric) {
  if (!metric.sketch && sketches_ < kMaxSketches) {
    metric.sketch = std::make_unique<CountMin>();
    ++sketches_;
  }
  if (metric.sketch) return metric.sketch.get();
  if (!table_sketch_) table_sketch_ = std::make_unique<CountMin>();
  return table_sketch_.get();
}

std::optional<Limiter::Row> Limiter::lightest_of_sample(const std::vector<Row>& of, uint64_t random,
                                                        Only only) const {
  std::optional<Row> lightest;
  for (size_t i = 0; i < kSample && !of.empty(); ++i) {
    random = hash64(random, i);
    const Row row = of[static_cast<size_t>(UInt128{random} * of.size() >> 64)];
    if (only == Only::kLastOfMetric && !is_last_of_metric(row)) continue;
    if (!lightest || frequency_[row] < frequency_[*lightest]) lightest = row;
  }
  return lightest;
}

// What a key that was never turned away reads is noise: no merit, but part of the bound. A row's
// frequency counts the event that made it, so to be above is to have come once more than it did.
Limiter::Admission Limiter::contest(CountMin& sketch, uint64_t hash, uint64_t n,
                                    std::optional<uint32_t> lightest) {
  const uint32_t estimate = sketch.add(hash, n);
  const uint32_t seen = estimate - std::min(estimate, sketch.noise());
  if (!lightest || seen < 2 || seen <= *lightest) return {};
  Admission out = at_once();
  out.missed_upper_bound =
      estimate == CountMin::kSaturated ? UINT64_MAX : estimate - std::min<uint64_t>(estimate, n);
  return out;
}

Limiter::Admission Limiter::contest_metric(MetricEntry& metric, uint64_t hash, uint64_t n,
                                           uint64_t random) {
  CountMin& sketch = *sketch_of(metric);
  // Weir's own rows are not in the pool: they give way to nobody.
  std::optional<Row> lightest;
  if (!metric.own) lightest = lightest_of_sample(metric.rows, random, Only::kAny);
  Admission out = contest(sketch, hash, n, frequency_of(lightest));
  if (!out.named) return out;
  out.missed_upper_bound = std::min(out.missed_upper_bound, metric.overflow_events - n);
  out.victim = lightest;
  remove(*lightest);
  ++metric.evicted;
  metric.overflow_events -= n;  // this one is named
  return out;
}

Limiter::Admission Limiter::contest_table(uint64_t hash, uint64_t n, uint64_t random, Only only) {
  if (!table_sketch_) table_sketch_ = std::make_unique<CountMin>();
  const auto lightest = lightest_of_sample(pool_, random, only);
  Admission out = contest(*table_sketch_, hash, n, frequency_of(lightest));
  if (!out.named) return out;
  out.victim = lightest;
  ++metrics_[rows_[*lightest].metric].evicted;
  remove(*lightest);
  return out;
}

Limiter::RowState& Limiter::make_row(Row row, MetricNumber metric) {
  if (row >= rows_.size()) {
    rows_.resize(size_t{row} + 1);
    frequency_.resize(rows_.size());
  }
  RowState& state = rows_[row];
  WEIR_CHECK(state.metric == kNone && metrics_.at(metric).known);
  state.metric = metric;
  return state;
}

void Limiter::enter_pool(Row row) {
  rows_[row].at_pool = static_cast<uint32_t>(pool_.size());
  pool_.push_back(row);
}

void Limiter::leave_pool(Row row) {
  const uint32_t at = std::exchange(rows_[row].at_pool, kNone);
  if (at == kNone) return;
  pool_[at] = pool_.back();
  rows_[pool_[at]].at_pool = at;
  pool_.pop_back();
  rows_[row].at_pool = kNone;
}

void Limiter::add(Row row, MetricNumber metric, std::span<const LabelView> fitted) {
  RowState& state = make_row(row, metric);
  MetricEntry& entry = metrics_[metric];
  state.hash = hash_of(entry, fitted);
  state.at_metric = static_cast<uint32_t>(entry.rows.size());
  entry.rows.push_back(row);
  if (entry.own && own_rows_ < kOwnSeries) {
    ++own_rows_;
  } else {
    enter_pool(row);
  }
  if (entry.overflow != kNone) leave_pool(entry.overflow);
  for (const LabelView& label : fitted) {
    if (!is_counted(label)) continue;
    const auto value = LabelValues::key_of(metric, label.name, label.value);
    values_.add(value, metric, label.name);
    state.values.push_back(value.value);
  }
}

void Limiter::add_overflow(Row row, MetricNumber metric) {
  RowState& state = make_row(row, metric);
  state.overflow = true;
  state.hash = metrics_[metric].name_hash;
  WEIR_CHECK(metrics_[metric].overflow == kNone);
  metrics_[metric].overflow = row;
  if (metrics_[metric].rows.empty()) enter_pool(row);
}

void Limiter::remove(Row row) {
  RowState& state = rows_.at(row);
  WEIR_CHECK(state.metric != kNone);
  MetricEntry& entry = metrics_[state.metric];
  if (state.overflow) {
    leave_pool(row);
    entry.overflow = kNone;
  } else {
    if (state.at_pool == kNone) --own_rows_;
    leave_pool(row);
    const uint32_t at = state.at_metric;
    entry.rows[at] = entry.rows.back();
    rows_[entry.rows[at]].at_metric = at;
    entry.rows.pop_back();
    if (entry.rows.empty() && entry.overflow != kNone) enter_pool(entry.overflow);
    for (const LabelValues::Key value : state.values) values_.remove(value);
  }
  rows_[row] = {};
  frequency_[row] = 0;
}

bool Limiter::is_last_of_metric(Row row) const {
  const RowState& state = rows_[row];
  const MetricEntry& entry = metrics_[state.metric];
  return state.overflow ? entry.rows.empty() : entry.rows.size() == 1 && entry.overflow == kNone;
}

size_t Limiter::rows(MetricNumber metric) const { return metrics_.at(metric).rows.size(); }

std::optional<Limiter::Row> Limiter::overflow_row(MetricNumber metric) const {
  const Row row = metrics_.at(metric).overflow;
  return row == kNone ? std::nullopt : std::optional(row);
}

Limiter::MetricState Limiter::state(MetricNumber metric) const {
  const MetricEntry& entry = metrics_.at(metric);
  return {entry.limit, entry.rows.size(), entry.overflow_events, entry.evicted};
}

size_t Limiter::memory_bytes() const {
  size_t bytes = sizeof *this + frequency_.capacity() * sizeof(uint32_t) +
                 rows_.capacity() * sizeof(RowState) + metrics_.capacity() * sizeof(MetricEntry) +
                 pool_.capacity() * sizeof(Row) + values_.memory_bytes() +
                 (sketches_ + (table_sketch_ ? 1 : 0)) * sizeof(CountMin);
  for (const RowState& row : rows_) bytes += row.values.capacity() * sizeof(LabelValues::Key);
  for (const MetricEntry& metric : metrics_) {
    bytes += metric.rows.capacity() * sizeof(Row) + metric.name.capacity();
  }
  return bytes;
}

}  // namespace weir
