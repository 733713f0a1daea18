#include "aggregator/store/row_deltas.h"

namespace weir::aggregator {

void RowDeltas::add(uint32_t row, Value&& value) {
  const auto [first, last] = rows_.equal_range(row);
  for (auto at = first; at != last; ++at) {
    if (merge(at->second, value).ok()) return;
  }
  if (first != last) ++unmerged_;
  rows_.emplace_hint(last, row, std::move(value));
}

void RowDeltas::add(uint32_t row, const Value& value) {
  const auto [first, last] = rows_.equal_range(row);
  for (auto at = first; at != last; ++at) {
    if (merge(at->second, value).ok()) return;
  }
  if (first != last) ++unmerged_;
  rows_.emplace_hint(last, row, value);
}

void RowDeltas::prune() {
  for (auto& [row, value] : rows_) weir::prune(value);
}

std::vector<std::pair<uint32_t, const Value*>> RowDeltas::entries() const {
  std::vector<std::pair<uint32_t, const Value*>> out;
  out.reserve(rows_.size());
  for (const auto& [row, value] : rows_) out.emplace_back(row, &value);
  return out;
}

uint64_t RowDeltas::mass() const {
  uint64_t sum = 0;
  for (const auto& [row, value] : rows_) sum += weir::mass(value);
  return sum;
}

size_t memory_of(const Value& value) { return sizeof(Value) + heap_bytes(value); }

}  // namespace weir::aggregator
