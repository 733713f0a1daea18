#include "aggregator/store/groups.h"

#include <algorithm>

#include "aggregator/store/manifest.h"
#include "aggregator/store/schema.h"

namespace weir::aggregator {
namespace {

// first: the seq of part 0. Parts that tell another number of parts are another group, never whole.
constexpr std::string_view kTables = R"sql(
CREATE TABLE IF NOT EXISTS part(source BLOB NOT NULL, epoch INTEGER NOT NULL,
  first INTEGER NOT NULL, parts INTEGER NOT NULL, part INTEGER NOT NULL, mass INTEGER NOT NULL,
  cum_mass INTEGER NOT NULL, manifest BLOB NOT NULL,
  PRIMARY KEY(source, epoch, first, parts, part)) WITHOUT ROWID;
)sql";

constexpr const char* kColumns = "source,epoch,first,parts,part,mass,cum_mass,manifest";

Bytes key_of(const AcceptedBatch& batch) {
  ByteWriter out;
  out.append(batch.source);
  for (const uint64_t number : {batch.epoch, batch.seq - batch.part, uint64_t{batch.parts},
                                uint64_t{batch.part}, batch.mass, batch.cum_mass}) {
    out.put(number);
  }
  return std::move(out).take();
}

// Of a row of kColumns.
Result<std::vector<ManifestEntry>> manifest_of(const Statement& row) {
  ByteWriter key;
  key.append(row.blob(0));
  for (int column = 1; column < 7; ++column) key.put(row.unsigned_integer(column));
  return decode_manifest(row.blob(7), std::move(key).take());
}

}  // namespace

Result<Groups> Groups::open(Database& db) {
  Groups out;
  WEIR_TRY(db.exec(kTables));
  const std::string group =
      " FROM part WHERE source = ?1 AND epoch = ?2 AND "
      "first = ?3 AND parts = ?4";
  WEIR_TRY_ASSIGN(out.put_, db.prepare("INSERT OR REPLACE INTO part VALUES(?,?,?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(out.count_, db.prepare("SELECT count(*)" + group));
  WEIR_TRY_ASSIGN(out.read_,
                  db.prepare(std::string("SELECT ") + kColumns + group + " ORDER BY part"));
  WEIR_TRY_ASSIGN(out.erase_, db.prepare("DELETE" + group));
  WEIR_TRY_ASSIGN(out.read_all_, db.prepare(std::string("SELECT ") + kColumns + " FROM part"));
  WEIR_TRY_ASSIGN(out.read_epoch_,
                  db.prepare("SELECT first + part FROM part WHERE source = ? AND epoch = ?"));
  WEIR_TRY_ASSIGN(out.oldest_,
                  db.prepare("SELECT min(first) FROM part WHERE source = ? AND epoch = ?"));
  WEIR_TRY_ASSIGN(out.erase_epoch_, db.prepare("DELETE FROM part WHERE source = ? AND epoch = ?"));
  return out;
}

Result<std::optional<Groups::Whole>> Groups::add(const AcceptedBatch& batch) {
  const uint64_t first = batch.seq - batch.part;
  Whole whole;
  whole.own.range = {batch.source, batch.epoch, first, first + batch.parts - 1};
  if (batch.parts == 1) {
    whole.own.mass = batch.mass;
    whole.own.cum_mass = batch.cum_mass;
    whole.manifest = batch.manifest;
    return std::optional(std::move(whole));
  }
  const auto bind_group = [&](Statement& statement) -> Statement& {
    return statement.bind(1, ByteView(batch.source))
        .bind(2, batch.epoch)
        .bind(3, first)
        .bind(4, int64_t{batch.parts});
  };
  bind_group(put_).bind(5, int64_t{batch.part}).bind(6, batch.mass).bind(7, batch.cum_mass);
  WEIR_TRY(put_.bind(8, ByteView(encode_manifest(batch.manifest, key_of(batch)))).run());
  WEIR_TRY(bind_group(count_).step());
  const bool complete = count_.unsigned_integer(0) == batch.parts;
  count_.reset();
  if (!complete) return std::optional<Whole>{};
  bind_group(read_);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_.step());
    if (!row) break;
    whole.own.mass += read_.unsigned_integer(5);
    whole.own.cum_mass = read_.unsigned_integer(6);
    WEIR_TRY_ASSIGN(const auto manifest, manifest_of(read_));
    whole.manifest.insert(whole.manifest.end(), manifest.begin(), manifest.end());
  }
  WEIR_TRY(bind_group(erase_).run());
  return std::optional(std::move(whole));
}

Result<uint64_t> Groups::oldest(const SourceId& source, uint64_t epoch) {
  WEIR_TRY(oldest_.bind(1, ByteView(source)).bind(2, epoch).step());
  const uint64_t first = oldest_.is_null(0) ? UINT64_MAX : oldest_.unsigned_integer(0);
  oldest_.reset();
  return first;
}

Status Groups::each_named(const std::function<void(const SeqRange&)>& fn) {
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_all_.step());
    if (!row) return {};
    const auto manifest = manifest_of(read_all_);
    if (!manifest.ok()) continue;
    for (const ManifestEntry& entry : *manifest) fn(entry.range);
  }
}

Result<std::vector<std::pair<SourceId, uint64_t>>> Groups::damaged() {
  std::vector<std::pair<SourceId, uint64_t>> out;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_all_.step());
    if (!row) return out;
    const std::pair of{source_in(read_all_.blob(0)), read_all_.unsigned_integer(1)};
    if (!manifest_of(read_all_).ok() && (out.empty() || out.back() != of)) out.push_back(of);
  }
}

Result<std::vector<SeqRange>> Groups::discard(const SourceId& source, uint64_t epoch) {
  std::vector<SeqRange> out;
  read_epoch_.bind(1, ByteView(source)).bind(2, epoch);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_epoch_.step());
    if (!row) break;
    const uint64_t seq = read_epoch_.unsigned_integer(0);
    out.push_back({source, epoch, seq, seq});
  }
  WEIR_TRY(erase_epoch_.bind(1, ByteView(source)).bind(2, epoch).run());
  return out;
}

}  // namespace weir::aggregator
