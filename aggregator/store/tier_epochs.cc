#include "aggregator/store/tier_epochs.h"

#include <algorithm>

namespace weir::aggregator {
namespace {

// region_epoch: the newest handed out, never forgotten, so that none is handed out twice; those
// below `floor` are fenced.
constexpr std::string_view kTables = R"sql(
CREATE TABLE IF NOT EXISTS region_epoch(source BLOB PRIMARY KEY, name TEXT NOT NULL,
  last INTEGER NOT NULL,
  floor INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fence(source BLOB NOT NULL, epoch INTEGER NOT NULL, at_s INTEGER NOT NULL,
  why TEXT NOT NULL, PRIMARY KEY(source, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS included(source BLOB NOT NULL, epoch INTEGER NOT NULL,
  tier_source BLOB NOT NULL, tier_epoch INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL,
  PRIMARY KEY(source, epoch, tier_source, tier_epoch, lo)) WITHOUT ROWID;
)sql";

SourceId source_id(ByteView bytes) {
  SourceId out{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), out.size()), out.begin());
  return out;
}

}  // namespace

Result<TierEpochs> TierEpochs::open(Database& db) {
  TierEpochs out;
  WEIR_TRY(out.prepare(db));
  return out;
}

Status TierEpochs::prepare(Database& db) {
  WEIR_TRY(db.exec(kTables));
  WEIR_TRY_ASSIGN(hand_out_, db.prepare("INSERT OR REPLACE INTO region_epoch VALUES(?,?,?,?)"));
  WEIR_TRY_ASSIGN(fence_, db.prepare("INSERT OR IGNORE INTO fence VALUES(?,?,?,?)"));
  const std::string key =
      "FROM included WHERE source = ?1 AND epoch = ?2 AND "
      "tier_source = ?3 AND tier_epoch = ?4";
  WEIR_TRY_ASSIGN(touching_,
                  db.prepare("SELECT lo,hi " + key + " AND lo <= ?5 + 1 ORDER BY lo DESC"));
  WEIR_TRY_ASSIGN(put_, db.prepare("INSERT OR REPLACE INTO included VALUES(?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(erase_, db.prepare("DELETE " + key + " AND lo = ?5"));
  WEIR_TRY_ASSIGN(read_,
                  db.prepare("SELECT lo,hi " + key + " AND hi >= ?5 AND lo <= ?6 ORDER BY lo"));
  WEIR_TRY_ASSIGN(raise_, db.prepare("UPDATE region_epoch SET floor = max(floor, coalesce((SELECT "
                                     "max(epoch) + 1 FROM fence WHERE fence.source = "
                                     "region_epoch.source AND at_s < ?), 0))"));
  WEIR_TRY_ASSIGN(forget_fences_, db.prepare("DELETE FROM fence WHERE at_s < ?"));
  WEIR_TRY_ASSIGN(forget_, db.prepare("DELETE FROM included WHERE source = ? AND epoch = ?"));
  WEIR_TRY_ASSIGN(auto epochs, db.prepare("SELECT source,name,last,floor FROM region_epoch"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, epochs.step());
    if (!row) break;
    tiers_[source_id(epochs.blob(0))] = {std::string(epochs.text(1)), epochs.unsigned_integer(2),
                                         epochs.unsigned_integer(3)};
  }
  WEIR_TRY_ASSIGN(auto fences, db.prepare("SELECT source,epoch FROM fence"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, fences.step());
    if (!row) return {};
    fenced_.emplace(source_id(fences.blob(0)), fences.unsigned_integer(1));
  }
}

uint64_t TierEpochs::last(const SourceId& tier) const {
  const auto at = tiers_.find(tier);
  return at == tiers_.end() ? 0 : at->second.last;
}

bool TierEpochs::fenced(const SourceId& tier, uint64_t epoch) const {
  const auto at = tiers_.find(tier);
  return fenced_.contains({tier, epoch}) || (at != tiers_.end() && epoch < at->second.floor);
}

bool TierEpochs::refuses(const SourceId& tier, uint64_t epoch) const {
  return epoch == 0 || epoch != last(tier) || fenced(tier, epoch);
}

std::string TierEpochs::name(const SourceId& tier) const {
  const auto at = tiers_.find(tier);
  return at == tiers_.end() ? "" : at->second.name;
}

Result<uint64_t> TierEpochs::greet(const SourceId& tier, const std::string& name,
                                   uint64_t current) {
  if (!refuses(tier, current)) return current;
  // Beyond what it says too: a database that is lost may have handed that one out. Then all before
  // the new one are fenced, for this database cannot tell them apart.
  constexpr uint64_t kLargest = INT64_MAX - 1;
  const bool foreign = current > last(tier) && current < kLargest;
  const uint64_t next = (foreign ? current : last(tier)) + 1;
  Epochs& epochs = tiers_[tier];
  epochs.name = name;
  epochs.last = next;
  if (foreign) epochs.floor = next;
  hand_out_.bind(1, ByteView(tier)).bind(2, name).bind(3, next).bind(4, epochs.floor);
  WEIR_TRY(hand_out_.run());
  return next;
}

Status TierEpochs::fence(const SourceId& tier, uint64_t epoch, int64_t now_s,
                         const std::string& why) {
  WEIR_TRY(fence_.bind(1, ByteView(tier)).bind(2, epoch).bind(3, now_s).bind(4, why).run());
  fenced_.emplace(tier, epoch);
  return {};
}

Status TierEpochs::include(const SourceId& tier, uint64_t epoch, const SeqRange& range) {
  const auto bind_key = [&](Statement& statement) -> Statement& {
    return statement.bind(1, ByteView(range.source))
        .bind(2, range.epoch)
        .bind(3, ByteView(tier))
        .bind(4, epoch);
  };
  uint64_t lo = range.lo;
  uint64_t hi = range.hi;
  std::vector<uint64_t> joined;
  bind_key(touching_).bind(5, range.hi);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, touching_.step());
    if (!row || touching_.unsigned_integer(1) + 1 < range.lo) break;
    lo = std::min(lo, touching_.unsigned_integer(0));
    hi = std::max(hi, touching_.unsigned_integer(1));
    joined.push_back(touching_.unsigned_integer(0));
  }
  touching_.reset();
  for (const uint64_t old : joined) {
    if (old != lo) WEIR_TRY(bind_key(erase_).bind(5, old).run());
  }
  return bind_key(put_).bind(5, lo).bind(6, hi).run();
}

Result<Included> TierEpochs::included(const AskIncluded& ask) {
  Included out{.tier_source = ask.tier_source,
               .tier_epoch = ask.tier_epoch,
               .source = ask.source,
               .epoch = ask.epoch,
               .lo = ask.lo,
               .complete_to = ask.hi,
               .fenced = fenced(ask.tier_source, ask.tier_epoch),
               .spans = {}};
  read_.bind(1, ByteView(ask.source)).bind(2, ask.epoch).bind(3, ByteView(ask.tier_source));
  read_.bind(4, ask.tier_epoch).bind(5, ask.lo).bind(6, ask.hi);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_.step());
    if (!row) return out;
    const uint64_t lo = std::max(ask.lo, read_.unsigned_integer(0));
    if (out.spans.size() == kMaxRanges) {  // the asker asks for the rest
      out.complete_to = lo - 1;
      read_.reset();
      return out;
    }
    out.spans.push_back({ask.epoch, lo, std::min(ask.hi, read_.unsigned_integer(1))});
  }
}

Status TierEpochs::forget_fences(int64_t before_s) {
  WEIR_TRY(raise_.bind(1, before_s).run());
  return forget_fences_.bind(1, before_s).run();
}

Status TierEpochs::forget(const SourceId& source, uint64_t epoch) {
  return forget_.bind(1, ByteView(source)).bind(2, epoch).run();
}

}  // namespace weir::aggregator
