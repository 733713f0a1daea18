#pragma once
// CountMin: how often was a key seen, for far more keys than there is room to count.
//
// Thread: one owner. Promise: an estimate is never below what was added for the key since it was
// last halved away; a cell stops at kSaturated, and an estimate of that says only "at least".
// Cost: 64 KiB; four cells touched per add. `hash` must be seeded (hash64 with process_seed()), or
// strangers choose keys that look frequent.

#include <array>
#include <cstddef>
#include <cstdint>

namespace weir {

class CountMin {
 public:
  static constexpr size_t kRows = 4;
  static constexpr size_t kColumns = 8192;
  static constexpr uint32_t kSaturated = 65'535;

  // Adds n for the key and returns its estimate. Only cells that must rise do (a conservative
  // update): an upper bound still, and a flood of keys seen once lifts it less.
  uint32_t add(uint64_t hash, uint64_t n);
  [[nodiscard]] uint32_t estimate(uint64_t hash) const;

  // What a key never added is expected to read: the mean of all cells.
  [[nodiscard]] uint32_t noise() const { return static_cast<uint32_t>(sum_ / (kRows * kColumns)); }

  // At window close: the past counts half.
  void halve();

 private:
  static size_t column(uint64_t hash, size_t row) { return hash >> (13 * row) & (kColumns - 1); }

  std::array<std::array<uint16_t, kColumns>, kRows> cells_{};
  uint64_t sum_ = 0;  // of all cells
};

}  // namespace weir
