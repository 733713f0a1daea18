#pragma once
// SeriesTable: interns metrics and label sets; a series is then a u32.
//
// Owner: the edge loop, a fold, or a decode; one thread. Promise: the same metric and labels in
// any order give the same id; ids are dense from 0 and local to this table, never sent or stored.
// Cost: one hash of the raw labels and one compare on a hit, also for label sets that come
// unsorted: up to kMaxAliases raw forms are remembered. Bounded by max_series,
// kMaxMetrics and kMaxAliases; the limiter (common/limiter.h) decides before the first is met.

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"

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

class SeriesTable {
 public:
  static constexpr size_t kMaxSeries = size_t{1} << 22;  // an edge passes its own limit
  static constexpr size_t kMaxMetrics = 100'000;
  static constexpr size_t kMaxAliases = size_t{1} << 16;

  explicit SeriesTable(size_t max_series = kMaxSeries);

  // kInvalid: the same name with another kind, unit or quantum (refused at the edge), or text that
  // is empty, too long or not UTF-8. kLimit: table full.
  Result<MetricId> metric(const Metric& metric);
  // metric() without adding one: kNotFound instead.
  [[nodiscard]] Result<MetricId> find_metric(const Metric& metric);
  // As metric(), but another kind, unit or quantum is one more metric (upper tiers keep both).
  Result<MetricId> metric_apart(const Metric& metric);

  // Sorts a copy of the labels only on a miss. kInvalid: repeated name, empty name, text too long
  // or not UTF-8; an empty value means "no such label". kLimit: table full.
  Result<SeriesId> intern(MetricId metric, std::span<const LabelView> labels);
  Result<SeriesId> intern(MetricId metric, const Labels& labels);
  // intern() without adding a series: kNotFound instead.
  Result<SeriesId> find(MetricId metric, std::span<const LabelView> labels);

  // References live as long as the table.
  [[nodiscard]] MetricId metric_id_of(SeriesId id) const;
  [[nodiscard]] const Metric& metric_of(SeriesId id) const;
  [[nodiscard]] const Labels& labels_of(SeriesId id) const;

  [[nodiscard]] size_t size() const { return series_.size(); }

  [[nodiscard]] size_t metrics() const { return metrics_.size(); }

 private:
  // From one form (bytes in text_) to what it names: a metric's name, a whole metric, or a metric
  // id with labels as received. The first four bytes keep the three apart.
  struct Slot {
    uint64_t hash = 0;
    size_t offset = 0;
    uint32_t size = 0;  // 0: empty slot
    uint32_t id = 0;
  };

  struct Series {
    MetricId metric = 0;
    Labels labels;
  };

  enum class OnMiss : uint8_t { kAdd, kReport };

  [[nodiscard]] size_t slot_of(uint64_t hash, ByteView form) const;  // its slot, or the empty one
  [[nodiscard]] bool lookup(ByteView form, uint64_t hash, uint32_t& id) const;
  void remember(ByteView form, uint64_t hash, uint32_t id);
  Result<MetricId> add_metric(const Metric& metric);
  Result<SeriesId> resolve(MetricId metric, std::span<const LabelView> labels, OnMiss on_miss);

  size_t max_series_;
  std::deque<Metric> metrics_;
  std::deque<Series> series_;
  std::vector<Slot> slots_;  // open addressing, at most half full
  size_t used_ = 0;
  size_t aliases_ = 0;
  Bytes text_;
  Bytes scratch_;
};

}  // namespace weir
