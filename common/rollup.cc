#include "common/rollup.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace weir {

Rollup::Rollup(uint32_t width_s) : width_s_(width_s) { WEIR_CHECK(width_s > 0); }

void Rollup::grow(Open& window, SeriesId series) {
  window.index.resize(std::max<size_t>(size_t{series} + 1, 2 * window.index.size()), 0);
}

Rollup::Open& Rollup::other_window(int64_t unix_s) {
  last_start_s_ = window_at(unix_s, width_s_).start_s;
  last_ = &windows_[last_start_s_];
  return *last_;
}

Value* Rollup::find(Open& window, SeriesId series) {
  const uint32_t at = series < window.index.size() ? window.index[series] : 0;
  return at == 0 ? nullptr : &window.deltas[at - 1].value;
}

// The last delta takes the place that becomes free.
void Rollup::drop(Open& window, SeriesId series) {
  const uint32_t at = std::exchange(window.index[series], 0);
  Delta& gone = window.deltas[at - 1];
  if (at < window.deltas.size()) {
    gone = std::move(window.deltas.back());
    window.index[gone.series] = at;
  }
  window.deltas.pop_back();
}

Value& Rollup::at(SeriesId series, const Metric& metric, int64_t unix_s, uint8_t scale) {
  Open& open = window(unix_s);
  uint32_t& at = place(open, series);
  if (at == 0) {
    open.deltas.push_back({series, empty_value(metric, scale)});
    at = static_cast<uint32_t>(open.deltas.size());
  }
  return open.deltas[at - 1].value;
}

Status Rollup::merge(SeriesId series, int64_t unix_s, const Value& value) {
  Open& open = window(unix_s);
  uint32_t& at = place(open, series);
  if (at != 0) return weir::merge(open.deltas[at - 1].value, value);
  open.deltas.push_back({series, value});
  at = static_cast<uint32_t>(open.deltas.size());
  return {};
}

Status Rollup::fold(SeriesId from, SeriesId into) {
  WEIR_CHECK(from != into);
  // Each merge is all or nothing by itself; of several, all but the last are tried on copies.
  std::vector<std::pair<Open*, const Value*>> both;
  for (auto& [start, open] : windows_) {
    const Value* value = find(open, from);
    if (value != nullptr && find(open, into) != nullptr) both.emplace_back(&open, value);
  }
  std::vector<Value> merged;
  for (size_t i = 0; i < both.size(); ++i) {
    Value* target = find(*both[i].first, into);
    if (i + 1 < both.size()) target = &merged.emplace_back(*target);
    WEIR_TRY(weir::merge(*target, *both[i].second));
  }
  for (size_t i = 0; i < merged.size(); ++i) *find(*both[i].first, into) = std::move(merged[i]);

  for (auto& [start, open] : windows_) {
    if (find(open, from) == nullptr) continue;
    uint32_t& target = place(open, into);
    if (target != 0) {
      drop(open, from);
    } else {
      target = std::exchange(open.index[from], 0);
      open.deltas[target - 1].series = into;
    }
  }
  return {};
}

uint64_t Rollup::forget(SeriesId series) {
  uint64_t dropped = 0;
  for (auto& [start, open] : windows_) {
    const Value* value = find(open, series);
    if (value == nullptr) continue;
    dropped += mass(*value);
    drop(open, series);
  }
  return dropped;
}

std::vector<Delta> Rollup::take(int64_t window_start_s) {
  std::vector<Delta> out;
  auto taken = windows_.extract(window_start_s);
  if (taken.empty()) return out;
  last_ = nullptr;
  Open& open = taken.mapped();
  out.reserve(open.deltas.size());
  for (const uint32_t at : open.index) {
    if (at == 0 || !holds_something(open.deltas[at - 1].value)) continue;
    out.push_back(std::move(open.deltas[at - 1]));
  }
  return out;
}

std::vector<int64_t> Rollup::open_windows() const {
  std::vector<int64_t> out;
  for (const auto& [start, open] : windows_) out.push_back(start);
  return out;
}

size_t Rollup::memory_bytes() const {
  size_t bytes = sizeof *this;
  for (const auto& [start, open] : windows_) {
    bytes += open.index.capacity() * sizeof(uint32_t) + open.deltas.capacity() * sizeof(Delta);
    for (const Delta& delta : open.deltas) bytes += heap_bytes(delta.value);
  }
  return bytes;
}

}  // namespace weir
