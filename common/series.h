#pragma once
// SeriesTable: interns metrics and label sets; a series is then a u32.
//
// Owner: the edge loop, a fold, or a decode; one thread. Promise: the same metric and labels in
// any order give the same id; ids are dense from 0 and local to this table, never sent or stored.
// A removed series' id is given to another one; whoever keeps an id keeps a handle, and a handle of
// a removed series is never alive again.
// Cost: one hash of the labels as received and one compare on a hit, also for label sets that come
// unsorted or as raw bytes: a series remembers its last kSpellings of them, texts in a caller's
// order from the second time on. Label texts are held
// once (common/symbols.h). Bounded by max_series and kMaxMetrics; the limiter (common/limiter.h)
// decides before the first is met.

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "common/byte_table.h"
#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/symbols.h"

namespace weir {

using SeriesId = uint32_t;
using MetricId = uint32_t;
using Fingerprint = std::array<std::byte, 16>;

// What any tier refuses (kInvalid); the edge has narrower limits of its own.
inline constexpr size_t kMaxLabels = 64;
inline constexpr size_t kMaxLabelText = 1024;  // a metric name, unit, label name or value

// The canonical key (name, then labels sorted by name, each length-prefixed), and its BLAKE2b-128:
// identity across tiers. The full key is compared on first meeting.
[[nodiscard]] Bytes series_key(const Metric& metric, const Labels& labels);
[[nodiscard]] Fingerprint fingerprint(ByteView key);

// What sources keep. Generations start at 1: a default one is never alive.
struct SeriesHandle {
  SeriesId id = 0;
  uint32_t generation = 0;
  friend bool operator==(const SeriesHandle&, const SeriesHandle&) = default;
};

class SeriesTable {
 public:
  static constexpr size_t kMaxSeries = size_t{1} << 22;  // an edge passes its own limit
  static constexpr size_t kMaxMetrics = 100'000;
  static constexpr size_t kSpellings = 4;  // remembered for each series; the oldest goes first

  explicit SeriesTable(size_t max_series = kMaxSeries);

  // kInvalid: the same name with another kind, unit or quantum (refused at the edge), or text that
  // is empty, too long or not UTF-8. kLimit: table full.
  Result<MetricId> metric(const Metric& metric);
  // metric() without adding one: kNotFound instead.
  [[nodiscard]] Result<MetricId> find_metric(const Metric& metric);
  // As metric(), but another kind, unit or quantum is one more metric (upper tiers keep both).
  Result<MetricId> metric_apart(const Metric& metric);
  // It must have no series left. Its id is reused: its holder drops it before.
  void remove_metric(MetricId id);

  // Sorts a copy of the labels only on a miss. kInvalid: repeated name, empty name, text too long
  // or not UTF-8; an empty value means "no such label". kLimit: table full.
  Result<SeriesId> intern(MetricId metric, std::span<const LabelView> labels);
  Result<SeriesId> intern(MetricId metric, const Labels& labels);
  // intern() without adding a series: kNotFound instead.
  Result<SeriesId> find(MetricId metric, std::span<const LabelView> labels);

  // The series whose labels were received as these bytes, if it was remembered: a source's own
  // spelling, in a format of its own. Two formats for one metric begin with different bytes.
  [[nodiscard]] std::optional<SeriesId> find_raw(MetricId metric, ByteView raw) const {
    const uint32_t id = spellings_.find(kRaw | metric, raw);
    return id == ByteTable::kNone ? std::nullopt : std::optional<SeriesId>(id);
  }

  // For loops over many: the hash of a few raw forms ahead, then what lies at its place, then
  // find_raw() with it.
  [[nodiscard]] uint32_t prefetch_raw(MetricId metric, ByteView raw) const {
    const uint32_t tag = spellings_.tag_of(kRaw | metric, raw);
    spellings_.prefetch_place(tag);
    return tag;
  }

  void prefetch_found(uint32_t tag) const { spellings_.prefetch_key(tag); }

  [[nodiscard]] std::optional<SeriesId> find_raw(MetricId metric, ByteView raw,
                                                 uint32_t tag) const {
    const uint32_t id = spellings_.find(kRaw | metric, raw, tag);
    return id == ByteTable::kNone ? std::nullopt : std::optional<SeriesId>(id);
  }

  void remember_raw(SeriesId id, ByteView raw);  // known already: must be of the same series

  // Everything that led to this series is forgotten; its id will be another's.
  void remove(SeriesId id);

  [[nodiscard]] SeriesHandle handle(SeriesId id) const { return {id, generations_[id]}; }

  [[nodiscard]] uint32_t generation(SeriesId id) const { return generations_[id]; }

  // `handle` comes from this table, or is a default one.
  [[nodiscard]] bool alive(const SeriesHandle& handle) const {
    return generations_[handle.id] == handle.generation;
  }

  // Of a series (metric) that is not removed; references hold until it is.
  [[nodiscard]] MetricId metric_id_of(SeriesId id) const;
  [[nodiscard]] const Metric& metric_of(SeriesId id) const;
  [[nodiscard]] Labels labels_of(SeriesId id) const;
  [[nodiscard]] const Metric& metric_at(MetricId id) const;
  [[nodiscard]] size_t series_of(MetricId id) const;  // how many

  [[nodiscard]] size_t size() const { return series_.size() - free_series_.size(); }

  // One more than the greatest id there ever was, for arrays by id.
  [[nodiscard]] size_t ids() const { return series_.size(); }

  [[nodiscard]] size_t metrics() const { return metrics_.size() - free_metrics_.size(); }

  [[nodiscard]] size_t memory_bytes() const;  // as allocated; O(1)

 private:
  // The spaces of names_: names and whole metrics lead to metric ids, forms (the symbols of sorted
  // labels) to series ids. A metric id is added to kForm and to the spaces of spellings_.
  static constexpr uint32_t kName = 0U << 30;
  static constexpr uint32_t kMetric = 1U << 30;
  static constexpr uint32_t kForm = 2U << 30;
  // The spaces of spellings_, all to series ids; what is asked for each event is alone there.
  static constexpr uint32_t kViews = 0U << 30;  // texts of labels in the order of a caller
  static constexpr uint32_t kRaw = 1U << 30;

  struct MetricEntry {
    Metric metric;
    ByteTable::Key* name = nullptr;   // null: the name leads to another metric
    ByteTable::Key* whole = nullptr;  // null: removed
    uint32_t series = 0;
  };

  struct Series {
    ByteTable::Key* form = nullptr;       // null: removed
    ByteTable::Key* spellings = nullptr;  // newest first
    MetricId metric = 0;
  };

  enum class OnMiss : uint8_t { kAdd, kReport };

  Result<MetricId> add_metric(const Metric& metric);
  Result<SeriesId> resolve(MetricId metric, std::span<const LabelView> labels, OnMiss on_miss);
  SeriesId add_series(MetricId metric, std::span<const LabelView> sorted);
  void remember(SeriesId id, uint32_t space, ByteView spelling);
  [[nodiscard]] const MetricEntry& live_metric(MetricId id) const;
  [[nodiscard]] const Series& live(SeriesId id) const;

  size_t max_series_;
  ByteTable names_;
  ByteTable spellings_;
  Symbols symbols_;
  std::deque<MetricEntry> metrics_;
  std::vector<MetricId> free_metrics_;
  size_t text_bytes_ = 0;  // of the metrics' strings
  std::vector<Series> series_;
  std::vector<uint32_t> generations_;  // by series id
  std::vector<SeriesId> free_series_;
  Bytes scratch_;
  Bytes spelling_;
  Bytes form_;
};

}  // namespace weir
