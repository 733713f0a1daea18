#include "aggregator/store/schema.h"

#include <algorithm>
#include <string>

namespace weir::aggregator {
namespace {

// store_meta.epoch: of this database, for those who send to the last tier. block.body: one byte per
// row (row % 256, ascending), then the block codec's payload; codec 1 wraps both in zstd. crc is of
// the body as stored. tier has one line per Grain; `held_from` is the start of the oldest window
// kept, closed_to the end of the newest closed one. kept: which windows of a tier have blocks, of
// any metric. block_open: blocks of rollups that are not known to be at the last tier, by
// `release.id`: a fence takes them back. A table of its own, for a row with a body costs all of it
// to change. inbox.kind: 1 data, 2 tombstone; its body has size
// bytes, which are the batch of raw_len bytes or, where that is shorter, a zstd frame of it; it is
// at `place` of the file of bodies, or in the row where that is null; whole: may be folded, for its
// group is here. used: when a batch of (source, epoch) was last seen; what is known of those of
// long ago goes. release: the manifest of each outgoing group, until all of it is at the last tier.
constexpr std::string_view kTables = R"sql(
CREATE TABLE store_meta(id INTEGER PRIMARY KEY CHECK(id=1), version INTEGER NOT NULL,
  in_s INTEGER NOT NULL, out_s INTEGER NOT NULL, origin_s INTEGER NOT NULL,
  epoch INTEGER NOT NULL);
CREATE TABLE tier(id INTEGER PRIMARY KEY, width INTEGER NOT NULL, held_from INTEGER NOT NULL,
  newest INTEGER, closed_to INTEGER, windows INTEGER NOT NULL,
  blocks INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE kept(tier INTEGER NOT NULL, win INTEGER NOT NULL,
  PRIMARY KEY(tier, win)) WITHOUT ROWID;
CREATE TABLE metric(id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind INTEGER NOT NULL,
  unit TEXT NOT NULL, quantum INTEGER NOT NULL, UNIQUE(name, kind, unit, quantum));
CREATE TABLE series(metric INTEGER NOT NULL, row INTEGER NOT NULL, labels BLOB NOT NULL,
  PRIMARY KEY(metric, row)) WITHOUT ROWID;
CREATE TABLE block(key INTEGER PRIMARY KEY, codec INTEGER NOT NULL, rows INTEGER NOT NULL,
  raw_len INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX block_young ON block(key) WHERE codec = 0;
CREATE TABLE block_open(key INTEGER PRIMARY KEY, grp INTEGER NOT NULL);
CREATE INDEX block_open_group ON block_open(grp);
CREATE TABLE inbox(id INTEGER PRIMARY KEY AUTOINCREMENT, source BLOB NOT NULL,
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL, win INTEGER NOT NULL, mass INTEGER NOT NULL,
  kind INTEGER NOT NULL, whole INTEGER NOT NULL, raw_len INTEGER NOT NULL,
  crc INTEGER NOT NULL, place INTEGER, size INTEGER NOT NULL, body BLOB);
CREATE INDEX inbox_key ON inbox(source, epoch, seq);
CREATE INDEX inbox_win ON inbox(win, whole);
CREATE TABLE inbox_bad(id INTEGER PRIMARY KEY, source BLOB NOT NULL, epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL, win INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE release(id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, lo INTEGER NOT NULL,
  hi INTEGER NOT NULL, manifest BLOB NOT NULL);
CREATE UNIQUE INDEX release_by_seq ON release(epoch, lo);
CREATE TABLE used(source BLOB NOT NULL, epoch INTEGER NOT NULL, at_s INTEGER NOT NULL,
  PRIMARY KEY(source, epoch)) WITHOUT ROWID;
CREATE INDEX used_at ON used(at_s);
CREATE TABLE anomaly(id INTEGER PRIMARY KEY, start INTEGER NOT NULL, width INTEGER NOT NULL,
  detector TEXT NOT NULL, signal TEXT NOT NULL, labels BLOB NOT NULL, score REAL NOT NULL,
  value REAL NOT NULL, expected REAL NOT NULL, summary TEXT NOT NULL);
CREATE INDEX anomaly_by_time ON anomaly(start);
)sql";

Result<bool> has_tables(Database& db) {
  WEIR_TRY_ASSIGN(auto find, db.prepare("SELECT 1 FROM sqlite_schema WHERE "
                                        "type='table' AND name='store_meta'"));
  return find.step();
}

// 60 s and wider windows count from 1970. Shorter ones would overflow 26 bits, so they get half the
// range before the day the store is made and half after it (a year each for 1 s windows).
int64_t choose_origin(const Tier& tier, int64_t now_s) {
  if (tier.in_s >= 60) return 0;
  return window_at(now_s - int64_t{kMaxWindows / 2} * tier.in_s, tier.out_s).start_s;
}

}  // namespace

SourceId source_in(ByteView column) {
  SourceId out{};
  std::copy_n(column.begin(), std::min(column.size(), out.size()), out.begin());
  return out;
}

Result<WindowNumbers> read_schema(Database& db, const Tier& tier) {
  WEIR_TRY_ASSIGN(auto meta, db.prepare("SELECT version, in_s, out_s, origin_s FROM store_meta"));
  WEIR_TRY_ASSIGN(const bool row, meta.step());
  if (!row) return Error{Errc::kIo, "the store has tables but no store_meta row"};
  if (meta.integer(0) != kSchemaVersion) {
    return invalid("the store has version " + std::to_string(meta.integer(0)) +
                   ", this program reads version " + std::to_string(kSchemaVersion));
  }
  if (meta.integer(1) != tier.in_s || meta.integer(2) != tier.out_s) {
    return invalid("the store was made for windows of " + std::to_string(meta.integer(1)) +
                   "s and " + std::to_string(meta.integer(2)) + "s, the configuration says " +
                   std::to_string(tier.in_s) + "s and " + std::to_string(tier.out_s) +
                   "s: use another data_dir, or the old windows");
  }
  return WindowNumbers{meta.integer(3)};
}

Result<WindowNumbers> open_schema(Database& db, const Tier& tier, int64_t now_s,
                                  uint64_t new_epoch) {
  WEIR_TRY_ASSIGN(const bool exists, has_tables(db));
  if (!exists) {
    Status made = db.transaction([&]() -> Status {
      WEIR_TRY(db.exec(kTables));
      WEIR_TRY_ASSIGN(auto meta, db.prepare("INSERT INTO store_meta VALUES(1,?,?,?,?,?)"));
      meta.bind(1, int64_t{kSchemaVersion}).bind(2, int64_t{tier.in_s});
      meta.bind(3, int64_t{tier.out_s}).bind(4, choose_origin(tier, now_s));
      meta.bind(5, new_epoch);
      WEIR_TRY(meta.run());
      WEIR_TRY_ASSIGN(auto insert, db.prepare("INSERT INTO tier VALUES(?,?,?,NULL,NULL,0,0,0)"));
      for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
        insert.bind(1, static_cast<int64_t>(grain)).bind(3, INT64_MIN);
        insert.bind(2, int64_t{grain == Grain::kFine ? tier.in_s : tier.out_s});
        WEIR_TRY(insert.run());
      }
      return {};
    });
    if (!made.ok()) return std::move(made).error();
  }
  return read_schema(db, tier);
}

}  // namespace weir::aggregator
