#pragma once
// A manifest at rest: which (source, epoch, seq ranges) a fold contains, with a CRC32C of it and of
// its row's other columns. What a bit of it says is acknowledged to those below.
//
// Pure. Promise: decode of anything else than an encoded manifest of the same row is kIo.

#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir::aggregator {

// Sorts, and joins entries of one (source, epoch), both kept or both lost, that follow each other.
void coalesce(std::vector<ManifestEntry>& entries);

// `row`: what the row says beside the manifest. Not stored again.
[[nodiscard]] Bytes encode_manifest(const std::vector<ManifestEntry>& entries, const Bytes& row);
[[nodiscard]] Result<std::vector<ManifestEntry>> decode_manifest(ByteView bytes, const Bytes& row);

}  // namespace weir::aggregator
