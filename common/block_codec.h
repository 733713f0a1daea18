#pragma once
// The canonical bytes of up to 256 values of one metric and window (docs/wire.md "Block").
//
// Pure. Promise: equal values give equal bytes on every host and version; decode validates
// everything before the sink sees the first row, so a refused block changes nothing; no declared
// length allocates. zstd and CRC32C are outside (canonical means before zstd).

#include <cstdint>
#include <functional>
#include <span>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/value.h"

namespace weir {

inline constexpr size_t kMaxBlockRows = 256;

// All values must be of metric.kind; rows 1..256. Own broken invariant otherwise.
[[nodiscard]] Bytes encode_block(const Metric& metric, std::span<const Value* const> rows);

// Calls sink(row, value) for each row in order, after the whole block was checked.
Status decode_block(const Metric& metric, ByteView payload,
                    const std::function<void(size_t, Value&&)>& sink);

// Rows a payload claims, from its header only; for sizing.
Result<size_t> block_rows(ByteView payload);

}  // namespace weir
