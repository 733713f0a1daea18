#include "aggregator/store/blocks.h"

#include <algorithm>
#include <string>

#include "common/block_codec.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/zstd.h"

namespace weir::aggregator {
namespace {

using Entry = std::pair<uint32_t, const Value*>;

constexpr uint8_t kDamagedMark = 128;  // added to the codec of a block that cannot be read

// The rows of one block: as many entries as fit, never splitting the limit of the block codec.
// Profiles and topks can be large, so few of them share a block.
size_t entries_per_block(Kind kind) {
  return kind == Kind::kProfile || kind == Kind::kTopk ? 16 : kMaxBlockRows;
}

Error damaged(const BlockKey& key, std::string_view why) {
  return {Errc::kIo, "block " + std::to_string(key.packed()) + ": " + std::string(why)};
}

BlockKey group_of(BlockKey key) {
  key.part = 0;
  return key;
}

// Of the statement that read_range_ is.
StoredBlock stored_block(const Statement& read) {
  return {.key = unpack_key(read.integer(0)),
          .codec = static_cast<uint8_t>(read.integer(1)),
          .rows = static_cast<uint32_t>(read.integer(2)),
          .raw_len = read.unsigned_integer(3),
          .crc = static_cast<uint32_t>(read.integer(4)),
          .body = read.blob(5)};
}

}  // namespace

Status decode_stored(const Metric& metric, const StoredBlock& block,
                     const std::function<void(uint32_t, Value&&)>& sink) {
  if (crc32c(block.body) != block.crc) return damaged(block.key, "CRC does not match");
  if (block.rows == 0 || block.rows > kMaxBlockRows || block.raw_len > kMaxStoredBlockBytes ||
      block.raw_len < block.rows || block.codec > 1) {
    return damaged(block.key, "bad row count, size or codec");
  }
  Bytes unpacked;
  ByteView raw = block.body;
  if (block.codec == 1) {
    auto plain = zstd_decompress(block.body, block.raw_len);
    if (!plain.ok()) return damaged(block.key, plain.error().message);
    unpacked = *std::move(plain);
    raw = unpacked;
  } else if (raw.size() != block.raw_len) {
    return damaged(block.key, "bad length");
  }
  const ByteView low = raw.first(block.rows);
  if (!std::ranges::is_sorted(low)) return damaged(block.key, "rows out of order");
  auto rows = block_rows(raw.subspan(block.rows));
  if (!rows.ok()) return damaged(block.key, rows.error().message);
  if (*rows != block.rows) return damaged(block.key, "another number of rows inside");
  const uint32_t base = block.key.shard * kRowsPerShard;
  auto decoded = decode_block(metric, raw.subspan(block.rows), [&](size_t i, Value&& value) {
    sink(base + static_cast<uint32_t>(low[i]), std::move(value));
  });
  if (!decoded.ok()) return damaged(block.key, decoded.error().message);
  return {};
}

Result<Blocks> Blocks::open(Database& db, const Catalog& catalog) {
  Blocks out(db, catalog);
  WEIR_TRY(out.prepare());
  return out;
}

Status Blocks::prepare() {
  WEIR_TRY_ASSIGN(last_part_, db_->prepare("SELECT max(key) FROM block WHERE key BETWEEN ? AND ?"));
  WEIR_TRY_ASSIGN(insert_, db_->prepare("INSERT INTO block(key,codec,rows,raw_len,crc,body) "
                                        "VALUES(?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(read_range_, db_->prepare("SELECT key,codec,rows,raw_len,crc,body FROM block "
                                            "WHERE key BETWEEN ? AND ? ORDER BY key"));
  WEIR_TRY_ASSIGN(erase_one_, db_->prepare("DELETE FROM block WHERE key = ?"));
  WEIR_TRY_ASSIGN(young_, db_->prepare("SELECT key FROM block INDEXED BY block_young "
                                       "WHERE codec = 0 AND key >= ? AND key < ? AND key NOT IN "
                                       "(SELECT key FROM block_open) ORDER BY key LIMIT 1"));
  WEIR_TRY_ASSIGN(put_open_, db_->prepare("INSERT INTO block_open VALUES(?,?)"));
  WEIR_TRY_ASSIGN(open_range_, db_->prepare("SELECT key FROM block_open WHERE key BETWEEN ? AND ? "
                                            "ORDER BY key"));
  WEIR_TRY_ASSIGN(erase_open_, db_->prepare("DELETE FROM block_open WHERE key = ?"));
  WEIR_TRY_ASSIGN(release_, db_->prepare("DELETE FROM block_open WHERE grp = ?"));
  WEIR_TRY_ASSIGN(open_, db_->prepare("SELECT key,length(body) FROM block_open JOIN block "
                                      "USING(key) ORDER BY key"));
  WEIR_TRY_ASSIGN(oldest_, db_->prepare("SELECT key,length(body) FROM block "
                                        "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"));
  WEIR_TRY_ASSIGN(add_counters_,
                  db_->prepare("UPDATE tier SET blocks = blocks + ?2, bytes = bytes + ?3, "
                               "newest = max(coalesce(newest, -1), ?4), windows = windows + ?5 "
                               "WHERE id = ?1"));
  WEIR_TRY_ASSIGN(mark_damaged_, db_->prepare("UPDATE block SET codec = codec + ?2 "
                                              "WHERE key = ?1 AND codec < ?2"));
  WEIR_TRY_ASSIGN(keep_, db_->prepare("INSERT OR IGNORE INTO kept(tier,win) VALUES(?,?)"));
  WEIR_TRY_ASSIGN(forget_, db_->prepare("DELETE FROM kept WHERE tier = ? AND win < ?"));
  return {};
}

Status Blocks::append(Grain grain, uint32_t metric, uint32_t window, const RowDeltas& deltas,
                      int64_t group) {
  const std::vector<Entry> entries = deltas.entries();
  Counters& count = counters(grain);
  count.newest = std::max(count.newest, int64_t{window});
  WEIR_TRY(keep_.bind(1, static_cast<int64_t>(grain)).bind(2, int64_t{window}).run());
  count.windows += db_->changes();
  for (size_t from = 0; from < entries.size();) {
    const uint32_t shard = entries[from].first / kRowsPerShard;
    size_t to = from;
    while (to < entries.size() && entries[to].first / kRowsPerShard == shard) ++to;
    WEIR_TRY(append_shard({grain, metric, window, shard, 0},
                          std::span(entries).subspan(from, to - from), group));
    from = to;
  }
  return {};
}

Result<uint32_t> Blocks::next_part(BlockKey key) {
  BlockKey last = key;
  last.part = kMaxParts - 1;
  last_part_.bind(1, key.packed()).bind(2, last.packed());
  WEIR_TRY_ASSIGN(const bool row, last_part_.step());
  WEIR_CHECK(row);
  const uint32_t next = last_part_.is_null(0) ? 0 : unpack_key(last_part_.integer(0)).part + 1;
  last_part_.reset();
  return next;
}

Status Blocks::append_shard(BlockKey key, std::span<const Entry> entries, int64_t group) {
  const size_t step = entries_per_block(catalog_->metric_of(key.metric).kind);
  const size_t parts = (entries.size() + step - 1) / step;
  WEIR_TRY_ASSIGN(key.part, next_part(key));
  if (key.part + parts <= kMaxParts) return append_parts(key, entries, group);
  key.part = 0;
  WEIR_TRY_ASSIGN(Group settled, read_group(key, Open::kLeave));
  if (!settled.open_keys.empty() || group != 0) {
    WEIR_TRY_ASSIGN(const bool fits, rewrite(key, settled, Codec::kRaw));
    WEIR_CHECK(fits);  // they lay in as many parts before
    WEIR_TRY_ASSIGN(key.part, next_part(key));
    if (key.part + parts <= kMaxParts) return append_parts(key, entries, group);
    key.part = 0;
    WEIR_TRY_ASSIGN(settled, read_group(key, Open::kTake));
  }
  for (const auto& [id, value] : entries) settled.deltas.add(id, *value);
  WEIR_TRY_ASSIGN(const bool fits, rewrite(key, settled, Codec::kRaw));
  if (!fits) return Error{Errc::kLimit, "a window of one metric has 64 parts"};
  return {};
}

Status Blocks::append_parts(BlockKey key, std::span<const Entry> entries, int64_t group) {
  const size_t step = entries_per_block(catalog_->metric_of(key.metric).kind);
  for (size_t from = 0; from < entries.size(); from += step, ++key.part) {
    WEIR_TRY(write_block(key, entries.subspan(from, std::min(step, entries.size() - from)),
                         Codec::kRaw));
    if (group != 0) WEIR_TRY(put_open_.bind(1, key.packed()).bind(2, group).run());
  }
  return {};
}

Status Blocks::release(int64_t group) { return release_.bind(1, group).run(); }

Status Blocks::take_back_open() {
  std::vector<int64_t> keys;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, open_.step());
    if (!more) break;
    keys.push_back(open_.integer(0));
    Counters& count = counters(unpack_key(keys.back()).grain);
    --count.blocks;
    count.bytes -= open_.integer(1);
  }
  for (const int64_t key : keys) WEIR_TRY(erase_block(key));
  return {};
}

