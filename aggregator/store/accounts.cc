#include "aggregator/store/accounts.h"

#include <algorithm>
#include <functional>

#include "aggregator/store/schema.h"
#include "common/control.h"

namespace weir::aggregator {
namespace {

// off: merged + lost - said mod 2^64 where lo is 1, else 0. SQLite's own sums would overflow. A
// range with another lo follows a gap.
constexpr std::string_view kTables = R"sql(
CREATE TABLE IF NOT EXISTS account(source BLOB NOT NULL, epoch INTEGER NOT NULL,
  lo INTEGER NOT NULL, hi INTEGER NOT NULL, merged INTEGER NOT NULL, lost INTEGER NOT NULL,
  said INTEGER NOT NULL, off INTEGER NOT NULL, PRIMARY KEY(source, epoch, lo)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS account_off ON account(source) WHERE off <> 0;
CREATE INDEX IF NOT EXISTS account_gap ON account(source, epoch) WHERE lo <> 1;
)sql";

// Of a difference mod 2^64: too much and too little alike.
uint64_t distance(uint64_t off) { return std::min(off, uint64_t{0} - off); }

}  // namespace

Result<Accounts> Accounts::open(Database& db) {
  Accounts out;
  WEIR_TRY(db.exec(kTables));
  WEIR_TRY_ASSIGN(out.touching_,
                  db.prepare("SELECT lo,hi,merged,lost,said FROM account WHERE source = ?1 "
                             "AND epoch = ?2 AND lo <= ?3 + 1 ORDER BY lo DESC"));
  WEIR_TRY_ASSIGN(out.put_, db.prepare("INSERT OR REPLACE INTO account VALUES(?,?,?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(out.erase_,
                  db.prepare("DELETE FROM account WHERE source = ? AND epoch = ? AND lo = ?"));
  WEIR_TRY_ASSIGN(out.held_, db.prepare("SELECT lo,hi FROM account WHERE source = ? AND epoch = ? "
                                        "AND hi >= ? AND lo <= ? ORDER BY lo"));
  WEIR_TRY_ASSIGN(out.off_, db.prepare("SELECT source,off FROM account INDEXED BY account_off "
                                       "WHERE off <> 0 ORDER BY source"));
  WEIR_TRY_ASSIGN(out.gaps_, db.prepare("SELECT source,epoch,count(*) FROM account INDEXED BY "
                                        "account_gap WHERE lo <> 1 GROUP BY source,epoch"));
  WEIR_TRY_ASSIGN(out.sources_, db.prepare("SELECT count(DISTINCT source) FROM account"));
  WEIR_TRY_ASSIGN(out.forget_, db.prepare("DELETE FROM account WHERE source = ? AND epoch = ?"));
  return out;
}

Result<bool> Accounts::enter(const ManifestEntry& entry) {
  const auto& [range, mass, said, lost] = entry;
  Line line{range.lo, range.hi, lost ? 0 : mass, lost ? mass : 0, said};
  bool is_new = true;
  std::vector<uint64_t> joined;
  touching_.bind(1, ByteView(range.source)).bind(2, range.epoch).bind(3, range.hi);
  for (;;) {  // every range that overlaps or touches, downwards
    WEIR_TRY_ASSIGN(const bool row, touching_.step());
    if (!row || touching_.unsigned_integer(1) + 1 < range.lo) break;
    const Line old{touching_.unsigned_integer(0), touching_.unsigned_integer(1),
                   touching_.unsigned_integer(2), touching_.unsigned_integer(3),
                   touching_.unsigned_integer(4)};
    if (old.lo <= range.hi && old.hi >= range.lo) is_new = false;
    if (old.hi > line.hi) line.said = old.said;
    line.lo = std::min(line.lo, old.lo);
    line.hi = std::max(line.hi, old.hi);
    line.merged += old.merged;
    line.lost += old.lost;
    joined.push_back(old.lo);
  }
  touching_.reset();
  for (const uint64_t lo : joined) {
    if (lo == line.lo) continue;  // replaced
    WEIR_TRY(erase_.bind(1, ByteView(range.source)).bind(2, range.epoch).bind(3, lo).run());
  }
  const uint64_t off = line.lo == 1 ? line.merged + line.lost - line.said : 0;
  put_.bind(1, ByteView(range.source)).bind(2, range.epoch).bind(3, line.lo).bind(4, line.hi);
  put_.bind(5, line.merged).bind(6, line.lost).bind(7, line.said).bind(8, off);
  WEIR_TRY(put_.run());
  return is_new;
}

Result<Accounts::Held> Accounts::held(const SourceId& source, const SeqSpan& span) {
  Held out{.spans = {}, .complete_to = span.hi};
  held_.bind(1, ByteView(source)).bind(2, span.epoch).bind(3, span.lo).bind(4, span.hi);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, held_.step());
    if (!row) return out;
    const uint64_t lo = std::max(span.lo, held_.unsigned_integer(0));
    if (out.spans.size() == kMaxRanges) {  // the asker asks for the rest
      out.complete_to = lo - 1;
      held_.reset();
      return out;
    }
    out.spans.push_back({span.epoch, lo, std::min(span.hi, held_.unsigned_integer(1))});
  }
}

Result<std::vector<Accounts::Off>> Accounts::off() {
  std::vector<Off> out;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, off_.step());
    if (!row) break;
    const SourceId source = source_in(off_.blob(0));
    if (out.empty() || out.back().source != source) out.push_back({source, 0});
    out.back().imbalance += distance(off_.unsigned_integer(1));
  }
  std::ranges::stable_sort(out, std::greater{}, &Off::imbalance);
  return out;
}

Result<std::vector<Accounts::Gaps>> Accounts::gaps(
    const std::function<bool(const SourceId&, uint64_t)>& is_over) {
  std::vector<Gaps> out;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, gaps_.step());
    if (!row) break;
    const SourceId source = source_in(gaps_.blob(0));
    if (is_over(source, gaps_.unsigned_integer(1))) continue;
    if (out.empty() || out.back().source != source) out.push_back({source, 0});
    out.back().gaps += gaps_.unsigned_integer(2);
  }
  std::ranges::stable_sort(out, std::greater{}, &Gaps::gaps);
  return out;
}

Result<uint64_t> Accounts::sources() {
  WEIR_TRY(sources_.step());
  const uint64_t count = sources_.unsigned_integer(0);
  sources_.reset();
  return count;
}

Status Accounts::forget(const SourceId& source, uint64_t epoch) {
  return forget_.bind(1, ByteView(source)).bind(2, epoch).run();
}

}  // namespace weir::aggregator
