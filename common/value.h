#pragma once
// Value: what one series holds for one window. All that is stored or sent is a delta of this type,
// and deltas merge exactly. Value types: one owner, one thread.

#include <cstdint>
#include <variant>

#include "common/metric.h"
#include "common/profile.h"
#include "common/sketch/distinct.h"
#include "common/sketch/distribution.h"
#include "common/sketch/topk.h"

namespace weir {

struct Counter {
  uint64_t delta = 0;
  friend bool operator==(const Counter&, const Counter&) = default;
};

// Values are quanta. `last` is the greatest (time, source, value), so merging is order-free.
struct Gauge {
  uint64_t n = 0;
  Int128 sum = 0;
  int64_t min = 0;
  int64_t max = 0;

  struct Last {
    int64_t time_ns = 0;
    uint64_t source = 0;  // tie-break between hosts
    int64_t value = 0;
    friend auto operator<=>(const Last&, const Last&) = default;
  } last;

  Status add(int64_t value, int64_t time_ns, uint64_t source);
  friend bool operator==(const Gauge&, const Gauge&) = default;
};

using Value = std::variant<Counter, Gauge, Distribution, Profile, Distinct, Topk>;

[[nodiscard]] Kind kind_of(const Value& value);
[[nodiscard]] Value empty_value(const Metric& metric, uint8_t scale = kDefaultScale);

// Adds `from` into `into`. kInvalid when the kinds, scales or quanta differ; kLimit when a count
// would pass kMaxCount. On failure `into` is unchanged.
Status merge(Value& into, const Value& from);

// The additive mass of a value: counter delta, gauge n, distribution count, profile samples, the
// events of a distinct or topk. Merging adds it (mod 2^64), so batches can prove that a fold lost
// nothing.
[[nodiscard]] uint64_t mass(const Value& value);

// Whether there is anything to send: an empty delta is left out. A counter at zero is a statement.
[[nodiscard]] bool holds_something(const Value& value);

// Bytes on the heap, for limits.
[[nodiscard]] size_t heap_bytes(const Value& value);

// Brings a value that leaves a tier, or is sealed, to its lasting size: a topk to its capacity.
// Totals stay exact. The other kinds are of that size always.
void prune(Value& value);

}  // namespace weir
