#include "aggregator/ledger.h"

#include <algorithm>
#include <string>

#include "common/check.h"

namespace weir::aggregator {
namespace {

constexpr uint64_t kLargestSeq = INT64_MAX - 1;  // SQLite orders signed numbers; hi + 1 must fit

constexpr std::string_view kSchema = R"sql(
CREATE TABLE IF NOT EXISTS ledger(
  level INTEGER NOT NULL,  -- 1 held here, 2 held at the last tier
  source BLOB NOT NULL, epoch INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL,
  PRIMARY KEY(level, source, epoch, lo)) WITHOUT ROWID;
)sql";

Result<std::vector<SeqRange>> read_ranges(Statement& statement) {
  std::vector<SeqRange> ranges;
  while (true) {
    WEIR_TRY_ASSIGN(const bool row, statement.step());
    if (!row) return ranges;
    SeqRange& range = ranges.emplace_back();
    const ByteView id = statement.blob(0);
    if (id.size() != range.source.size()) {
      statement.reset();
      return Error{Errc::kIo, "the ledger holds a damaged source id"};
    }
    std::copy(id.begin(), id.end(), range.source.begin());
    range.epoch = statement.unsigned_integer(1);
    range.lo = statement.unsigned_integer(2);
    range.hi = statement.unsigned_integer(3);
  }
}

int64_t number_of(LedgerLevel level) { return static_cast<int64_t>(level); }

}  // namespace

Result<Ledger> Ledger::open(Database& db, size_t max_intervals) {
  Ledger ledger(max_intervals);
  WEIR_TRY(db.exec(kSchema));
  const std::string key = "FROM ledger WHERE level = ?1 AND source = ?2 AND epoch = ?3";
  WEIR_TRY_ASSIGN(ledger.down_from_,
                  db.prepare("SELECT lo, hi " + key + " AND lo <= ?4 ORDER BY lo DESC"));
  WEIR_TRY_ASSIGN(ledger.count_, db.prepare("SELECT count(*) " + key));
  WEIR_TRY_ASSIGN(ledger.put_, db.prepare("INSERT OR REPLACE INTO ledger VALUES(?1,?2,?3,?4,?5)"));
  WEIR_TRY_ASSIGN(ledger.erase_, db.prepare("DELETE " + key + " AND lo > ?4 AND lo <= ?5"));
  WEIR_TRY_ASSIGN(ledger.forget_, db.prepare("DELETE FROM ledger WHERE level IN (1, 2) AND "
                                             "source = ? AND epoch = ?"));
  WEIR_TRY_ASSIGN(ledger.drop_here_, db.prepare("DELETE FROM ledger WHERE level = 1"));
  WEIR_TRY_ASSIGN(ledger.copy_last_, db.prepare("INSERT INTO ledger SELECT 1,source,epoch,lo,hi "
                                                "FROM ledger WHERE level = 2"));
  WEIR_TRY_ASSIGN(ledger.of_source_,
                  db.prepare("SELECT source, epoch, lo, hi FROM ledger "
                             "WHERE level = ?1 AND source = ?2 ORDER BY epoch, lo"));
  WEIR_TRY_ASSIGN(ledger.of_level_, db.prepare("SELECT source, epoch, lo, hi FROM ledger "
                                               "WHERE level = ?1 ORDER BY source, epoch, lo"));
  return ledger;
}

void Ledger::bind_key(Statement& statement, LedgerLevel level, const SourceId& source,
                      uint64_t epoch) {
  statement.bind(1, number_of(level)).bind(2, ByteView(source)).bind(3, epoch);
}

