// The end of a window, and giving way: what removes many rows at once.

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/limiter.h"

namespace weir {

std::vector<Limiter::Row> Limiter::close(uint32_t idle_windows) {
  std::vector<Row> out;
  if (next_limits_) {
    limits_ = *std::exchange(next_limits_, std::nullopt);
    for (MetricEntry& metric : metrics_) {
      if (metric.known) apply_rules(metric);
    }
  }
  for (MetricEntry& metric : metrics_) metric.overflow_events = metric.evicted = 0;
  elect_values(out);
  forget_idle(idle_windows, out);
  enforce_limits(out);
  halve();
  return out;
}

std::vector<Limiter::Row> Limiter::shed(size_t count) {
  std::vector<Row> out;
  evict_lightest(pool_, count, out);
  return out;
}

void Limiter::evict(Row row, std::vector<Row>& out) {
  ++metrics_[rows_[row].metric].evicted;
  remove(row);
  out.push_back(row);
}

void Limiter::evict_lightest(std::vector<Row> of, size_t count, std::vector<Row>& out) {
  if (count < of.size()) {
    const auto end = of.begin() + static_cast<std::ptrdiff_t>(count);
    std::nth_element(of.begin(), end, of.end(), [this](Row a, Row b) {
      return frequency_[a] != frequency_[b] ? frequency_[a] < frequency_[b] : a < b;
    });
    of.erase(end, of.end());
  }
  for (const Row row : of) evict(row, out);
}

void Limiter::elect_values(std::vector<Row>& out) {
  for (Row row = 0; row < rows_.size(); ++row) {
    for (const auto value : rows_[row].values) values_.weigh(value, frequency_[row]);
  }
  const auto lost = values_.elect([this](MetricNumber metric) {
    const MetricEntry& entry = metrics_[metric];
    return entry.own || entry.dry_run ? SIZE_MAX : entry.values_limit;
  });
  if (lost.empty()) return;
  for (Row row = 0; row < rows_.size(); ++row) {
    const auto& values = rows_[row].values;
    if (std::ranges::any_of(values, [&](auto value) { return lost.contains(value); })) {
      evict(row, out);
    }
  }
}

void Limiter::forget_idle(uint32_t idle_windows, std::vector<Row>& out) {
  for (Row row = 0; row < rows_.size(); ++row) {
    RowState& state = rows_[row];
    if (state.metric == kNone) continue;
    state.idle = frequency_[row] == state.at_close ? state.idle + 1 : 0;
    if (state.idle >= idle_windows) evict(row, out);
  }
}

void Limiter::enforce_limits(std::vector<Row>& out) {
  for (const MetricEntry& metric : metrics_) {
    if (metric.dry_run || metric.rows.size() <= metric.limit) continue;
    evict_lightest(metric.rows, metric.rows.size() - metric.limit, out);
  }
  while (pool_.size() > limits_.series) {  // an overflow row that is left alone takes a place
    evict_lightest(pool_, pool_.size() - limits_.series, out);
  }
}

void Limiter::halve() {
  for (Row row = 0; row < rows_.size(); ++row) {
    frequency_[row] /= 2;
    rows_[row].at_close = frequency_[row];
  }
  for (MetricEntry& metric : metrics_) {
    if (!metric.sketch) continue;
    if (metric.rows.size() < metric.limit) {  // there is room: nobody is turned away
      metric.sketch.reset();
      --sketches_;
    } else {
      metric.sketch->halve();
    }
  }
  if (!table_sketch_) return;
  if (!table_is_full() && sketches_ < kMaxSketches) {
    table_sketch_.reset();
  } else {
    table_sketch_->halve();
  }
}

}  // namespace weir
