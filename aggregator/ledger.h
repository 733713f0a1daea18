#pragma once
// Ledger: which (source, epoch, seq) this tier already holds, as interval sets in SQLite. The dedup
// key: written in the same transaction as the data it guards.
//
// Owner: the store thread. Promise: claim() is true exactly once for each (level, source, epoch,
// seq) until it is removed, also across crashes; claims leave at most max_intervals per (level,
// source, epoch): beyond it one that opens a new gap is refused (kLimit) and the sender retries.
// Cost: two indexed reads and one write per claim.

#include <cstdint>
#include <vector>

#include "common/batch.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

enum class LedgerLevel : uint8_t { kHere = 1, kLastTier = 2 };

class Ledger {
 public:
  static Result<Ledger> open(Database& db, size_t max_intervals = 1024);

  // True: new, now held. False: a duplicate. Call inside the transaction that stores the batch.
  Result<bool> claim(LedgerLevel level, const SourceId& source, uint64_t epoch, uint64_t seq);
  [[nodiscard]] Result<bool> holds(LedgerLevel level, const SourceId& source, uint64_t epoch,
                                   uint64_t seq);
  // Adds a whole range (of a manifest that reached the last tier); overlaps are fine.
  Status add(LedgerLevel level, const SeqRange& range);
  // Held no more: the sender is to bring it again. Call inside the transaction that drops the
  // batch.
  Status remove(LedgerLevel level, const SourceId& source, uint64_t epoch, uint64_t seq);
  // Nothing is held here but what the last tier has.
  Status keep_last_tier();
  // Nothing is known of this epoch any more.
  Status forget(const SourceId& source, uint64_t epoch);
  // All ranges held of one source, ascending, for WELCOME and repeated acknowledgements.
  Result<std::vector<SeqRange>> ranges(LedgerLevel level, const SourceId& source);
  Result<std::vector<SeqRange>> all(LedgerLevel level);

 private:
  explicit Ledger(size_t max_intervals) : max_intervals_(max_intervals) {}

  void bind_key(Statement& statement, LedgerLevel level, const SourceId& source, uint64_t epoch);

  size_t max_intervals_;
  Statement down_from_, count_, put_, erase_, forget_, of_source_, of_level_, drop_here_,
      copy_last_;
};

}  // namespace weir::aggregator