Status Blocks::erase_block(int64_t key) {
  WEIR_TRY(erase_one_.bind(1, key).run());
  return erase_open_.bind(1, key).run();
}

Status Blocks::each_row(Grain grain, uint32_t metric, uint32_t from_window,
                        const std::function<void(uint32_t row, const Value&)>& sink) {
  const BlockKey last{grain, metric, kMaxWindows - 1, kMaxShards - 1, kMaxParts - 1};
  read_range_.bind(1, BlockKey{grain, metric, from_window, 0, 0}.packed());
  read_range_.bind(2, last.packed());
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, read_range_.step());
    if (!more) return {};
    const Status read = decode_stored(catalog_->metric_of(metric), stored_block(read_range_),
                                      [&](uint32_t row, Value&& value) { sink(row, value); });
    if (!read.ok()) continue;  // sealing meets it again, and marks and counts it
  }
}

Result<Blocks::Group> Blocks::read_group(BlockKey key, Open open) {
  Group group;
  BlockKey last = group_of(key);
  last.part = kMaxParts - 1;
  open_range_.bind(1, group_of(key).packed()).bind(2, last.packed());
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, open_range_.step());
    if (!more) break;
    group.open_keys.push_back(open_range_.integer(0));
  }
  if (open == Open::kTake) {
    merged_open_ += group.open_keys.size();
    group.open_keys.clear();
  }
  read_range_.bind(1, group_of(key).packed()).bind(2, last.packed());
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, read_range_.step());
    if (!more) break;
    const StoredBlock block = stored_block(read_range_);
    const int64_t packed = block.key.packed();
    if (std::ranges::binary_search(group.open_keys, packed)) continue;
    const auto size = static_cast<int64_t>(block.body.size());
    auto read = decode_stored(
        catalog_->metric_of(key.metric), block,
        [&](uint32_t row, Value&& value) { group.deltas.add(row, std::move(value)); });
    if (read.ok()) {
      group.good_keys.push_back(packed);
      group.good_bytes += size;
      if (block.codec == 0) ++group.young;
    } else {
      group.bad_keys.push_back(packed);
    }
  }
  // Marked, so that sealing meets each once. It keeps its bytes, and no reader takes that codec.
  for (const int64_t bad : group.bad_keys) {
    WEIR_TRY(mark_damaged_.bind(1, bad).bind(2, int64_t{kDamagedMark}).run());
    damaged_ += static_cast<uint64_t>(db_->changes());
  }
  return group;
}

