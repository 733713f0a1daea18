#pragma once
// SeriesTable: interns metrics and label sets; a series is then a u32.
//
// Owner: the edge loop, a fold, or a decode; one thread. Promise: the same metric and labels in
// any order give the same id; ids are dense from 0 and local to this table, never sent or stored.
// Cost: one hash of the raw labels and one compare on a hit. Bounded by Limits::max_series; the
// limiter (common/limiter.h) decides what happens beyond it.

#include <array>
#include <cstdint>
#include <span>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"

namespace weir {

using SeriesId = uint32_t;
using MetricId = uint32_t;
using Fingerprint = std::array<std::byte, 16>;

// BLAKE2b-128 of the canonical key (name, then labels sorted by name, each length-prefixed):
// identity across tiers. The full key is compared on first meeting.
[[nodiscard]] Bytes series_key(const Metric& metric, const Labels& labels);
[[nodiscard]] Fingerprint fingerprint(ByteView key);

class SeriesTable {
 public:
  SeriesTable();
  // kInvalid: the same name with another kind, unit or quantum (refused at the edge).
  Result<MetricId> metric(const Metric& metric);
  // Sorts a copy of the labels only on a miss. kInvalid: repeated name, empty name, not UTF-8;
  // an empty value means "no such label". kLimit: table full.
  Result<SeriesId> intern(MetricId metric, std::span<const LabelView> labels);

  [[nodiscard]] const Metric& metric_of(SeriesId id) const;
  [[nodiscard]] const Labels& labels_of(SeriesId id) const;
  [[nodiscard]] size_t size() const;
};

}  // namespace weir
