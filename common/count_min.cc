#include "common/count_min.h"

#include <algorithm>

namespace weir {

uint32_t CountMin::estimate(uint64_t hash) const {
  uint32_t least = kSaturated;
  for (size_t row = 0; row < kRows; ++row) {
    least = std::min<uint32_t>(least, cells_[row][column(hash, row)]);
  }
  return least;
}

uint32_t CountMin::add(uint64_t hash, uint64_t n) {
  const uint64_t sum = estimate(hash) + std::min<uint64_t>(n, kSaturated);
  const auto now = static_cast<uint32_t>(std::min<uint64_t>(sum, kSaturated));
  for (size_t row = 0; row < kRows; ++row) {
    uint16_t& cell = cells_[row][column(hash, row)];
    if (cell >= now) continue;
    sum_ += now - cell;
    cell = static_cast<uint16_t>(now);
  }
  return now;
}

void CountMin::halve() {
  sum_ = 0;
  for (auto& row : cells_) {
    for (uint16_t& cell : row) {
      cell /= 2;
      sum_ += cell;
    }
  }
}

}  // namespace weir
