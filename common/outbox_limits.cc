// What an outbox gives up: data becomes tombstones, which travel like data.

#include <algorithm>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/outbox.h"

namespace weir {
namespace {

constexpr size_t kSlice = 64;        // rows looked at by one statement
constexpr size_t kMaxReason = 64;    // bytes
constexpr int64_t kMaxReasons = 64;  // a stranger's words are among them
constexpr int64_t kMarks = 500;      // of the time rows may wait
constexpr const char* kOtherReason = "other";

// A word fit for a label.
std::string word(std::string_view reason) {
  std::string out;
  for (const char c : reason.substr(0, kMaxReason)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
    out += plain ? c : '_';
  }
  return out.empty() ? kOtherReason : out;
}

}  // namespace

Status Outbox::bury(Totals& totals, const RowSize& row, const std::string& reason) {
  WEIR_CHECK(row.kind == RowKind::kData);
  WEIR_TRY_ASSIGN(auto known, db_->prepare("SELECT count(*) < ?2 OR EXISTS(SELECT 1 FROM "
                                           "outbox_loss WHERE reason = ?1) FROM outbox_loss"));
  std::string kept = word(reason);
  WEIR_TRY(known.bind(1, std::string_view(kept)).bind(2, kMaxReasons).step());
  if (known.integer(0) == 0) kept = kOtherReason;
  OutboxEntry tombstone;
  tombstone.id = row.id;
  tombstone.kind = RowKind::kTombstone;
  tombstone.reason = kept;
  WEIR_TRY_ASSIGN(const bool found, read_head_.bind(1, row.id).step());
  WEIR_CHECK(found);
  tombstone.epoch = read_head_.unsigned_integer(0);
  tombstone.seq = read_head_.unsigned_integer(1);
  tombstone.window = {read_head_.integer(2), static_cast<uint32_t>(read_head_.integer(3))};
  tombstone.mass = read_head_.unsigned_integer(4);
  tombstone.cum_mass = read_head_.unsigned_integer(5);
  read_head_.reset();
  // Not an UPDATE: pages whose rows shrink are given back only when rows are deleted.
  WEIR_TRY(erase_.bind(1, row.id).run());
  WEIR_TRY(insert(tombstone));
  WEIR_TRY(count_loss_.bind(1, std::string_view(kept)).bind(2, row.mass).run());
  totals.bytes += kTombstoneBytes;
  totals.bytes -= row.bytes;
  ++totals.tombstones;
  return {};
}

Result<std::vector<Outbox::RowSize>> Outbox::sizes(Statement& read) {
  std::vector<RowSize> rows;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return rows;
    rows.push_back({read.unsigned_integer(0), static_cast<RowKind>(read.integer(1)),
                    read.unsigned_integer(2), read.unsigned_integer(3), read.unsigned_integer(4)});
  }
}

Result<uint64_t> Outbox::drop_oldest(uint64_t bytes, const std::string& reason) {
  uint64_t freed = 0;
  crash_point("db.tombstone_before");
  const Status done = atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    const uint64_t before = totals.bytes;
    const auto gain = [&] { return totals.bytes < before ? before - totals.bytes : 0; };
    while (gain() < bytes) {
      WEIR_TRY_ASSIGN(const auto rows, sizes(oldest_.bind(1, uint64_t{kSlice})));
      if (rows.empty()) break;
      for (const RowSize& row : rows) {
        if (gain() >= bytes) break;
        WEIR_TRY(bury(totals, row, reason));
      }
    }
    freed = gain();
    return save_totals(totals);
  });
  WEIR_TRY(done);
  crash_point("db.tombstone_after");
  return freed;
}

Status Outbox::mark_age(int64_t lived_s) {
  WEIR_TRY_ASSIGN(auto mark, db_->prepare("INSERT OR REPLACE INTO outbox_age "
                                          "SELECT ?, next_id FROM outbox_meta WHERE rows > 0"));
  const Status done = mark.bind(1, lived_s).run();
  if (!done.ok() && done.error().code == Errc::kLimit) return {};  // rows then look younger
  marked_s_ = lived_s;
  return done;
}

Result<uint64_t> Outbox::drop_older_than(std::chrono::seconds age, MonoTime now,
                                         const std::string& reason, size_t limit) {
  if (!began_) began_ = now;
  const int64_t lived_s =
      lived_before_s_ + std::chrono::floor<std::chrono::seconds>(now - *began_).count();
  if (marked_s_ < 0 || lived_s - marked_s_ > age.count() / kMarks) WEIR_TRY(mark_age(lived_s));
  WEIR_TRY_ASSIGN(const bool any, mark_before_.bind(1, lived_s - age.count()).step());
  const int64_t mark_s = any ? mark_before_.integer(0) : 0;
  const uint64_t before_id = any ? mark_before_.unsigned_integer(1) : 0;
  mark_before_.reset();
  if (!any) return uint64_t{0};
  uint64_t dropped = 0;
  const Status done = atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT id, kind, seq, mass, raw_len FROM outbox "
                                            "WHERE kind = 1 AND id < ?1 ORDER BY id LIMIT ?2"));
    WEIR_TRY_ASSIGN(const auto rows, sizes(read.bind(1, before_id).bind(2, uint64_t{limit})));
    for (const RowSize& row : rows) WEIR_TRY(bury(totals, row, reason));
    dropped = rows.size();
    WEIR_TRY(save_totals(totals));
    if (dropped == limit) return {};  // there may be more
    WEIR_TRY_ASSIGN(auto forget, db_->prepare("DELETE FROM outbox_age WHERE lived_s <= ?"));
    return forget.bind(1, mark_s).run();
  });
  WEIR_TRY(done);
  return dropped;
}

// On a full disk without the copy: what is behind the row in the outbox must not wait for it.
Status Outbox::put_aside(uint64_t id, const std::string& reason) {
  Status done = atomically([&]() -> Status {
    WEIR_TRY(copy_to_quarantine_.bind(1, id).bind(2, std::string_view(reason)).run());
    WEIR_TRY(trim_quarantine_.run());
    return bury_refused(id, reason);
  });
  if (done.ok() || done.error().code != Errc::kLimit) return done;
  return atomically([&] { return bury_refused(id, reason); });
}

Status Outbox::bury_refused(uint64_t id, const std::string& reason) {
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT mass, raw_len FROM outbox WHERE id = ?"));
  WEIR_TRY_ASSIGN(const bool found, read.bind(1, id).step());
  WEIR_CHECK(found);
  const RowSize row{id, RowKind::kData, 0, read.unsigned_integer(0), read.unsigned_integer(1)};
  read.reset();
  WEIR_TRY_ASSIGN(Totals totals, load_totals());
  WEIR_TRY(bury(totals, row, reason));
  ++totals.quarantined;
  return save_totals(totals);
}

Status Outbox::quarantine(const Target& target, uint64_t epoch, uint64_t seq,
                          const std::string& reason) {
  WEIR_TRY_ASSIGN(const uint64_t number, target_number(target, false));
  if (number == 0) return {};
  WEIR_TRY_ASSIGN(const auto rows, rows_of(number, {epoch, seq, seq}));
  for (const RowSize& row : rows) {  // one at most
    if (row.kind == RowKind::kData) WEIR_TRY(put_aside(row.id, reason));
  }
  return {};
}

Result<std::map<std::string, Loss>> Outbox::losses() {
  std::map<std::string, Loss> out;
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT reason, rows, mass FROM outbox_loss"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return out;
    out[std::string(read.text(0))] = {read.unsigned_integer(1), read.unsigned_integer(2)};
  }
}

}  // namespace weir
