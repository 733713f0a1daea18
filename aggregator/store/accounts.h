#pragma once
// Accounts: what the last tier has of each source, proved. Per (source, epoch) the ranges of
// batches that are merged here, their mass, the mass of those given up (tombstones), and what the
// source itself said its epoch amounts to at the end of the range.
//
// Owner: the store thread; every call runs inside the caller's transaction. Promise: where a range
// begins with the epoch's first batch, merged + lost == what the source said; the difference is
// weir_ledger_imbalance, and is 0 unless something was counted twice, or with another mass than it
// had. A batch that is entered twice makes it differ, and is counted; one that is missing, without
// a tombstone too, is a gap. Cost: two indexed reads and one write per entry; one row per gap in an
// epoch's numbers.

#include <cstdint>
#include <functional>
#include <vector>

#include "common/batch.h"
#include "common/outbox.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class Accounts {
 public:
  static Result<Accounts> open(Database& db);

  // False: some of it had been entered before.
  Result<bool> enter(const ManifestEntry& entry);

  struct Held {
    std::vector<SeqSpan> spans;  // at most kMaxRanges
    uint64_t complete_to = 0;    // of lo..hi, nothing is left out up to here
  };

  // What is entered of a source's lo..hi, by whichever way it came.
  Result<Held> held(const SourceId& source, const SeqSpan& span);

  struct Off {
    SourceId source{};
    uint64_t imbalance = 0;  // all its epochs', each as a distance
  };

  // Sources whose account does not balance, the worst first.
  Result<std::vector<Off>> off();

  struct Gaps {
    SourceId source{};
    uint64_t gaps = 0;  // runs of numbers that are not here, of all its epochs
  };

  // Sources with numbers missing, the most first: nothing can be said of what follows them. Epochs
  // that are over are left out, for what they lack never comes. Reads a row for each gap.
  Result<std::vector<Gaps>> gaps(const std::function<bool(const SourceId&, uint64_t)>& is_over);
  // How many sources have an account. Reads all of them: for status, now and then.
  Result<uint64_t> sources();

  Status forget(const SourceId& source, uint64_t epoch);

 private:
  struct Line {
    uint64_t lo = 0;
    uint64_t hi = 0;
    uint64_t merged = 0;
    uint64_t lost = 0;
    uint64_t said = 0;
  };

  Statement touching_, put_, erase_, held_, off_, gaps_, sources_, forget_;
};

}  // namespace weir::aggregator
