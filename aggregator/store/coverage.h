#pragma once
// Coverage: who reports windows to this tier, and which of a settled window's sources did not.
//
// A source is a label set of kSourceWindows in this tier's fine windows: a host at a region, a
// region at global. It is expected from the first window it marked until it has been silent for
// Tier::expect_for_s. What it owes for a window is what it brought for its last whole one: 1 for a
// host, hosts times windows for a region.
//
// Owner and thread: the store thread; every call runs inside the caller's transaction; after one
// that was rolled back, open it anew. Promise: for
// each source and window, what settle() called missing is given back by came() when anything of it
// comes, once, however late (within kRemember), however often restarted. Cost: one indexed write
// per source and window; rows for sources of the last days and for what is missing.

#include <cstdint>
#include <optional>
#include <vector>

#include "aggregator/tier.h"
#include "common/bytes.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class Coverage {
 public:
  static constexpr int64_t kRememberS = 4 * 86400;  // longer than any intake takes late batches

  static Result<Coverage> open(Database& db, const Tier& tier);

  // What one fold has of a source for one fine window.
  struct Came {
    Labels source;
    int64_t start_s = 0;
    uint64_t merged = 0;   // source-windows marked as complete
    int64_t expected = 0;  // these, and what tiers below called missing (may take back)
  };

  // The source-windows that had been called missing and are not any more.
  Result<uint64_t> came(const Came& came);

  struct Missing {
    Labels source;
    uint64_t windows = 0;  // source-windows
  };

  // The next fine window to settle; none before the first fold. Windows settle in order.
  [[nodiscard]] std::optional<int64_t> next_s() const { return next_s_; }

  Status begin(int64_t start_s);
  // What is owed for the next window, which becomes settled.
  Result<std::vector<Missing>> settle();

  // Nothing that was called missing is given back any more: the tier above has not all of it.
  Status forget_missing();

  // Forgets the sources and windows of long ago.
  Status forget(int64_t now_s);

 private:
  struct Source {
    int64_t id = 0;
    int64_t first_s = 0;   // starts of windows
    int64_t last_s = 0;    // the newest it marked
    int64_t newest_s = 0;  // the newest it brought anything of
    int64_t newest = 0;    // source-windows expected of that one, so far
    int64_t usual = 0;     // of the one before, which is whole; 0: not known yet
  };

  Coverage(Database& db, const Tier& tier) : db_(&db), tier_(&tier) {}

  Status prepare();
  Status forget_damaged(const std::vector<int64_t>& ids);
  static void update(Source& source, const Came& came, int64_t silent_after_s);

  Database* db_;
  const Tier* tier_;
  Statement find_, insert_, update_, found_, found_erase_, note_, owing_, move_on_;
  std::optional<int64_t> next_s_;
};

}  // namespace weir::aggregator
