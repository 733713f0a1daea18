#pragma once
// CRC32C (Castagnoli), the checksum of every frame, outbox row and stored body.
//
// Pure, any thread. Promise: the same value on every host; crc32c("123456789") == 0xE3069283.
// Cost: the SSE4.2 instruction where the CPU has it (about 8 GB/s), else one table lookup a byte.

#include <cstdint>

#include "common/bytes.h"

namespace weir {

[[nodiscard]] uint32_t crc32c(ByteView bytes);

// The table form, which crc32c() falls back to; public so that a test can compare the two.
[[nodiscard]] uint32_t crc32c_portable(ByteView bytes);

}  // namespace weir