Result<bool> Ledger::claim(LedgerLevel level, const SourceId& source, uint64_t epoch,
                           uint64_t seq) {
  if (seq == 0 || seq > kLargestSeq) return invalid("ledger: no such sequence number");
  bind_key(down_from_, level, source, epoch);
  WEIR_TRY_ASSIGN(const bool row, down_from_.bind(4, seq + 1).step());
  bool touches = false;
  if (row) {
    // The last range that starts at or before seq + 1: it holds seq, touches it, or is far below.
    uint64_t lo = down_from_.unsigned_integer(0);
    uint64_t hi = down_from_.unsigned_integer(1);
    touches = lo == seq + 1 || hi + 1 == seq;
    if (lo == seq + 1) {
      WEIR_TRY_ASSIGN(const bool below, down_from_.step());
      lo = below ? down_from_.unsigned_integer(0) : 0;
      hi = below ? down_from_.unsigned_integer(1) : 0;
    }
    down_from_.reset();
    if (lo != 0 && hi >= seq) return false;
  }
  if (!touches) {
    bind_key(count_, level, source, epoch);
    WEIR_TRY_ASSIGN(const bool counted, count_.step());
    WEIR_CHECK(counted);
    const bool full = count_.unsigned_integer(0) >= max_intervals_;
    count_.reset();
    if (full) return Error{Errc::kLimit, "ledger: too many gaps from one source"};
  }
  WEIR_TRY(add(level, {source, epoch, seq, seq}));
  return true;
}

Result<bool> Ledger::holds(LedgerLevel level, const SourceId& source, uint64_t epoch,
                           uint64_t seq) {
  bind_key(down_from_, level, source, epoch);
  WEIR_TRY_ASSIGN(const bool row, down_from_.bind(4, seq).step());
  const bool held = row && down_from_.unsigned_integer(1) >= seq;
  down_from_.reset();
  return held;
}

Status Ledger::add(LedgerLevel level, const SeqRange& range) {
  if (range.lo == 0 || range.lo > range.hi || range.hi > kLargestSeq) {
    return invalid("ledger: no such range");
  }
  uint64_t lo = range.lo;
  uint64_t hi = range.hi;
  bind_key(down_from_, level, range.source, range.epoch);
  down_from_.bind(4, range.hi + 1);
  uint64_t top = 0;  // where the highest of them starts
  while (true) {     // every range that overlaps or touches, downwards
    WEIR_TRY_ASSIGN(const bool row, down_from_.step());
    if (!row || down_from_.unsigned_integer(1) + 1 < range.lo) break;
    top = std::max(top, down_from_.unsigned_integer(0));
    lo = std::min(lo, down_from_.unsigned_integer(0));
    hi = std::max(hi, down_from_.unsigned_integer(1));
  }
  down_from_.reset();
  if (top > lo) {  // else one range only grows, in place
    bind_key(erase_, level, range.source, range.epoch);
    WEIR_TRY(erase_.bind(4, lo).bind(5, hi).run());
  }
  bind_key(put_, level, range.source, range.epoch);
  return put_.bind(4, lo).bind(5, hi).run();
}

Status Ledger::remove(LedgerLevel level, const SourceId& source, uint64_t epoch, uint64_t seq) {
  bind_key(down_from_, level, source, epoch);
  WEIR_TRY_ASSIGN(const bool row, down_from_.bind(4, seq).step());
  const uint64_t lo = row ? down_from_.unsigned_integer(0) : 0;
  const uint64_t hi = row ? down_from_.unsigned_integer(1) : 0;
  down_from_.reset();
  if (!row || hi < seq) return {};
  bind_key(erase_, level, source, epoch);
  WEIR_TRY(erase_.bind(4, lo - 1).bind(5, lo).run());
  if (lo < seq) WEIR_TRY(add(level, {source, epoch, lo, seq - 1}));
  if (seq < hi) WEIR_TRY(add(level, {source, epoch, seq + 1, hi}));
  return {};
}

Status Ledger::keep_last_tier() {
  WEIR_TRY(drop_here_.run());
  return copy_last_.run();
}

Status Ledger::forget(const SourceId& source, uint64_t epoch) {
  return forget_.bind(1, ByteView(source)).bind(2, epoch).run();
}

Result<std::vector<SeqRange>> Ledger::ranges(LedgerLevel level, const SourceId& source) {
  of_source_.bind(1, number_of(level)).bind(2, ByteView(source));
  return read_ranges(of_source_);
}

Result<std::vector<SeqRange>> Ledger::all(LedgerLevel level) {
  of_level_.bind(1, number_of(level));
  return read_ranges(of_level_);
}

}  // namespace weir::aggregator
