#include "common/series.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/hash.h"
#include "common/utf8.h"

namespace weir {

namespace {

// First word of a form. Metric ids stay below both.
constexpr uint32_t kNameForm = UINT32_MAX;
constexpr uint32_t kMetricForm = UINT32_MAX - 1;

void put(Bytes& out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

void put(Bytes& out, uint32_t value) { put(out, std::as_bytes(std::span(&value, 1))); }

void put_text(Bytes& out, std::string_view text) {
  put(out, static_cast<uint32_t>(text.size()));
  put(out, as_bytes(text));
}

// The hot one: writes into `space`, which only ever grows, and returns the part that is the form.
ByteView label_form(Bytes& space, MetricId metric, std::span<const LabelView> labels) {
  size_t size = sizeof metric;
  for (const LabelView& label : labels) {
    size += 2 * sizeof(uint32_t) + label.name.size() + label.value.size();
  }
  if (space.size() < size) space.resize(size);
  std::byte* at = space.data();
  const auto add = [&at](const void* from, size_t bytes) {
    std::memcpy(at, from, bytes);
    at += bytes;
  };
  const auto add_text = [&add](std::string_view text) {
    const auto length = static_cast<uint32_t>(text.size());
    add(&length, sizeof length);
    if (!text.empty()) add(text.data(), text.size());
  };
  add(&metric, sizeof metric);
  for (const LabelView& label : labels) {
    add_text(label.name);
    add_text(label.value);
  }
  return ByteView(space).first(size);
}

void name_form(Bytes& out, const Metric& metric) {
  out.clear();
  put(out, kNameForm);
  put(out, as_bytes(metric.name));
}

void metric_form(Bytes& out, const Metric& metric) {
  out.clear();
  put(out, kMetricForm);
  put(out, static_cast<uint32_t>(metric.kind));
  put(out, static_cast<uint32_t>(metric.quantum + 128));
  put_text(out, metric.unit);
  put(out, as_bytes(metric.name));
}

uint64_t hash_form(ByteView form) { return hash64(form, process_seed()); }

Status check_text(std::string_view text, std::string_view what) {
  if (text.size() > kMaxLabelText) return invalid(std::string(what) + " is too long");
  if (!is_utf8(text)) return invalid(std::string(what) + " is not UTF-8");
  return {};
}

// Sorted, without empty values; or why these are no labels.
Result<std::vector<LabelView>> canonical(std::span<const LabelView> labels) {
  std::vector<LabelView> out;
  for (const LabelView& label : labels) {
    if (label.name.empty()) return invalid("label name is empty");
    WEIR_TRY(check_text(label.name, "label name"));
    WEIR_TRY(check_text(label.value, "label value"));
    if (!label.value.empty()) out.push_back(label);
  }
  if (out.size() > kMaxLabels) return invalid("too many labels");
  std::sort(out.begin(), out.end(),
            [](const LabelView& a, const LabelView& b) { return a.name < b.name; });
  const auto same = [](const LabelView& a, const LabelView& b) { return a.name == b.name; };
  const auto twin = std::adjacent_find(out.begin(), out.end(), same);
  if (twin != out.end()) return invalid("label " + std::string(twin->name) + " is repeated");
  return out;
}

}  // namespace

Bytes series_key(const Metric& metric, const Labels& labels) {
  ByteWriter out;
  out.text(metric.name);
  for (const auto& [name, value] : labels) {
    out.text(name);
    out.text(value);
  }
  return std::move(out).take();
}

Fingerprint fingerprint(ByteView key) {
  Fingerprint out{};
  const int failed = crypto_generichash(reinterpret_cast<unsigned char*>(out.data()), out.size(),
                                        reinterpret_cast<const unsigned char*>(key.data()),
                                        key.size(), nullptr, 0);
  WEIR_CHECK(failed == 0);
  return out;
}

SeriesTable::SeriesTable(size_t max_series) : max_series_(max_series), slots_(64) {
  WEIR_CHECK(max_series <= kMaxSeries);
}

size_t SeriesTable::slot_of(uint64_t hash, ByteView form) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.size == 0) return at;
    if (slot.hash == hash && slot.size == form.size() &&
        std::memcmp(text_.data() + slot.offset, form.data(), form.size()) == 0) {
      return at;
    }
  }
}

bool SeriesTable::lookup(ByteView form, uint64_t hash, uint32_t& id) const {
  const Slot& slot = slots_[slot_of(hash, form)];
  id = slot.id;
  return slot.size != 0;
}

