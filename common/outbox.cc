#include "common/outbox.h"

#include <algorithm>
#include <random>
#include <utility>

#include <fmt/core.h>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/keys.h"

namespace weir {
namespace {

constexpr std::string_view kSchema = R"sql(
CREATE TABLE IF NOT EXISTS outbox(
  id INTEGER PRIMARY KEY,  -- in the order of appending, never used twice
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  kind INTEGER NOT NULL,   -- 1 data, 2 tombstone
  win_start INTEGER NOT NULL, win_width INTEGER NOT NULL,
  mass INTEGER NOT NULL, cum_mass INTEGER NOT NULL, raw_len INTEGER NOT NULL,
  crc INTEGER NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS outbox_key ON outbox(epoch, seq);
CREATE INDEX IF NOT EXISTS outbox_data ON outbox(win_start) WHERE kind = 1;
CREATE TABLE IF NOT EXISTS outbox_target(
  number INTEGER PRIMARY KEY, tier_source BLOB NOT NULL, tier_epoch INTEGER NOT NULL,
  UNIQUE(tier_source, tier_epoch));
-- Beside the outbox: a row with a body in it would be rewritten, body and all. Number 0: nobody's.
CREATE TABLE IF NOT EXISTS outbox_assign(
  target INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(target, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox_quarantine(
  id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_loss(
  reason TEXT PRIMARY KEY, rows INTEGER NOT NULL, mass INTEGER NOT NULL) WITHOUT ROWID;
-- Rows with a lower id were there when processes had lived with this outbox for so long.
CREATE TABLE IF NOT EXISTS outbox_age(lived_s INTEGER PRIMARY KEY, next_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_meta(
  one INTEGER PRIMARY KEY CHECK(one = 1), source BLOB NOT NULL,
  next_id INTEGER NOT NULL, epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL,
  cum_mass INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
  tombstones INTEGER NOT NULL, pushed_mass INTEGER NOT NULL, acked_data_mass INTEGER NOT NULL,
  acked_lost_mass INTEGER NOT NULL, outbox_mass INTEGER NOT NULL, discarded_mass INTEGER NOT NULL,
  quarantined INTEGER NOT NULL);
)sql";

constexpr std::string_view kColumns =
    "id, kind, epoch, seq, win_start, win_width, mass, cum_mass, raw_len, crc, reason, body";

// 63 bits: SQLite orders keys as signed numbers, and 0 is none.
uint64_t random_epoch(const std::function<uint64_t()>& random) { return random() % INT64_MAX + 1; }

SourceId random_source(const std::function<uint64_t()>& random) {
  SourceId id{};
  for (std::byte& byte : id) byte = static_cast<std::byte>(random() & 0xFF);
  return id;
}

}  // namespace

Result<Outbox> Outbox::open(Database& db, OutboxOptions options) {
  if (!options.random) {
    options.random = [] {
      std::random_device device;
      return std::uniform_int_distribution<uint64_t>()(device);
    };
  }
  Outbox outbox(db, std::move(options));
  if (auto done = outbox.prepare(); !done.ok()) return std::move(done).error().with("outbox");
  return outbox;
}

Status Outbox::prepare() {
  const Status done = atomically([&]() -> Status {
    WEIR_TRY(db_->exec(kSchema));
    return load_identity();
  });
  WEIR_TRY(done);
  return prepare_statements();
}

Status Outbox::load_identity() {
  WEIR_TRY_ASSIGN(auto create, db_->prepare("INSERT INTO outbox_meta "
                                            "VALUES(1,?1,1,0,1,0,0,0,0,0,0,0,0,0,0) "
                                            "ON CONFLICT DO NOTHING"));
  const SourceId fresh = options_.source ? *options_.source : random_source(options_.random);
  WEIR_TRY(create.bind(1, ByteView(fresh)).run());
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT source, epoch, next_id FROM outbox_meta"));
  WEIR_TRY_ASSIGN(const bool row, read.step());
  WEIR_CHECK(row);
  const ByteView id = read.blob(0);
  if (id.size() != source_.size()) return Error{Errc::kIo, "the stored source id is damaged"};
  std::copy(id.begin(), id.end(), source_.begin());
  if (options_.source && source_ != *options_.source) {
    return invalid(
        fmt::format("this database belongs to source {0}, and our key (or, without one, our name) "
                    "says {1}: make a pair for it with: weir keys new --role ROLE --source {0} "
                    "--dir FOLDER; or move the data directory away (what waits in it is then not "
                    "sent)",
                    uuid_text(source_), uuid_text(*options_.source)));
  }
  // A copy of this database may be at work elsewhere, or this may be the copy: an own epoch is
  // never continued. It becomes durable with its first append.
  epoch_ = options_.epoch_rule == EpochRule::kOwn ? random_epoch(options_.random)
                                                  : read.unsigned_integer(1);
  first_id_ = read.unsigned_integer(2);
  WEIR_TRY_ASSIGN(auto lived, db_->prepare("SELECT coalesce(max(lived_s), 0) FROM outbox_age"));
  WEIR_TRY(lived.step());
  lived_before_s_ = lived.integer(0);
  return {};
}

Status Outbox::prepare_statements() {
  const auto prepare = [&](Statement& to, const std::string& sql) -> Status {
    WEIR_TRY_ASSIGN(to, db_->prepare(sql));
    return {};
  };
  const std::string columns(kColumns);
  WEIR_TRY(prepare(load_,
                   "SELECT next_id, epoch, next_seq, cum_mass, rows, bytes, tombstones, "
                   "pushed_mass, acked_data_mass, acked_lost_mass, outbox_mass, discarded_mass, "
                   "quarantined FROM outbox_meta"));
  WEIR_TRY(prepare(save_,
                   "UPDATE outbox_meta SET next_id = ?, epoch = ?, next_seq = ?, "
                   "cum_mass = ?, rows = ?, bytes = ?, tombstones = ?, pushed_mass = ?, "
                   "acked_data_mass = ?, acked_lost_mass = ?, outbox_mass = ?, "
                   "discarded_mass = ?, quarantined = ?"));
  WEIR_TRY(prepare(insert_, "INSERT INTO outbox(" + columns + ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?)"));
  WEIR_TRY(prepare(insert_assign_, "INSERT INTO outbox_assign(target, id) VALUES(?,?)"));
  WEIR_TRY(prepare(erase_assign_, "DELETE FROM outbox_assign WHERE target = ? AND id = ?"));
  WEIR_TRY(prepare(erase_, "DELETE FROM outbox WHERE id = ?"));
  WEIR_TRY(prepare(read_pending_, "SELECT " + columns +
                                      " FROM outbox_assign CROSS JOIN outbox USING(id) "
                                      "WHERE target = ?1 AND id > ?2 ORDER BY id"));
  WEIR_TRY(prepare(read_one_, "SELECT " + columns + " FROM outbox WHERE id = ?"));
  WEIR_TRY(prepare(read_span_,
                   "SELECT o.id, o.kind, o.seq, o.mass, o.raw_len FROM outbox o "
                   "CROSS JOIN outbox_assign a ON a.target = ?1 AND a.id = o.id "
                   "WHERE o.epoch = ?2 AND o.seq BETWEEN ?3 AND ?4"));
  WEIR_TRY(prepare(any_of_span_,
                   "SELECT 1 FROM outbox WHERE epoch = ? AND seq BETWEEN ? AND ? "
                   "LIMIT 1"));
  WEIR_TRY(prepare(find_target_,
                   "SELECT number FROM outbox_target "
                   "WHERE tier_source = ? AND tier_epoch = ?"));
  WEIR_TRY(prepare(add_target_, "INSERT INTO outbox_target(tier_source, tier_epoch) VALUES(?,?)"));
  WEIR_TRY(prepare(read_head_,
                   "SELECT epoch, seq, win_start, win_width, mass, cum_mass FROM outbox "
                   "WHERE id = ?"));
  WEIR_TRY(prepare(oldest_,
                   "SELECT id, kind, seq, mass, raw_len FROM outbox "
                   "WHERE kind = 1 ORDER BY win_start, id LIMIT ?"));
  WEIR_TRY(prepare(count_loss_,
                   "INSERT INTO outbox_loss VALUES(?1,1,?2) ON CONFLICT DO UPDATE "
                   "SET rows = rows + 1, mass = mass + ?2"));
  WEIR_TRY(prepare(copy_to_quarantine_,
                   "INSERT INTO outbox_quarantine(epoch, seq, reason, body) "
                   "SELECT epoch, seq, ?2, body FROM outbox WHERE id = ?1"));
  // These two are asked each second.
  WEIR_TRY(prepare(assigned_,
                   "SELECT tier_source, tier_epoch, o.epoch, o.seq, "
                   "(SELECT max(seq) FROM outbox WHERE epoch = o.epoch) FROM outbox_target "
                   "JOIN outbox o ON o.id = (SELECT min(id) FROM outbox_assign WHERE "
                   "target = number)"));
  WEIR_TRY(prepare(mark_before_,
                   "SELECT lived_s, next_id FROM outbox_age WHERE lived_s <= ? "
                   "ORDER BY lived_s DESC LIMIT 1"));
  return prepare(trim_quarantine_,
                 "DELETE FROM outbox_quarantine WHERE id <= "
                 "(SELECT max(id) FROM outbox_quarantine) - 64");
}

Status Outbox::atomically(const std::function<Status()>& fn) {
  ++revision_;
  if (!db_->in_transaction()) return db_->transaction(fn);
  WEIR_TRY(db_->run("SAVEPOINT weir_outbox"));
  Status done = fn();
  if (done.ok()) done = db_->run("RELEASE weir_outbox");
  if (!done.ok()) {
    // The first error is the one to report; SQLite may have rolled back everything by itself.
    const Status undone = db_->exec("ROLLBACK TO weir_outbox; RELEASE weir_outbox");
    if (!undone.ok()) return std::move(done).error().with("not undone");
  }
  return done;
}

// ---- books ----

Result<Outbox::Totals> Outbox::load_totals() {
  WEIR_TRY_ASSIGN(const bool row, load_.step());
  if (!row) return Error{Errc::kIo, "the outbox has lost its meta row"};
  Totals t;
  int column = 0;
  for (uint64_t* field : {&t.next_id, &t.epoch, &t.next_seq, &t.cum_mass, &t.rows, &t.bytes,
                          &t.tombstones, &t.pushed_mass, &t.acked_data_mass, &t.acked_lost_mass,
                          &t.outbox_mass, &t.discarded_mass, &t.quarantined}) {
    *field = load_.unsigned_integer(column++);
  }
  load_.reset();
  return t;
}

Status Outbox::save_totals(const Totals& t) {
  int index = 0;
  for (const uint64_t value :
       {t.next_id, t.epoch, t.next_seq, t.cum_mass, t.rows, t.bytes, t.tombstones, t.pushed_mass,
        t.acked_data_mass, t.acked_lost_mass, t.outbox_mass, t.discarded_mass, t.quarantined}) {
    save_.bind(++index, value);
  }
  return save_.run();
}

Result<OutboxStats> Outbox::stats() {
  WEIR_TRY_ASSIGN(const Totals totals, load_totals());
  OutboxStats out(totals);
  WEIR_TRY_ASSIGN(auto oldest, db_->prepare("SELECT min(win_start) FROM outbox WHERE kind = 1"));
  WEIR_TRY(oldest.step());
  out.oldest_data_s = oldest.integer(0);
  return out;
}

Result<uint64_t> Outbox::next_seq() {
  WEIR_TRY_ASSIGN(const Totals totals, load_totals());
  return totals.epoch == epoch_ ? totals.next_seq : 1;
}

Status Outbox::begin_epoch(uint64_t epoch) {
  WEIR_CHECK(options_.epoch_rule == EpochRule::kHandedOut && epoch != 0 && epoch <= kLargestKey);
  if (epoch == epoch_) return {};
  known_target_.reset();
  const Status done = atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    totals.discarded_mass += totals.outbox_mass;
    totals.outbox_mass = totals.rows = totals.bytes = totals.tombstones = totals.cum_mass = 0;
    totals.next_seq = 1;
    totals.epoch = epoch;
    WEIR_TRY(db_->exec("DELETE FROM outbox; DELETE FROM outbox_assign; DELETE FROM outbox_target"));
    return save_totals(totals);
  });
  WEIR_TRY(done);
  epoch_ = epoch;
  return {};
}

Status Outbox::undo_begin_epoch() {
  WEIR_TRY_ASSIGN(const Totals totals, load_totals());
  epoch_ = totals.epoch;
  return {};
}

// ---- in ----

Result<uint64_t> Outbox::append(const Window& window, const EncodedBatch& batch,
                                const std::optional<Target>& target) {
  WEIR_CHECK(batch.body.size() <= kBatchMaxBytes);
  if (epoch_ == 0) return Error{Errc::kUnavailable, "the outbox has no epoch yet"};
  OutboxEntry entry;
  const auto store = [&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    const uint64_t bytes = totals.bytes + batch.body.size();
    if (bytes > options_.max_bytes) {
      const Error full{Errc::kLimit, fmt::format("it is full ({} bytes)", options_.max_bytes)};
      if (options_.when_full == WhenFull::kRefuse) return full;
      const uint64_t excess = bytes - options_.max_bytes;
      WEIR_TRY_ASSIGN(const uint64_t freed, drop_oldest(excess, "outbox_bytes"));
      if (freed < excess) return full;
      WEIR_TRY_ASSIGN(totals, load_totals());
    }
    if (totals.epoch != epoch_) {
      totals.epoch = epoch_;
      totals.next_seq = 1;
      totals.cum_mass = 0;
    }
    entry.id = totals.next_id++;
    entry.epoch = epoch_;
    entry.seq = totals.next_seq++;
    entry.window = window;
    entry.mass = batch.mass;
    totals.cum_mass += batch.mass;
    entry.cum_mass = totals.cum_mass;
    entry.body = batch.body;
    stamp_cum_mass(entry.body, entry.cum_mass);
    ++totals.rows;
    totals.bytes += batch.body.size();
    totals.outbox_mass += batch.mass;
    totals.pushed_mass += batch.mass;
    WEIR_TRY(save_totals(totals));
    WEIR_TRY(insert(entry));
    uint64_t number = kUnassigned;
    if (target) {
      WEIR_TRY_ASSIGN(number, target_number(*target, true));
    }
    return insert_assign_.bind(1, number).bind(2, entry.id).run();
  };
  WEIR_TRY(atomically(store));
  return entry.seq;
}

Status Outbox::insert(const OutboxEntry& entry) {
  insert_.bind(1, entry.id).bind(2, static_cast<int64_t>(entry.kind));
  insert_.bind(3, entry.epoch).bind(4, entry.seq);
  insert_.bind(5, entry.window.start_s).bind(6, int64_t{entry.window.width_s});
  insert_.bind(7, entry.mass).bind(8, entry.cum_mass).bind(9, uint64_t{entry.body.size()});
  insert_.bind(10, uint64_t{crc32c(entry.body)}).bind(11, std::string_view(entry.reason));
  return insert_.bind(12, ByteView(entry.body)).run();
}

Result<uint64_t> Outbox::target_number(const Target& target, bool create) {
  if (known_target_ && known_target_->first == target) return known_target_->second;
  const ByteView source(target.tier_source);
  WEIR_TRY_ASSIGN(const bool known, find_target_.bind(1, source).bind(2, target.tier_epoch).step());
  const uint64_t number = known ? find_target_.unsigned_integer(0) : 0;
  find_target_.reset();
  if (known && !db_->in_transaction()) known_target_.emplace(target, number);
  if (known || !create) return number;
  known_target_.reset();
  WEIR_TRY(
      db_->run("DELETE FROM outbox_target WHERE NOT EXISTS("
               "SELECT 1 FROM outbox_assign WHERE target = number)"));
  WEIR_TRY(add_target_.bind(1, source).bind(2, target.tier_epoch).run());
  return static_cast<uint64_t>(db_->last_insert_rowid());
}

Status Outbox::assign(const Target& target, const std::vector<uint64_t>& ids) {
  return atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(const uint64_t number, target_number(target, true));
    for (const uint64_t id : ids) {
      WEIR_TRY(erase_assign_.bind(1, kUnassigned).bind(2, id).run());
      if (db_->changes() == 0) continue;  // it has a target, or is gone
      WEIR_TRY(insert_assign_.bind(1, number).bind(2, id).run());
    }
    return {};
  });
}

Result<std::vector<uint64_t>> Outbox::claim(const Target& target,
                                            const std::vector<SeqSpan>& spans) {
  std::vector<uint64_t> ids;
  for (const SeqSpan& span : spans) {
    WEIR_TRY_ASSIGN(const auto rows, rows_of(kUnassigned, span));
    for (const RowSize& row : rows) ids.push_back(row.id);
  }
  if (!ids.empty()) WEIR_TRY(assign(target, ids));
  return ids;
}

}  // namespace weir
