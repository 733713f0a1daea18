#pragma once
// IntervalSet: which numbers are held, as disjoint inclusive ranges that never touch.
//
// Pure, one owner. Cost: O(log ranges) a call; memory is the number of gaps, not of numbers.

#include <cstdint>
#include <map>

namespace weir::aggregator {

class IntervalSet {
 public:
  // Adds lo..hi, lo <= hi; overlaps are fine.
  void add(uint64_t lo, uint64_t hi) {
    auto next = ranges_.upper_bound(lo);
    if (next != ranges_.begin()) {
      const auto before = std::prev(next);
      if (before->second >= lo || before->second + 1 == lo) {
        lo = before->first;
        if (before->second > hi) hi = before->second;
        ranges_.erase(before);
      }
    }
    while (next != ranges_.end() && (next->first <= hi || next->first - 1 == hi)) {
      if (next->second > hi) hi = next->second;
      next = ranges_.erase(next);
    }
    ranges_.emplace(lo, hi);
  }

  void remove(uint64_t number) {
    const auto* found = find(number);
    if (found == nullptr) return;
    const auto [lo, hi] = *found;
    ranges_.erase(lo);
    if (lo < number) ranges_.emplace(lo, number - 1);
    if (number < hi) ranges_.emplace(number + 1, hi);
  }

  // The range that holds `number`, or null.
  [[nodiscard]] const std::pair<const uint64_t, uint64_t>* find(uint64_t number) const {
    const auto next = ranges_.upper_bound(number);
    if (next == ranges_.begin()) return nullptr;
    const auto before = std::prev(next);
    return before->second >= number ? &*before : nullptr;
  }

  [[nodiscard]] bool contains(uint64_t number) const { return find(number) != nullptr; }

  [[nodiscard]] const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }  // lo, hi

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace weir::aggregator