Result<bool> Blocks::rewrite(BlockKey key, const Group& group, Codec codec) {
  for (const int64_t old : group.good_keys) WEIR_TRY(erase_block(old));
  counters(key.grain).blocks -= static_cast<int64_t>(group.good_keys.size());
  counters(key.grain).bytes -= group.good_bytes;
  const std::vector<Entry> all = group.deltas.entries();
  const std::span<const Entry> entries(all);
  const size_t step = entries_per_block(catalog_->metric_of(key.metric).kind);
  const auto taken = [&] {
    return std::ranges::binary_search(group.bad_keys, key.packed()) ||
           std::ranges::binary_search(group.open_keys, key.packed());
  };
  key.part = 0;
  for (size_t from = 0; from < entries.size(); from += step, ++key.part) {
    while (key.part < kMaxParts && taken()) ++key.part;
    if (key.part >= kMaxParts) return false;
    WEIR_TRY(write_block(key, entries.subspan(from, std::min(step, entries.size() - from)), codec));
  }
  return true;
}

Status Blocks::write_block(BlockKey key, std::span<const Entry> entries, Codec codec) {
  std::vector<const Value*> values;
  values.reserve(entries.size());
  Bytes raw;
  for (const auto& [row, value] : entries) {
    raw.push_back(static_cast<std::byte>(row % kRowsPerShard));
    values.push_back(value);
  }
  const Bytes payload = encode_block(catalog_->metric_of(key.metric), values);
  raw.insert(raw.end(), payload.begin(), payload.end());
  const size_t raw_len = raw.size();
  if (codec == Codec::kZstd) {
    WEIR_TRY_ASSIGN(raw, zstd_compress(raw, 1));
  }
  insert_.bind(1, key.packed()).bind(2, static_cast<int64_t>(codec));
  insert_.bind(3, static_cast<int64_t>(entries.size())).bind(4, uint64_t{raw_len});
  insert_.bind(5, int64_t{crc32c(raw)}).bind(6, ByteView(raw));
  WEIR_TRY(insert_.run());
  ++counters(key.grain).blocks;
  counters(key.grain).bytes += static_cast<int64_t>(raw.size());
  return {};
}

