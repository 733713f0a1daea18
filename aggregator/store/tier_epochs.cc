#include "aggregator/store/tier_epochs.h"

#include <algorithm>

#include "aggregator/store/schema.h"
#include "common/check.h"

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
)sql";

}  // namespace

Result<TierEpochs> TierEpochs::open(Database& db) {
  TierEpochs out;
  WEIR_TRY(out.prepare(db));
  return out;
}

Status TierEpochs::prepare(Database& db) {
  db_ = &db;
  WEIR_TRY(db.exec(kTables));
  WEIR_TRY_ASSIGN(hand_out_, db.prepare("INSERT OR REPLACE INTO region_epoch VALUES(?,?,?,?)"));
  WEIR_TRY_ASSIGN(fence_, db.prepare("INSERT OR IGNORE INTO fence VALUES(?,?,?,?)"));
  WEIR_TRY_ASSIGN(raise_, db.prepare("UPDATE region_epoch SET floor = max(floor, coalesce((SELECT "
                                     "max(epoch) + 1 FROM fence WHERE fence.source = "
                                     "region_epoch.source AND at_s < ?), 0))"));
  WEIR_TRY_ASSIGN(forget_fences_, db.prepare("DELETE FROM fence WHERE at_s < ?"));
  return load(db);
}

Status TierEpochs::load(Database& db) {
  tiers_.clear();
  fenced_.clear();
  WEIR_TRY_ASSIGN(auto epochs, db.prepare("SELECT source,name,last,floor FROM region_epoch"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, epochs.step());
    if (!row) break;
    tiers_[source_in(epochs.blob(0))] = {std::string(epochs.text(1)), epochs.unsigned_integer(2),
                                         epochs.unsigned_integer(3)};
  }
  WEIR_TRY_ASSIGN(auto fences, db.prepare("SELECT source,epoch FROM fence"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, fences.step());
    if (!row) return {};
    fenced_.emplace(source_in(fences.blob(0)), fences.unsigned_integer(1));
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
  constexpr uint64_t kLargest = uint64_t{1} << 62;  // and as many again to hand out
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

Status TierEpochs::fence(const SourceId& tier, uint64_t epoch, int64_t lived_s,
                         const std::string& why) {
  WEIR_CHECK(epoch != 0 && epoch <= last(tier));
  WEIR_TRY(fence_.bind(1, ByteView(tier)).bind(2, epoch).bind(3, lived_s).bind(4, why).run());
  fenced_.emplace(tier, epoch);
  return {};
}

Status TierEpochs::forget_fences(int64_t before_s) {
  WEIR_TRY(raise_.bind(1, before_s).run());
  WEIR_TRY(forget_fences_.bind(1, before_s).run());
  return db_->changes() == 0 ? Status() : load(*db_);
}

}  // namespace weir::aggregator
