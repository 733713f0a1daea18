#pragma once
// A manifest at rest: which (source, epoch, seq ranges) a fold contains.
//
// Pure. Promise: decode of anything else than an encoded manifest is an Error.

#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir::aggregator {

// Sorts, and joins entries of one (source, epoch), both kept or both lost, that follow each other.
void coalesce(std::vector<ManifestEntry>& entries);

[[nodiscard]] Bytes encode_manifest(const std::vector<ManifestEntry>& entries);
[[nodiscard]] Result<std::vector<ManifestEntry>> decode_manifest(ByteView bytes);

}  // namespace weir::aggregator
