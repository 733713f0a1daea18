#pragma once
// RowDeltas: values of one metric and window by catalog row, on their way into or out of blocks.
//
// Owner: one fold, one compaction; a plain value. Promise: every value added is in it: what cannot
// be merged (another scale, a count beyond its limit) is kept beside the first as a further entry
// of the same row. Cost: one map node per row.

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "common/value.h"

namespace weir::aggregator {

class RowDeltas {
 public:
  void add(uint32_t row, Value&& value);
  void add(uint32_t row, const Value& value);

  void prune();  // weir::prune of every value, for sealed blocks and the next tier

  // Ascending by row; entries of one row follow each other.
  [[nodiscard]] std::vector<std::pair<uint32_t, const Value*>> entries() const;

  [[nodiscard]] bool empty() const { return rows_.empty(); }

  [[nodiscard]] size_t rows() const { return rows_.size(); }

  [[nodiscard]] uint64_t unmerged() const { return unmerged_; }

  [[nodiscard]] uint64_t mass() const;  // mod 2^64

 private:
  std::multimap<uint32_t, Value> rows_;
  uint64_t unmerged_ = 0;
};

// Heap and inline bytes of a value, for limits.
[[nodiscard]] size_t memory_of(const Value& value);

}  // namespace weir::aggregator