void SeriesTable::remember(ByteView form, uint64_t hash, uint32_t id) {
  if (2 * ++used_ > slots_.size()) {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.size == 0) continue;
      slots_[slot_of(slot.hash, ByteView(text_).subspan(slot.offset, slot.size))] = slot;
    }
  }
  slots_[slot_of(hash, form)] = {hash, text_.size(), static_cast<uint32_t>(form.size()), id};
  put(text_, form);
}

Result<MetricId> SeriesTable::find_metric(const Metric& metric) {
  name_form(scratch_, metric);
  MetricId id = 0;
  if (!lookup(scratch_, hash_form(scratch_), id)) return Error{Errc::kNotFound, "no such metric"};
  if (metrics_[id] == metric) return id;
  return invalid("metric " + metric.name + " exists with another kind or unit");
}

Result<MetricId> SeriesTable::metric(const Metric& metric) {
  auto found = find_metric(metric);
  if (!found.ok() && found.error().code == Errc::kNotFound) return add_metric(metric);
  return found;
}

Result<MetricId> SeriesTable::metric_apart(const Metric& metric) {
  metric_form(scratch_, metric);
  MetricId id = 0;
  return lookup(scratch_, hash_form(scratch_), id) ? Result<MetricId>(id) : add_metric(metric);
}

// Remembers the whole metric, and the name for whichever metric had it first.
Result<MetricId> SeriesTable::add_metric(const Metric& metric) {
  if (metric.name.empty()) return invalid("metric name is empty");
  WEIR_TRY(check_text(metric.name, "metric name"));
  WEIR_TRY(check_text(metric.unit, "metric unit"));
  if (metrics_.size() >= kMaxMetrics) return Error{Errc::kLimit, "too many metrics"};
  const auto id = static_cast<MetricId>(metrics_.size());
  metrics_.push_back(metric);
  Bytes form;
  name_form(form, metric);
  MetricId first = 0;
  if (!lookup(form, hash_form(form), first)) remember(form, hash_form(form), id);
  metric_form(form, metric);
  remember(form, hash_form(form), id);
  return id;
}

Result<SeriesId> SeriesTable::resolve(MetricId metric, std::span<const LabelView> labels,
                                      OnMiss on_miss) {
  WEIR_CHECK(metric < metrics_.size());
  const ByteView raw = label_form(scratch_, metric, labels);
  const uint64_t raw_hash = hash_form(raw);
  SeriesId id = 0;
  if (lookup(raw, raw_hash, id)) return id;

  WEIR_TRY_ASSIGN(const auto sorted, canonical(labels));
  Bytes space;
  const ByteView form = label_form(space, metric, sorted);
  const bool is_alias = !std::ranges::equal(form, raw);
  if (!is_alias || !lookup(form, hash_form(form), id)) {
    if (on_miss == OnMiss::kReport) return Error{Errc::kNotFound, "no such series"};
    if (series_.size() >= max_series_) return Error{Errc::kLimit, "too many series"};
    id = static_cast<SeriesId>(series_.size());
    Series& made = series_.emplace_back();
    made.metric = metric;
    for (const LabelView& label : sorted) made.labels.emplace_back(label.name, label.value);
    remember(form, hash_form(form), id);
  }
  if (is_alias && aliases_ < kMaxAliases) {
    ++aliases_;
    remember(raw, raw_hash, id);
  }
  return id;
}

Result<SeriesId> SeriesTable::intern(MetricId metric, std::span<const LabelView> labels) {
  return resolve(metric, labels, OnMiss::kAdd);
}

Result<SeriesId> SeriesTable::intern(MetricId metric, const Labels& labels) {
  std::vector<LabelView> views;
  views.reserve(labels.size());
  for (const auto& [name, value] : labels) views.push_back({name, value});
  return resolve(metric, views, OnMiss::kAdd);
}

Result<SeriesId> SeriesTable::find(MetricId metric, std::span<const LabelView> labels) {
  return resolve(metric, labels, OnMiss::kReport);
}

MetricId SeriesTable::metric_id_of(SeriesId id) const {
  WEIR_CHECK(id < series_.size());
  return series_[id].metric;
}

const Metric& SeriesTable::metric_of(SeriesId id) const { return metrics_[metric_id_of(id)]; }

const Labels& SeriesTable::labels_of(SeriesId id) const {
  WEIR_CHECK(id < series_.size());
  return series_[id].labels;
}

}  // namespace weir
