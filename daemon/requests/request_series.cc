#include "daemon/requests/request_series.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "common/check.h"
#include "common/sketch/index_table.h"

namespace weir::daemon {

namespace {

constexpr size_t kMaxKnownSeries = 16'384;  // of the cache only; it starts over when full

uint64_t requests_in(const RequestCell& cell) {
  return std::accumulate(cell.n.begin(), cell.n.end(), uint64_t{0});
}

// A value of bucket `index` nearest to `value`: the kernel's min and max may have lost a race, and
// a distribution's must lie in its first and last filled bucket.
uint64_t clamp_into(const IndexTable& table, uint64_t value, int32_t index) {
  if (value > 0 && table.index(value) == index) return value;
  const auto edge = [&](int32_t i) {  // the lowest value of bucket i
    auto v = static_cast<uint64_t>(std::max(table.lower_edge(i) * 1e9, 1.0));
    while (v > 1 && table.index(v - 1) >= i) --v;
    while (table.index(v) < i) ++v;
    return v;
  };
  return value == 0 || table.index(value) < index ? edge(index) : edge(index + 1) - 1;
}

// Adds a cell to a distribution of the kernel's scale: its buckets are the sketch's own.
void add_cell_as_it_is(Distribution& into, const RequestCell& cell) {
  const IndexTable& table = index_table(WEIR_SCALE, -9);
  const int32_t first = cell.key.octave * WEIR_OCTAVE_BUCKETS - WEIR_BUCKET_BASE;
  int32_t lowest = INT32_MAX;
  int32_t highest = INT32_MIN;
  bool zero = false;
  for (size_t slot = 0; slot < cell.n.size(); ++slot) {
    if (cell.n[slot] == 0) continue;
    if (cell.key.octave == 0 && slot == 0) {
      zero = into.add_zero(cell.n[slot]).ok();
      continue;
    }
    const int32_t index = first + static_cast<int32_t>(slot);
    if (!into.add_bucket(index, cell.n[slot]).ok()) continue;
    lowest = std::min(lowest, index);
    highest = std::max(highest, index);
  }
  if (highest == INT32_MIN) {
    if (zero) into.add_totals(0, 0, 0);
    return;
  }
  into.add_totals(static_cast<Int128>(cell.sum_ns),
                  zero ? 0 : clamp_into(table, cell.min_ns, lowest),
                  clamp_into(table, cell.max_ns, highest));
}

// A coarser one gets the buckets that its own lie in (a finer one is a mistake in
// daemon/config.cc).
void add_cell(Distribution& into, const RequestCell& cell) {
  if (into.scale() == WEIR_SCALE) return add_cell_as_it_is(into, cell);
  Distribution fine(-9, WEIR_SCALE);
  add_cell_as_it_is(fine, cell);
  WEIR_CHECK(into.merge(fine.coarsened(into.scale())).ok());
}

bool tells_last_byte(const weir_cell_key& key) { return key.what != WEIR_FIRST; }

// No answer ever began for an aborted one.
bool tells_first_byte(const weir_cell_key& key) {
  return key.what == WEIR_FIRST || (key.what == WEIR_WHOLE && key.status != WEIR_STATUS_ABORTED);
}

// How many requests a cell tells of: a first byte's were told of by their last byte's.
uint64_t told_of(const RequestCell& cell) {
  return tells_last_byte(cell.key) ? requests_in(cell) : 0;
}

}  // namespace

RequestSeries::Metrics::Metrics(const std::string& role)
    : duration{"http_" + role + "_request_duration_seconds", Kind::kDistribution, "seconds", -9},
      first_byte{"http_" + role + "_time_to_first_byte_seconds", Kind::kDistribution, "seconds",
                 -9},
      request_bytes{"http_" + role + "_request_bytes_total", Kind::kCounter, "bytes", 0},
      response_bytes{"http_" + role + "_response_bytes_total", Kind::kCounter, "bytes", 0} {}

RequestSeries::Key RequestSeries::key_of(const weir_cell_key& key) {
  return {key.cgroup, uint64_t{key.route} << 32 | uint64_t{key.port} << 16 | key.status,
          uint64_t{key.method} << 16 | uint64_t{key.role} << 8 | key.proto};
}

void RequestSeries::record(const RequestCell& cell, const RequestHarvest& harvest) {
  if (cell.key.proto != WEIR_PROTO_HTTP1) return record_connections(cell, harvest);
  if (labels_.generation() != generation_) known_.clear();
  generation_ = labels_.generation();
  const auto at = known_.find(key_of(cell.key));
  if (at == known_.end()) return record_named(cell, harvest, nullptr);
  Known& known = at->second;
  const auto& recorder = harvest.recorder;
  Handles& series = known.handles;
  const bool rest = !tells_last_byte(cell.key) ||
                    (recorder.alive(series.duration) && recorder.alive(series.request_bytes) &&
                     recorder.alive(series.response_bytes));
  if (rest && (!tells_first_byte(cell.key) || recorder.alive(series.first_byte))) {
    labels_.used(known.place, told_of(cell), harvest.now);
    add_values(cell, harvest, {}, series);
  } else {
    record_named(cell, harvest, &known);
  }
}

void RequestSeries::record_folded(const RequestCell& cell, const RequestHarvest& harvest) {
  const std::array<LabelView, 4> labels = {
      {{"service", kOtherName},
       {"http_route", kOtherName},
       {"http_request_method", "_OTHER"},
       {"http_response_status_class", status_class_name(cell.key.status)}}};
  Handles unkept;
  add_values(cell, harvest, labels, unkept);
}

void RequestSeries::record_named(const RequestCell& cell, const RequestHarvest& harvest,
                                 Known* known) {
  const weir_cell_key& key = cell.key;
  const auto name = labels_.name(key, told_of(cell), harvest.kernel, harvest.now);
  const auto port = std::to_string(key.port);
  const std::array<LabelView, 5> labels = {
      {{"service", name.service},
       {"http_route", name.route},
       {"http_request_method", method_name(key.method)},
       {"http_response_status_class", status_class_name(key.status)},
       {"server_port", port}}};
  Known fresh{.handles = {}, .place = name.place};
  add_values(cell, harvest, labels, known != nullptr ? known->handles : fresh.handles);
  if (known != nullptr) known->place = name.place;
  if (known != nullptr || !name.lasts) return;
  if (known_.size() >= kMaxKnownSeries) known_.clear();
  known_.emplace(key_of(key), fresh);
}

// Few, so their series are asked for each time.
void RequestSeries::record_connections(const RequestCell& cell, const RequestHarvest& harvest) {
  const weir_cell_key& key = cell.key;
  const auto service = labels_.service_of(key, harvest.kernel, harvest.now);
  const auto port = std::to_string(key.port);
  const std::array<LabelView, 3> labels = {
      {{"service", service.empty() ? "unknown" : std::string_view(service)},
       {"role", key.role == WEIR_ROLE_CLIENT ? "client" : "server"},
       {"server_port", port}}};
  const Metric& metric = key.proto == WEIR_PROTO_TLS ? tls_connections_ : http2_connections_;
  const uint64_t n = requests_in(cell);
  SeriesHandle series;
  if (find(harvest.recorder, series, metric, labels, n)) {
    harvest.recorder.count(series, harvest.when, n);
  }
}

// Each series is asked for just before its use: naming the next one may cost it its place.
void RequestSeries::add_values(const RequestCell& cell, const RequestHarvest& harvest,
                               std::span<const LabelView> labels, Handles& series) {
  auto& recorder = harvest.recorder;
  const Metrics& metrics = cell.key.role == WEIR_ROLE_CLIENT ? client_ : server_;
  // 0: bytes that followed an answer already counted.
  const uint64_t n = requests_in(cell);
  if (n > 0 && tells_first_byte(cell.key)) {
    add_times(cell, n, harvest, metrics.first_byte, labels, series.first_byte);
  }
  if (!tells_last_byte(cell.key)) return;
  requests_ += n;
  if (n > 0) add_times(cell, n, harvest, metrics.duration, labels, series.duration);
  if (find(recorder, series.request_bytes, metrics.request_bytes, labels, n)) {
    recorder.count(series.request_bytes, harvest.when, cell.request_bytes);
  }
  if (find(recorder, series.response_bytes, metrics.response_bytes, labels, n)) {
    recorder.count(series.response_bytes, harvest.when, cell.response_bytes);
  }
}

void RequestSeries::add_times(const RequestCell& cell, uint64_t n, const RequestHarvest& harvest,
                              const Metric& metric, std::span<const LabelView> labels,
                              SeriesHandle& series) {
  if (!find(harvest.recorder, series, metric, labels, n)) return;
  if (Value* value = harvest.recorder.open(series, harvest.when, n)) {
    add_cell(std::get<Distribution>(*value), cell);
  }
}

bool RequestSeries::find(Recorder& recorder, SeriesHandle& kept, const Metric& metric,
                         std::span<const LabelView> labels, uint64_t events) {
  if (recorder.alive(kept)) return true;
  const auto series = recorder.series(metric, labels, events);
  if (series.ok()) {
    kept = *series;
  } else {
    ++refused_;
  }
  return series.ok();
}

}  // namespace weir::daemon
