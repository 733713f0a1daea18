#include "common/series.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/utf8.h"

namespace weir {

namespace {

void put(Bytes& out, ByteView bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

// Both write into `space`, which only ever grows, and return the part that is the key.
ByteView whole_key(Bytes& space, const Metric& metric) {
  space.clear();
  space.push_back(static_cast<std::byte>(metric.kind));
  space.push_back(static_cast<std::byte>(metric.quantum));
  const auto unit_size = static_cast<uint32_t>(metric.unit.size());
  put(space, std::as_bytes(std::span(&unit_size, 1)));
  put(space, as_bytes(metric.unit));
  put(space, as_bytes(metric.name));
  return space;
}

ByteView views_key(Bytes& space, std::span<const LabelView> labels) {
  size_t size = 0;
  for (const LabelView& label : labels) {
    size += 2 * sizeof(uint32_t) + label.name.size() + label.value.size();
  }
  if (space.size() < size) space.resize(size);
  std::byte* at = space.data();
  const auto add_text = [&at](std::string_view text) {
    const auto length = static_cast<uint32_t>(text.size());
    std::memcpy(at, &length, sizeof length);
    at += sizeof length;
    if (!text.empty()) std::memcpy(at, text.data(), text.size());
    at += text.size();
  };
  for (const LabelView& label : labels) {
    add_text(label.name);
    add_text(label.value);
  }
  return ByteView(space).first(size);
}

// A form's symbols: name, value, name, value.
Symbol symbol_at(ByteView form, size_t i) {
  Symbol symbol = 0;
  std::memcpy(&symbol, form.data() + i * sizeof symbol, sizeof symbol);
  return symbol;
}

// What a metric's strings take beside themselves.
size_t text_bytes(const Metric& metric) {
  const auto outside = [](const std::string& text) {
    return text.capacity() > std::string().capacity() ? heap_bytes(text.capacity() + 1) : 0;
  };
  return outside(metric.name) + outside(metric.unit);
}

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

SeriesTable::SeriesTable(size_t max_series) : max_series_(max_series), generations_(1, 1) {
  WEIR_CHECK(max_series <= kMaxSeries);
}

const SeriesTable::MetricEntry& SeriesTable::live_metric(MetricId id) const {
  WEIR_CHECK(id < metrics_.size() && metrics_[id].whole != nullptr);
  return metrics_[id];
}

const SeriesTable::Series& SeriesTable::live(SeriesId id) const {
  WEIR_CHECK(id < series_.size() && series_[id].form != nullptr);
  return series_[id];
}

Result<MetricId> SeriesTable::find_metric(const Metric& metric) {
  uint32_t id = names_.find(kName, as_bytes(metric.name));
  if (id != ByteTable::kNone) {
    if (metrics_[id].metric == metric) return id;
    return invalid("metric " + metric.name + " exists with another kind or unit");
  }
  id = names_.find(kMetric, whole_key(scratch_, metric));
  if (id == ByteTable::kNone) return Error{Errc::kNotFound, "no such metric"};
  // The one that had the name before was removed.
  metrics_[id].name = names_.insert(kName, as_bytes(metric.name), id);
  return id;
}

Result<MetricId> SeriesTable::metric(const Metric& metric) {
  auto found = find_metric(metric);
  if (!found.ok() && found.error().code == Errc::kNotFound) return add_metric(metric);
  return found;
}

Result<MetricId> SeriesTable::metric_apart(const Metric& metric) {
  const uint32_t id = names_.find(kMetric, whole_key(scratch_, metric));
  return id != ByteTable::kNone ? Result<MetricId>(id) : add_metric(metric);
}

// Remembers the whole metric, and the name for whichever metric had it first.
Result<MetricId> SeriesTable::add_metric(const Metric& metric) {
  if (metric.name.empty()) return invalid("metric name is empty");
  WEIR_TRY(check_text(metric.name, "metric name"));
  WEIR_TRY(check_text(metric.unit, "metric unit"));
  if (metrics() >= kMaxMetrics) return Error{Errc::kLimit, "too many metrics"};
  if (free_metrics_.empty()) {
    free_metrics_.push_back(static_cast<MetricId>(metrics_.size()));
    metrics_.emplace_back();
  }
  const MetricId id = free_metrics_.back();
  free_metrics_.pop_back();
  MetricEntry& made = metrics_[id];
  made.metric = metric;
  made.whole = names_.insert(kMetric, whole_key(scratch_, metric), id);
  if (names_.find(kName, as_bytes(metric.name)) == ByteTable::kNone) {
    made.name = names_.insert(kName, as_bytes(metric.name), id);
  }
  text_bytes_ += text_bytes(made.metric);
  return id;
}

void SeriesTable::remove_metric(MetricId id) {
  WEIR_CHECK(live_metric(id).series == 0);
  MetricEntry& metric = metrics_[id];
  names_.erase(metric.whole);
  if (metric.name != nullptr) names_.erase(metric.name);
  text_bytes_ -= text_bytes(metric.metric);
  metric = {};
  free_metrics_.push_back(id);
}

Result<SeriesId> SeriesTable::resolve(MetricId metric, std::span<const LabelView> labels,
                                      OnMiss on_miss) {
  WEIR_CHECK(metric < metrics_.size());
  const ByteView spelling = views_key(spelling_, labels);
  SeriesId id = spellings_.find(kViews | metric, spelling);
  if (id != ByteTable::kNone) return id;

  WEIR_TRY_ASSIGN(const auto sorted, canonical(labels));
  form_.clear();
  bool known = true;
  for (const LabelView& label : sorted) {
    for (const std::string_view text : {label.name, label.value}) {
      const Symbol symbol = symbols_.find(text);
      known = known && symbol != ByteTable::kNone;
      put(form_, std::as_bytes(std::span(&symbol, 1)));
    }
  }
  if (known) id = names_.find(kForm | metric, form_);
  if (id != ByteTable::kNone) {
    remember(id, kViews, spelling);
    return id;
  }
  if (on_miss == OnMiss::kReport) return Error{Errc::kNotFound, "no such series"};
  if (size() >= max_series_) return Error{Errc::kLimit, "too many series"};
  return add_series(metric, sorted);
}

SeriesId SeriesTable::add_series(MetricId metric, std::span<const LabelView> sorted) {
  if (free_series_.empty()) {
    free_series_.push_back(static_cast<SeriesId>(series_.size()));
    series_.emplace_back();
    generations_.resize(series_.size(), 1);
  }
  const SeriesId id = free_series_.back();
  free_series_.pop_back();
  form_.clear();
  for (const LabelView& label : sorted) {
    for (const std::string_view text : {label.name, label.value}) {
      const Symbol symbol = symbols_.acquire(text);
      put(form_, std::as_bytes(std::span(&symbol, 1)));
    }
  }
  series_[id] = {names_.insert(kForm | metric, form_, id), nullptr, metric};
  ++metrics_[metric].series;
  return id;
}

void SeriesTable::remember(SeriesId id, uint32_t space, ByteView spelling) {
  Series& series = series_[id];
  ByteTable::Key* made = spellings_.insert(space | series.metric, spelling, id);
  made->next = series.spellings;
  series.spellings = made;
  ByteTable::Key* last = made;
  for (size_t kept = 1; kept < kSpellings && last != nullptr; ++kept) last = last->next;
  if (last == nullptr || last->next == nullptr) return;
  spellings_.erase(last->next);
  last->next = nullptr;
}

void SeriesTable::remember_raw(SeriesId id, ByteView raw) {
  const auto known = find_raw(live(id).metric, raw);
  WEIR_CHECK(!known || *known == id);
  if (!known) remember(id, kRaw, raw);
}

void SeriesTable::remove(SeriesId id) {
  const Series series = live(id);
  for (const ByteTable::Key* key = series.spellings; key != nullptr;) {
    const ByteTable::Key* next = key->next;
    spellings_.erase(key);
    key = next;
  }
  const ByteView form = series.form->bytes();
  for (size_t i = 0; i < form.size() / sizeof(Symbol); ++i) symbols_.release(symbol_at(form, i));
  names_.erase(series.form);
  --metrics_[series.metric].series;
  series_[id] = {};
  ++generations_[id];
  free_series_.push_back(id);
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

MetricId SeriesTable::metric_id_of(SeriesId id) const { return live(id).metric; }

const Metric& SeriesTable::metric_of(SeriesId id) const { return metrics_[live(id).metric].metric; }

const Metric& SeriesTable::metric_at(MetricId id) const { return live_metric(id).metric; }

size_t SeriesTable::series_of(MetricId id) const { return live_metric(id).series; }

Labels SeriesTable::labels_of(SeriesId id) const {
  const ByteView form = live(id).form->bytes();
  Labels out;
  for (size_t i = 0; i < form.size() / sizeof(Symbol); i += 2) {
    out.emplace_back(symbols_.text(symbol_at(form, i)), symbols_.text(symbol_at(form, i + 1)));
  }
  return out;
}

size_t SeriesTable::memory_bytes() const {
  return names_.memory_bytes() + spellings_.memory_bytes() + symbols_.memory_bytes() + text_bytes_ +
         metrics_.size() * sizeof(MetricEntry) + heap_bytes(series_.capacity() * sizeof(Series)) +
         heap_bytes((generations_.capacity() + free_series_.capacity()) * sizeof(uint32_t));
}

}  // namespace weir
