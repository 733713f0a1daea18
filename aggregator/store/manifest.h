#pragma once
// A manifest at rest: which (source, epoch, seq ranges) a fold contains.
//
// Pure. Promise: decode of anything else than an encoded manifest is an Error.

#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir::aggregator {

// Sorts, and joins ranges of one (source, epoch) that touch or overlap.
void coalesce(std::vector<SeqRange>& ranges);

[[nodiscard]] Bytes encode_manifest(const std::vector<SeqRange>& ranges);
[[nodiscard]] Result<std::vector<SeqRange>> decode_manifest(ByteView bytes);

}  // namespace weir::aggregator
