// Distinct members and most frequent keys in a block.

#include <string_view>
#include <utility>
#include <vector>

#include "common/block_columns.h"
#include "common/check.h"
#include "common/sketch/packed_counts.h"

namespace weir::block {

namespace {

enum DistinctColumn : size_t {
  kDistinctN = 1,
  kHashes,  // how many; 0: registers
  kHash,    // the first as it is, then differences
  kWidths,  // one byte a group of 16 registers
  kPacked,
};

enum TopkColumn : size_t {
  kTopkN = 1,
  kErr,
  kFlags,
  kEntries,
  kCount,
  kKey,  // each length-prefixed, ascending
};

constexpr uint64_t kPrunedEarly = 1;  // of kFlags; the other bits are 0
constexpr size_t kGroups = Distinct::kRegisters / kGroupCounts;

Result<Value> decode_hashes(uint64_t n, uint64_t count, Readers& columns) {
  std::vector<uint64_t> hashes;
  hashes.reserve(count);
  uint64_t hash = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t difference = 0;
    if (!columns[kHash].varint(difference)) return damaged();
    if (difference > std::numeric_limits<uint64_t>::max() - hash) {
      return invalid("a hash is out of range");
    }
    hash += difference;
    hashes.push_back(hash);
  }
  WEIR_TRY_ASSIGN(auto distinct, Distinct::from_hashes(n, std::move(hashes)));
  return Value(std::move(distinct));
}

Result<Value> decode_registers(uint64_t n, Readers& columns) {
  ByteView widths;
  if (!columns[kWidths].view(kGroups, widths)) return damaged();
  std::vector<uint8_t> registers;
  registers.reserve(Distinct::kRegisters);
  for (const std::byte raw : widths) {
    const auto width = static_cast<uint8_t>(raw);
    ByteView packed;
    CountGroup group{};
    if (width > 8 || !columns[kPacked].view(size_t{2} * width, packed)) return damaged();
    unpack_counts(packed, width, group);
    if (packed_width(group) != width) return damaged();
    for (const uint64_t at : group) registers.push_back(static_cast<uint8_t>(at));
  }
  WEIR_TRY_ASSIGN(auto distinct, Distinct::from_registers(n, std::move(registers)));
  return Value(std::move(distinct));
}

}  // namespace

const Layout kDistinctLayout = {kAbsent,           Encoding::kVarint, Encoding::kVarint,
                                Encoding::kVarint, Encoding::kBytes,  Encoding::kBytes};

const Layout kTopkLayout = {kAbsent,           Encoding::kVarint, Encoding::kVarint,
                            Encoding::kVarint, Encoding::kVarint, Encoding::kVarint,
                            Encoding::kBytes};

void encode_row(const Distinct& distinct, Columns& columns) {
  WEIR_CHECK(distinct.n() > 0);
  columns[kDistinctN].varint(distinct.n());
  columns[kHashes].varint(distinct.hashes().size());
  uint64_t before = 0;
  for (const uint64_t hash : distinct.hashes()) {
    columns[kHash].varint(hash - before);
    before = hash;
  }
  Bytes widths;
  Bytes packed;
  const auto registers = distinct.registers();
  for (size_t at = 0; at < registers.size(); at += kGroupCounts) {
    CountGroup group{};
    for (size_t i = 0; i < kGroupCounts; ++i) group[i] = registers[at + i];
    const uint8_t width = packed_width(group);
    widths.push_back(static_cast<std::byte>(width));
    pack_counts(group, width, packed);
  }
  columns[kWidths].append(widths);
  columns[kPacked].append(packed);
}

void encode_row(const Topk& topk, Columns& columns) {
  WEIR_CHECK(topk.n() > 0);
  columns[kTopkN].varint(topk.n());
  columns[kErr].varint(topk.err());
  columns[kFlags].varint(topk.pruned_early() ? kPrunedEarly : 0);
  columns[kEntries].varint(topk.size());
  for (const auto& [key, count] : topk.by_key()) {
    columns[kCount].varint(count);
    columns[kKey].text(key);
  }
}

Result<Value> decode_distinct(Readers& columns) {
  uint64_t n = 0;
  uint64_t count = 0;
  if (!columns[kDistinctN].varint(n) || !columns[kHashes].varint(count) ||
      count > Distinct::kMaxList) {
    return damaged();
  }
  return count > 0 ? decode_hashes(n, count, columns) : decode_registers(n, columns);
}

// Every entry takes at least one byte of the keys' column, so their number is not trusted.
Result<Value> decode_topk(Readers& columns) {
  uint64_t n = 0;
  uint64_t err = 0;
  uint64_t flags = 0;
  uint64_t entries = 0;
  if (!columns[kTopkN].varint(n) || !columns[kErr].varint(err) || !columns[kFlags].varint(flags) ||
      !columns[kEntries].varint(entries) || flags > kPrunedEarly) {
    return damaged();
  }
  std::vector<Topk::Item> items;
  for (uint64_t i = 0; i < entries; ++i) {
    auto& [key, count] = items.emplace_back();
    if (!columns[kCount].varint(count) || !columns[kKey].text(key, Topk::kMaxKey) || key.empty()) {
      return damaged();
    }
  }
  WEIR_TRY_ASSIGN(auto topk, Topk::rebuild(items, n, err, (flags & kPrunedEarly) != 0));
  return Value(std::move(topk));
}

}  // namespace weir::block
