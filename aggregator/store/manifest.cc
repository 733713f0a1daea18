#include "aggregator/store/manifest.h"

#include <algorithm>

namespace weir::aggregator {

void coalesce(std::vector<SeqRange>& ranges) {
  std::ranges::sort(ranges);
  std::vector<SeqRange> out;
  for (const SeqRange& range : ranges) {
    const bool joins = !out.empty() && out.back().source == range.source &&
                       out.back().epoch == range.epoch && range.lo <= out.back().hi + 1;
    if (joins) {
      out.back().hi = std::max(out.back().hi, range.hi);
    } else {
      out.push_back(range);
    }
  }
  ranges = std::move(out);
}

Bytes encode_manifest(const std::vector<SeqRange>& ranges) {
  ByteWriter out;
  out.varint(ranges.size());
  for (const SeqRange& range : ranges) {
    out.append(range.source);
    out.put(range.epoch);
    out.put(range.lo);
    out.put(range.hi);
  }
  return std::move(out).take();
}

Result<std::vector<SeqRange>> decode_manifest(ByteView bytes) {
  ByteReader in(bytes);
  uint64_t count = 0;
  if (!in.varint(count)) return invalid("manifest: no count");
  std::vector<SeqRange> out;
  for (uint64_t i = 0; i < count; ++i) {
    SeqRange range;
    ByteView source;
    if (!in.view(range.source.size(), source) || !in.get(range.epoch) || !in.get(range.lo) ||
        !in.get(range.hi) || range.lo > range.hi) {
      return invalid("manifest: bad range");
    }
    std::ranges::copy(source, range.source.begin());
    out.push_back(range);
  }
  if (in.remaining() != 0) return invalid("manifest: bytes after the last range");
  return out;
}

}  // namespace weir::aggregator
