#pragma once
// zstd for batches and sealed blocks. The only file that includes zstd.h is common/zstd.cc.
//
// Pure. Promise: decompression allocates exact_size bytes at most, and only after the frame itself
// said that it holds exactly that many. Cost: level 1 is about 0.65 of the size of packed blocks.

#include <cstddef>

#include "common/bytes.h"
#include "common/result.h"

namespace weir {

[[nodiscard]] Result<Bytes> zstd_compress(ByteView raw, int level);

// kInvalid unless `frame` is one whole zstd frame of exactly `exact_size` bytes of content. The
// caller bounds exact_size.
[[nodiscard]] Result<Bytes> zstd_decompress(ByteView frame, size_t exact_size);

}  // namespace weir
