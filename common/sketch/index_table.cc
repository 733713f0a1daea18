#include "common/sketch/index_table.h"

#include <array>
#include <atomic>
#include <cmath>
#include <memory>
#include <mutex>

#include "common/check.h"
#include "common/sketch/big_uint.h"

namespace weir {

namespace {

constexpr uint8_t kLowestScale = 0;
constexpr size_t kScales = 8;
constexpr size_t kQuanta = 4;  // 0, -3, -6, -9

// The greatest x with x^n <= limit, near `guess`: brackets by doubling steps, then halves. The
// guess only saves time; the comparison of integer powers alone decides.
UInt128 integer_root(const BigUint& limit, unsigned n, UInt128 guess) {
  const auto fits = [&](UInt128 x) { return power(BigUint(x), n) <= limit; };
  UInt128 lo = guess;
  UInt128 step = 1;
  while (!fits(lo)) {
    lo -= step;
    step *= 2;
  }
  UInt128 hi = lo + 1;
  step = 1;
  while (fits(hi)) {
    lo = hi;
    hi += step;
    step *= 2;
  }
  while (hi - lo > 1) {
    const UInt128 middle = lo + (hi - lo) / 2;
    (fits(middle) ? lo : hi) = middle;
  }
  return lo;
}

}  // namespace

// In quanta, boundary k is 2^(k/N) * 10^p with p = -quantum. `first` is the smallest k whose
// boundary is >= 1, so k = first .. first+N-1 are those of the octave [1, 2), which stands for
// all. For each, X = floor(boundary * 2^64) is the greatest integer with
// X^N <= 2^(64N + k + pN) * 5^(pN); the slot's bound is X - 2^64.
IndexTable::IndexTable(uint8_t scale, int8_t quantum)
    : scale_(scale), quantum_(quantum), slots_(size_t{2} << scale) {
  const int n = 1 << scale;
  const int p = -quantum;
  const BigUint fives = power(BigUint(5), static_cast<unsigned>(p * n));
  const int first = -(static_cast<int>(fives.bit_length()) - 1 + p * n);
  const auto shift = 63U - scale;

  const long double octave = static_cast<long double>(p) * std::log2(10.0L);
  std::vector<uint64_t> bounds;
  for (int k = first; k < first + n; ++k) {
    const long double boundary = std::exp2(static_cast<long double>(k) / n + octave);
    const auto limit = fives << static_cast<size_t>(64 * n + k + p * n);
    const auto guess = static_cast<UInt128>(std::ldexp(boundary, 64));
    const UInt128 root = integer_root(limit, static_cast<unsigned>(n), guess);
    bounds.push_back(static_cast<uint64_t>(root - (static_cast<UInt128>(1) << 64)));
  }

  size_t below = 0;  // boundaries before this slot's first value
  for (uint64_t j = 0; j < slots_.size(); ++j) {
    while (below < bounds.size() && bounds[below] < j << shift) ++below;
    slots_[j].sub = first - 1 + static_cast<int32_t>(below);
    if (below < bounds.size() && bounds[below] >> shift == j) slots_[j].bound = bounds[below];
  }
  lowest_ = index(1);
  highest_ = index(UINT64_MAX);
}

double IndexTable::lower_edge(int32_t index) const {
  return std::exp2(static_cast<double>(index) / static_cast<double>(1 << scale_));
}

double IndexTable::to_unit(double quanta) const {
  static constexpr std::array<double, 10> kPowers = {1e0, 1e1, 1e2, 1e3, 1e4,
                                                     1e5, 1e6, 1e7, 1e8, 1e9};
  return quanta / kPowers[static_cast<size_t>(-quantum_)];
}

bool index_supported(uint8_t scale, int8_t quantum) {
  return scale >= kLowestScale && scale < kLowestScale + kScales && quantum <= 0 &&
         quantum > -3 * static_cast<int>(kQuanta) && quantum % 3 == 0;
}

// Built once and kept for the life of the process: distributions point into the slots.
const IndexTable& index_table(uint8_t scale, int8_t quantum) {
  struct Entry {
    std::atomic<const IndexTable*> built;
    std::once_flag once;
    std::unique_ptr<const IndexTable> table;
  };

  static std::array<Entry, kScales * kQuanta> entries;

  WEIR_CHECK(index_supported(scale, quantum));
  Entry& entry = entries[(scale - kLowestScale) * kQuanta + static_cast<size_t>(-quantum / 3)];
  const IndexTable* built = entry.built.load(std::memory_order_acquire);
  if (built != nullptr) return *built;  // a quarter of what call_once takes to see it
  std::call_once(entry.once, [&] { entry.table = std::make_unique<IndexTable>(scale, quantum); });
  entry.built.store(entry.table.get(), std::memory_order_release);
  return *entry.table;
}

}  // namespace weir
