#pragma once
// What the column inbox.body holds: a batch as it came, which is a zstd frame where that is shorter
// than the raw_len bytes in it.
//
// Pure. Cost: decode_batch, and of a frame the unpacking.

#include "common/batch.h"
#include "common/zstd.h"

namespace weir::aggregator {

inline Result<DecodedBatch> decode_stored(ByteView body, uint64_t raw_len) {
  if (raw_len > kBatchMaxBytes) return invalid("a batch of more than 4 MiB");
  if (body.size() == raw_len) return decode_batch(body);
  WEIR_TRY_ASSIGN(const Bytes raw, zstd_decompress(body, raw_len));
  return decode_batch(raw);
}

}  // namespace weir::aggregator
