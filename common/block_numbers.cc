// Counters and gauges in a block.

#include "common/block_columns.h"
#include "common/check.h"

namespace weir::block {

namespace {

enum CounterColumn : size_t { kDelta = 1 };

enum GaugeColumn : size_t {
  kGaugeN = 1,
  kGaugeSum,
  kGaugeMin,
  kGaugeSpread,  // max - min
  kGaugeLastTime,
  kGaugeLastSource,
  kGaugeLastValue,
};

bool consistent(const Gauge& gauge) {
  const auto n = static_cast<Int128>(gauge.n);
  return gauge.n > 0 && gauge.n <= kMaxCount && gauge.min <= gauge.max &&
         n * gauge.min <= gauge.sum && gauge.sum <= n * gauge.max;
}

}  // namespace

const Layout kCounterLayout = {kAbsent, Encoding::kVarint};

const Layout kGaugeLayout = {kAbsent,           Encoding::kVarint, Encoding::kZigzag,
                             Encoding::kZigzag, Encoding::kVarint, Encoding::kZigzag,
                             Encoding::kVarint, Encoding::kZigzag};

void encode_row(const Counter& counter, Columns& columns) {
  WEIR_CHECK(counter.delta <= kMaxCount);
  columns[kDelta].varint(counter.delta);
}

void encode_row(const Gauge& gauge, Columns& columns) {
  WEIR_CHECK(consistent(gauge));
  columns[kGaugeN].varint(gauge.n);
  columns[kGaugeSum].zigzag(gauge.sum);
  columns[kGaugeMin].zigzag(gauge.min);
  columns[kGaugeSpread].varint(static_cast<uint64_t>(gauge.max) - static_cast<uint64_t>(gauge.min));
  columns[kGaugeLastTime].zigzag(gauge.last.time_ns);
  columns[kGaugeLastSource].varint(gauge.last.source);
  columns[kGaugeLastValue].zigzag(gauge.last.value);
}

Result<Value> decode_counter(Readers& columns) {
  Counter counter;
  if (!columns[kDelta].varint(counter.delta)) return damaged();
  if (counter.delta > kMaxCount) return invalid("a counter passes 2^63-1");
  return Value(counter);
}

Result<Value> decode_gauge(Readers& columns) {
  Gauge gauge;
  uint64_t spread = 0;
  if (!columns[kGaugeN].varint(gauge.n) || !columns[kGaugeSum].zigzag128(gauge.sum) ||
      !columns[kGaugeMin].zigzag(gauge.min) || !columns[kGaugeSpread].varint(spread) ||
      !columns[kGaugeLastTime].zigzag(gauge.last.time_ns) ||
      !columns[kGaugeLastSource].varint(gauge.last.source) ||
      !columns[kGaugeLastValue].zigzag(gauge.last.value)) {
    return damaged();
  }
  const Int128 max = static_cast<Int128>(gauge.min) + static_cast<Int128>(spread);
  if (max > std::numeric_limits<int64_t>::max())
    return invalid("a gauge's maximum is out of range");
  gauge.max = static_cast<int64_t>(max);
  if (!consistent(gauge)) return invalid("a gauge's n, sum, min and max contradict each other");
  return Value(gauge);
}

}  // namespace weir::block
