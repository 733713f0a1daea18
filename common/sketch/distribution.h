#pragma once
// Distribution: a base-2 exponential histogram of fixed scale with exact integer sum, min and max.
//
// Owner and thread: one owner, one thread; a value type. Promise: merging is commutative,
// associative and exact (integers only), so any merge tree gives the same encoded bytes; quantiles
// carry the interval that contains the true value. Cost: one allocation of 2 B per index between
// the lowest and highest filled group of 16, widened to 4 and 8 B as counts grow.
//
// Bucket i at scale s holds 2^(i/N) < x <= 2^((i+1)/N) with N = 2^s and x in the metric's unit;
// samples arrive as integers in quanta of 10^quantum units (common/sketch/index_table.h).

#include <cstdint>
#include <functional>
#include <memory>

#include "common/bytes.h"
#include "common/result.h"

namespace weir {

inline constexpr uint8_t kDefaultScale = 6;
inline constexpr uint64_t kMaxCount = (uint64_t{1} << 63) - 1;  // per row, all buckets together

// lo < true value <= hi, in the metric's unit; value is the stated answer 2*lo*hi/(lo+hi) clamped
// to [min, max].
struct Estimate {
  double value = 0;
  double lo = 0;
  double hi = 0;
};

class Distribution {
 public:
  explicit Distribution(int8_t quantum, uint8_t scale = kDefaultScale);

  // Adds n samples of `quanta` each. Fails (kLimit), adding nothing, if the count would pass
  // kMaxCount.
  Status add(uint64_t quanta, uint64_t n = 1);
  // Adds n samples to bucket `index` whose values are only known through `sum`, `min` and `max`
  // (kernel cells, imports). The caller clamps min and max into the filled buckets.
  Status add_bucket(int32_t index, uint64_t n);
  Status add_zero(uint64_t n);
  void add_totals(Int128 sum, uint64_t min, uint64_t max);

  // Same scale and quantum, else kInvalid. On failure nothing is changed.
  Status merge(const Distribution& other);

  // First bucket whose cumulative count is >= phi * n, in integers; phi in parts per billion.
  // kNotFound when empty.
  [[nodiscard]] Result<Estimate> quantile(uint32_t parts_per_billion) const;

  [[nodiscard]] uint64_t count() const;
  [[nodiscard]] uint64_t zero_count() const;
  [[nodiscard]] Int128 sum() const;    // quanta
  [[nodiscard]] uint64_t min() const;  // quanta; 0 when empty
  [[nodiscard]] uint64_t max() const;
  [[nodiscard]] uint8_t scale() const;
  [[nodiscard]] int8_t quantum() const;
  [[nodiscard]] bool empty() const { return count() == 0; }
  [[nodiscard]] double relative_error() const;  // of quantile(): 0.00542 at scale 6

  // Calls fn(index, count) for each filled positive bucket, ascending.
  void for_each_bucket(const std::function<void(int32_t, uint64_t)>& fn) const;
  [[nodiscard]] size_t memory_bytes() const;

  friend bool operator==(const Distribution&, const Distribution&);
};

}  // namespace weir
