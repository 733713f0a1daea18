#pragma once
// TierEpochs: the epochs handed out to the tiers below, and which of them are fenced (docs/wire.md
// "Failover").
//
// Owner: the store thread; every call runs inside the caller's transaction, and what it says may be
// told to others only after COMMIT. Promise: an epoch is handed out once, also after kill -9; only
// what was handed out is fenced, so nobody's question makes a row but the tiers' own greetings.
// Cost: what is handed out and fenced is in memory (a few words per epoch of the last days); undo
// by opening it anew.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/batch.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class TierEpochs {
 public:
  static constexpr size_t kMaxFences = 10'000;  // of the days until they are forgotten

  static Result<TierEpochs> open(Database& db);

  // The epoch of a tier that says HELLO: the one it has if that is the last handed out and not
  // fenced, else the next.
  Result<uint64_t> greet(const SourceId& tier, const std::string& name, uint64_t current);

  [[nodiscard]] bool is_tier(const SourceId& tier) const { return tiers_.contains(tier); }

  // The newest handed out; 0: none.
  [[nodiscard]] uint64_t last(const SourceId& tier) const;
  // As it called itself when an epoch was handed out.
  [[nodiscard]] std::string name(const SourceId& tier) const;

  // For one more fence.
  [[nodiscard]] bool has_room() const { return fenced_.size() < kMaxFences; }

  // Nothing new of it is taken: it is fenced, superseded, or was never handed out.
  [[nodiscard]] bool refuses(const SourceId& tier, uint64_t epoch) const;
  [[nodiscard]] bool fenced(const SourceId& tier, uint64_t epoch) const;
  // Of an epoch that was handed out.
  Status fence(const SourceId& tier, uint64_t epoch, int64_t lived_s, const std::string& why);

  // Fences before this become one: all up to the newest of them are fenced for ever.
  Status forget_fences(int64_t before_s);

 private:
  using Key = std::pair<SourceId, uint64_t>;

  Status prepare(Database& db);

  struct Epochs {
    std::string name;
    uint64_t last = 0;
    uint64_t floor = 0;  // all below are fenced
  };

  std::map<SourceId, Epochs> tiers_;
  std::set<Key> fenced_;
  Status load(Database& db);

  Database* db_ = nullptr;
  Statement hand_out_, fence_, raise_, forget_fences_;
};

}  // namespace weir::aggregator
