#pragma once
// SeriesSet: the series of one select while windows are being added to them.
//
// Owner: one select. Promise: one entry per (metric, labels) and one per window in it; values of
// the same window merge exactly, at the coarser scale, and what cannot merge (a count beyond its
// limit) is counted, not guessed. Limits are checked
// as things are added. Cost: O(1) per block row, a hash lookup per inbox row.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregator/query/data_source.h"
#include "common/hash.h"
#include "common/result.h"

namespace weir::aggregator {

class SeriesSet {
 public:
  using Slot = uint32_t;

  explicit SeriesSet(const QueryLimits& limits) : limits_(&limits) {}

  // The same metric and labels give the same slot. It counts as a series once it has a value.
  Slot slot(const std::shared_ptr<const Metric>& metric, const Labels& labels);
  void add(Slot slot, const Window& window, Value&& value);
  // kLimit: series, rows or bytes; kUnavailable: the deadline. Call once per block.
  [[nodiscard]] Status status() const;

  [[nodiscard]] uint64_t unmerged() const { return unmerged_; }

  // Series that have windows, by metric and labels.
  [[nodiscard]] std::vector<SelectedSeries> take();

 private:
  const QueryLimits* limits_;
  std::map<Metric, std::unordered_map<std::string, Slot, TextHash, std::equal_to<>>> by_labels_;
  std::vector<SelectedSeries> series_;
  size_t used_ = 0;  // series with a value
  size_t rows_ = 0;
  size_t bytes_ = 0;
  uint64_t unmerged_ = 0;
};

}  // namespace weir::aggregator
