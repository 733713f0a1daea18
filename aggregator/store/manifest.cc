#include "aggregator/store/manifest.h"

#include <algorithm>

#include "common/crc32c.h"

namespace weir::aggregator {
namespace {

Error damaged() { return {Errc::kIo, "a stored manifest is damaged"}; }

uint32_t crc_of(ByteView manifest, const Bytes& row) {
  Bytes all(row);
  all.insert(all.end(), manifest.begin(), manifest.end());
  return crc32c(all);
}

}  // namespace

void coalesce(std::vector<ManifestEntry>& entries) {
  std::ranges::sort(entries, {}, &ManifestEntry::range);
  std::vector<ManifestEntry> out;
  for (const ManifestEntry& entry : entries) {
    const bool joins = !out.empty() && out.back().range.source == entry.range.source &&
                       out.back().range.epoch == entry.range.epoch &&
                       out.back().lost == entry.lost && entry.range.lo == out.back().range.hi + 1;
    if (joins) {
      out.back().range.hi = entry.range.hi;
      out.back().mass += entry.mass;
      out.back().cum_mass = entry.cum_mass;
    } else {
      out.push_back(entry);
    }
  }
  entries = std::move(out);
}

Bytes encode_manifest(const std::vector<ManifestEntry>& entries, const Bytes& row) {
  ByteWriter out;
  out.varint(entries.size());
  for (const auto& [range, mass, cum_mass, lost] : entries) {
    out.append(range.source);
    for (const uint64_t number : {range.epoch, range.lo, range.hi, mass, cum_mass}) out.put(number);
    out.put(static_cast<uint8_t>(lost));
  }
  out.put(crc_of(out.bytes(), row));
  return std::move(out).take();
}

Result<std::vector<ManifestEntry>> decode_manifest(ByteView bytes, const Bytes& row) {
  uint32_t crc = 0;
  if (bytes.size() < sizeof crc) return damaged();
  ByteReader tail(bytes.last(sizeof crc));
  bytes = bytes.first(bytes.size() - sizeof crc);
  if (!tail.get(crc) || crc != crc_of(bytes, row)) return damaged();
  ByteReader in(bytes);
  uint64_t count = 0;
  if (!in.varint(count)) return damaged();
  std::vector<ManifestEntry> out;
  for (uint64_t i = 0; i < count; ++i) {
    ManifestEntry entry;
    SeqRange& range = entry.range;
    ByteView source;
    uint8_t lost = 0;
    if (!in.view(range.source.size(), source) || !in.get(range.epoch) || !in.get(range.lo) ||
        !in.get(range.hi) || !in.get(entry.mass) || !in.get(entry.cum_mass) || !in.get(lost) ||
        range.lo > range.hi || lost > 1) {
      return damaged();
    }
    std::ranges::copy(source, range.source.begin());
    entry.lost = lost == 1;
    out.push_back(entry);
  }
  if (in.remaining() != 0) return damaged();
  return out;
}

}  // namespace weir::aggregator
