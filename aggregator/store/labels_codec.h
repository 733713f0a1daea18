#pragma once
// Labels as bytes at rest: count, then each name and value length-prefixed. Equal labels give equal
// bytes, so the bytes are the key of the catalog.
//
// Pure. Promise: decode checks order, uniqueness and non-empty values; other bytes are damage
// (kIo).

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"

namespace weir::aggregator {

[[nodiscard]] Bytes encode_labels(const Labels& labels);
[[nodiscard]] Result<Labels> decode_labels(ByteView bytes);

}  // namespace weir::aggregator
