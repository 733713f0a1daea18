#pragma once
// check_batch: all that decode_batch refuses is refused, with the same error, and nothing is built
// but one value at a time. For doors, which pass the bytes on to who decodes them.
//
// Pure. Cost: no labels, and of distributions without negative samples, exemplars and counts beyond
// 16 bits no value either. It allocates for the tables of strings and sets.

#include <cstdint>
#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir {

// What a batch says of itself, its rows left out.
struct CheckedBatch {
  Window window;
  uint64_t mass = 0;
  uint64_t rows = 0;
  std::vector<ManifestEntry> manifest;
  uint64_t cum_mass = 0;
  uint32_t part = 0;
  uint32_t parts = 1;
};

[[nodiscard]] Result<CheckedBatch> check_batch(ByteView body, const BatchLimits& limits = {});

}  // namespace weir