Result<bool> Blocks::seal(Grain grain, uint32_t before_window, size_t max_groups) {
  for (const uint32_t metric : catalog_->metric_ids()) {
    const BlockKey end{grain, metric, before_window, 0, 0};
    int64_t from = BlockKey{grain, metric, 0, 0, 0}.packed();
    for (;;) {
      young_.bind(1, from).bind(2, end.packed());
      WEIR_TRY_ASSIGN(const bool found, young_.step());
      if (!found) break;
      const BlockKey key = group_of(unpack_key(young_.integer(0)));
      young_.reset();
      if (max_groups-- == 0) return true;
      WEIR_TRY_ASSIGN(Group group, read_group(key, Open::kLeave));
      group.deltas.prune();
      if (group.young > 0) {
        WEIR_TRY_ASSIGN(const bool fits, rewrite(key, group, Codec::kZstd));
        if (!fits) return Error{Errc::kLimit, "a window of one metric has 64 parts"};
      }
      sealed_ += group.young;
      from = key.packed();  // all of this group is sealed, open, or marked as damaged
    }
  }
  return false;
}

Result<bool> Blocks::erase(Grain grain, uint32_t before_window, size_t max_blocks) {
  for (const uint32_t metric : catalog_->metric_ids()) {
    oldest_.bind(1, BlockKey{grain, metric, 0, 0, 0}.packed());
    oldest_.bind(2, BlockKey{grain, metric, before_window, 0, 0}.packed());
    oldest_.bind(3, static_cast<int64_t>(max_blocks));
    std::vector<int64_t> keys;
    for (;;) {
      WEIR_TRY_ASSIGN(const bool more, oldest_.step());
      if (!more) break;
      keys.push_back(oldest_.integer(0));
      counters(grain).bytes -= oldest_.integer(1);
    }
    for (const int64_t key : keys) WEIR_TRY(erase_block(key));
    counters(grain).blocks -= static_cast<int64_t>(keys.size());
    max_blocks -= keys.size();
    if (max_blocks == 0) return true;
  }
  WEIR_TRY(forget_.bind(1, static_cast<int64_t>(grain)).bind(2, int64_t{before_window}).run());
  counters(grain).windows -= db_->changes();
  return false;
}

Status Blocks::save_counters() {
  for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
    Counters& count = counters(grain);
    if (count.windows == 0 && count.blocks == 0 && count.bytes == 0 && count.newest < 0) continue;
    add_counters_.bind(1, static_cast<int64_t>(grain)).bind(2, count.blocks).bind(3, count.bytes);
    add_counters_.bind(4, count.newest).bind(5, count.windows);
    WEIR_TRY(add_counters_.run());
    count = {};
  }
  return {};
}

}  // namespace weir::aggregator
