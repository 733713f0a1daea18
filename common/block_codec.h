#pragma once
// The canonical bytes of up to 256 values of one metric and window (docs/wire.md "Block").
//
// Pure. Promise: equal values give equal bytes on every host and version; decode validates
// everything before the sink sees the first row, so a refused block changes nothing; no declared
// length allocates. What decodes encodes again to the same bytes. zstd and CRC32C are outside
// (canonical means before zstd).
//
//   version u8 = 1, kind u8, rows varint, columns varint,
//   then a directory of {column u8, encoding u8, length varint}, columns ascending,
//   then the columns' bytes in the same order.
//
// A column holds one entry per row; one whose entries are all the default is absent. Encodings:
// 1 minimal varints, 2 minimal zigzag varints, 3 bytes whose lengths other columns or they
// themselves give.

#include <cstdint>
#include <functional>
#include <span>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/value.h"

namespace weir {

inline constexpr size_t kMaxBlockRows = 256;

// All values must be of metric.kind, with samples unless they are counters or profiles (an empty
// delta is nothing to send); rows 1..256. Own broken invariant otherwise.
[[nodiscard]] Bytes encode_block(const Metric& metric, std::span<const Value* const> rows);

// Calls sink(row, value) for each row in order, after the whole block was checked.
Status decode_block(const Metric& metric, ByteView payload,
                    const std::function<void(size_t, Value&&)>& sink);

// The same checks and errors, without values that stay: the sum of their masses, mod 2^64.
Result<uint64_t> check_block(const Metric& metric, ByteView payload);

// Rows a payload claims, from its header only; for sizing.
Result<size_t> block_rows(ByteView payload);

}  // namespace weir
