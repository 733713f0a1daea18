#include "common/outbox.h"

#include <algorithm>
#include <random>

#include "common/check.h"
#include "common/crc32c.h"

namespace weir {
namespace {

constexpr uint64_t kLargestKey = INT64_MAX;  // SQLite's integers are signed

constexpr std::string_view kSchema = R"sql(
CREATE TABLE IF NOT EXISTS outbox(
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  kind INTEGER NOT NULL,  -- 1 data, 2 tombstone
  win_start INTEGER NOT NULL, win_width INTEGER NOT NULL,
  mass INTEGER NOT NULL, raw_len INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY(epoch, seq));
CREATE TABLE IF NOT EXISTS outbox_quarantine(
  id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  reason TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox_meta(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  source BLOB NOT NULL, epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL,
  rows INTEGER NOT NULL, bytes INTEGER NOT NULL, outbox_mass INTEGER NOT NULL,
  pushed_mass INTEGER NOT NULL, acked_mass INTEGER NOT NULL,
  quarantined_mass INTEGER NOT NULL, quarantined INTEGER NOT NULL);
)sql";

// 63 bits: SQLite orders keys as signed numbers, and pending() starts below all of them.
uint64_t random_epoch() {
  std::random_device device;
  return std::uniform_int_distribution<uint64_t>(1, kLargestKey)(device);
}

SourceId random_source() {
  std::random_device device;
  SourceId id{};
  for (std::byte& byte : id) byte = static_cast<std::byte>(device() & 0xFF);
  return id;
}

}  // namespace

Result<Outbox> Outbox::open(Database& db, uint64_t max_bytes) {
  Outbox outbox(db, max_bytes);
  if (auto done = outbox.prepare(); !done.ok()) return std::move(done).error().with("outbox");
  return outbox;
}

const SourceId& Outbox::source() const { return source_; }

uint64_t Outbox::epoch() const { return epoch_; }

Status Outbox::prepare() {
  const auto create = [&]() -> Status {
    WEIR_TRY(db_->exec(kSchema));
    return load_identity();
  };
  WEIR_TRY(atomically(create));
  WEIR_TRY_ASSIGN(load_,
                  db_->prepare("SELECT next_seq, rows, bytes, outbox_mass, pushed_mass, "
                               "acked_mass, quarantined_mass, quarantined FROM outbox_meta"));
  WEIR_TRY_ASSIGN(save_,
                  db_->prepare("UPDATE outbox_meta SET next_seq = ?1, rows = ?2, bytes = ?3, "
                               "outbox_mass = ?4, pushed_mass = ?5, acked_mass = ?6, "
                               "quarantined_mass = ?7, quarantined = ?8"));
  WEIR_TRY_ASSIGN(insert_, db_->prepare("INSERT INTO outbox VALUES(?1,?2,1,?3,?4,?5,?6,?7,?8)"));
  WEIR_TRY_ASSIGN(read_after_,
                  db_->prepare("SELECT epoch, seq, win_start, win_width, mass, raw_len, crc, body "
                               "FROM outbox WHERE (epoch, seq) > (?1, ?2) ORDER BY epoch, seq"));
  WEIR_TRY_ASSIGN(read_masses_, db_->prepare("SELECT mass, raw_len FROM outbox "
                                             "WHERE epoch = ?1 AND seq BETWEEN ?2 AND ?3"));
  WEIR_TRY_ASSIGN(erase_,
                  db_->prepare("DELETE FROM outbox WHERE epoch = ?1 AND seq BETWEEN ?2 AND ?3"));
  WEIR_TRY_ASSIGN(
      copy_to_quarantine_,
      db_->prepare("INSERT INTO outbox_quarantine(epoch, seq, reason, body) SELECT epoch, "
                   "seq, ?3, body FROM outbox WHERE epoch = ?1 AND seq = ?2"));
  WEIR_TRY_ASSIGN(trim_quarantine_, db_->prepare("DELETE FROM outbox_quarantine WHERE id <= "
                                                 "(SELECT max(id) FROM outbox_quarantine) - 64"));
  return {};
}

Status Outbox::load_identity() {
  WEIR_TRY_ASSIGN(auto create,
                  db_->prepare("INSERT INTO outbox_meta VALUES(1,?1,?2,1,0,0,0,0,0,0,0) "
                               "ON CONFLICT DO NOTHING"));
  WEIR_TRY(create.bind(1, ByteView(random_source())).bind(2, random_epoch()).run());
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT source, epoch FROM outbox_meta"));
  WEIR_TRY_ASSIGN(const bool row, read.step());
  WEIR_CHECK(row);
  const ByteView id = read.blob(0);
  if (id.size() != source_.size()) return Error{Errc::kIo, "the stored source id is damaged"};
  std::copy(id.begin(), id.end(), source_.begin());
  epoch_ = read.unsigned_integer(1);
  return {};
}

Status Outbox::atomically(const std::function<Status()>& fn) {
  WEIR_TRY(db_->exec("SAVEPOINT weir_outbox"));
  Status done = fn();
  if (done.ok()) done = db_->exec("RELEASE weir_outbox");
  if (!done.ok()) {
    // The first error is the one to report; SQLite may have rolled back everything by itself.
    const Status undone = db_->exec("ROLLBACK TO weir_outbox; RELEASE weir_outbox");
    if (!undone.ok()) return std::move(done).error().with("not undone");
  }
  return done;
}

Result<Outbox::Totals> Outbox::load_totals() {
  WEIR_TRY_ASSIGN(const bool row, load_.step());
  if (!row) return Error{Errc::kIo, "the outbox has lost its meta row"};
  Totals totals;
  totals.next_seq = load_.unsigned_integer(0);
  totals.rows = load_.unsigned_integer(1);
  totals.bytes = load_.unsigned_integer(2);
  totals.outbox_mass = load_.unsigned_integer(3);
  totals.pushed_mass = load_.unsigned_integer(4);
  totals.acked_mass = load_.unsigned_integer(5);
  totals.quarantined_mass = load_.unsigned_integer(6);
  totals.quarantined = load_.unsigned_integer(7);
  load_.reset();
  return totals;
}

Status Outbox::save_totals(const Totals& totals) {
  return save_.bind(1, totals.next_seq)
      .bind(2, totals.rows)
      .bind(3, totals.bytes)
      .bind(4, totals.outbox_mass)
      .bind(5, totals.pushed_mass)
      .bind(6, totals.acked_mass)
      .bind(7, totals.quarantined_mass)
      .bind(8, totals.quarantined)
      .run();
}

Result<bool> Outbox::has_room(size_t bytes) {
  WEIR_TRY_ASSIGN(const Totals totals, load_totals());
  return totals.bytes + bytes <= max_bytes_;
}

Result<uint64_t> Outbox::append(const Window& window, const EncodedBatch& batch) {
  WEIR_CHECK(batch.body.size() <= kBatchMaxBytes);
  uint64_t seq = 0;
  const auto store = [&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    if (totals.bytes + batch.body.size() > max_bytes_) {
      return Error{Errc::kLimit, "the outbox is full (" + std::to_string(max_bytes_) + " bytes)"};
    }
    seq = totals.next_seq++;
    ++totals.rows;
    totals.bytes += batch.body.size();
    totals.outbox_mass += batch.mass;
    totals.pushed_mass += batch.mass;
    WEIR_TRY(insert_.bind(1, epoch_)
                 .bind(2, seq)
                 .bind(3, window.start_s)
                 .bind(4, int64_t{window.width_s})
                 .bind(5, batch.mass)
                 .bind(6, uint64_t{batch.body.size()})
                 .bind(7, uint64_t{crc32c(batch.body)})
                 .bind(8, ByteView(batch.body))
                 .run());
    return save_totals(totals);
  };
  WEIR_TRY(atomically(store));
  return seq;
}

Result<std::vector<OutboxEntry>> Outbox::pending(uint64_t after_epoch, uint64_t after_seq,
                                                 size_t max_bytes) {
  std::vector<OutboxEntry> entries;
  std::vector<std::pair<uint64_t, uint64_t>> damaged;
  size_t bytes = 0;
  read_after_.bind(1, std::min(after_epoch, kLargestKey)).bind(2, std::min(after_seq, kLargestKey));
  while (true) {
    WEIR_TRY_ASSIGN(const bool row, read_after_.step());
    if (!row) break;
    OutboxEntry entry;
    entry.epoch = read_after_.unsigned_integer(0);
    entry.seq = read_after_.unsigned_integer(1);
    const ByteView body = read_after_.blob(7);
    if (!entries.empty() && bytes + body.size() > max_bytes) break;
    entry.window = {read_after_.integer(2), static_cast<uint32_t>(read_after_.integer(3))};
    entry.mass = read_after_.unsigned_integer(4);
    entry.raw_len = static_cast<uint32_t>(read_after_.integer(5));
    entry.crc32c = static_cast<uint32_t>(read_after_.integer(6));
    if (body.size() != entry.raw_len || crc32c(body) != entry.crc32c) {
      damaged.emplace_back(entry.epoch, entry.seq);
      continue;
    }
    entry.body.assign(body.begin(), body.end());
    bytes += body.size();
    entries.push_back(std::move(entry));
  }
  read_after_.reset();
  for (const auto& [epoch, seq] : damaged) WEIR_TRY(quarantine(epoch, seq, "damaged on disk"));
  return entries;
}

Status Outbox::acknowledged(const std::vector<SeqSpan>& spans) {
  return atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    const uint64_t rows_before = totals.rows;
    for (const SeqSpan& span : spans) {
      const uint64_t epoch = std::min(span.epoch, kLargestKey);
      const uint64_t lo = std::min(span.lo, kLargestKey);
      const uint64_t hi = std::min(span.hi, kLargestKey);
      read_masses_.bind(1, epoch).bind(2, lo).bind(3, hi);
      const uint64_t rows = totals.rows;
      while (true) {
        WEIR_TRY_ASSIGN(const bool row, read_masses_.step());
        if (!row) break;
        --totals.rows;
        totals.outbox_mass -= read_masses_.unsigned_integer(0);
        totals.acked_mass += read_masses_.unsigned_integer(0);
        totals.bytes -= read_masses_.unsigned_integer(1);
      }
      if (totals.rows != rows) WEIR_TRY(erase_.bind(1, epoch).bind(2, lo).bind(3, hi).run());
    }
    if (totals.rows == rows_before) return {};  // a repeated acknowledgement costs no write
    return save_totals(totals);
  });
}

Status Outbox::quarantine(uint64_t epoch, uint64_t seq, const std::string& reason) {
  return atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(const bool row, read_masses_.bind(1, epoch).bind(2, seq).bind(3, seq).step());
    if (!row) return {};  // acknowledged meanwhile
    const uint64_t mass = read_masses_.unsigned_integer(0);
    const uint64_t bytes = read_masses_.unsigned_integer(1);
    read_masses_.reset();
    WEIR_TRY(copy_to_quarantine_.bind(1, epoch).bind(2, seq).bind(3, reason).run());
    WEIR_TRY(trim_quarantine_.run());
    WEIR_TRY(erase_.bind(1, epoch).bind(2, seq).bind(3, seq).run());
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    --totals.rows;
    totals.bytes -= bytes;
    totals.outbox_mass -= mass;
    totals.quarantined_mass += mass;
    ++totals.quarantined;
    return save_totals(totals);
  });
}

Result<OutboxStats> Outbox::stats() {
  WEIR_TRY_ASSIGN(const Totals totals, load_totals());
  return OutboxStats(totals);
}

}  // namespace weir
