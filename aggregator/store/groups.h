#pragma once
// Groups: rollups of one coarse window that came as several batches, until all of them are here.
//
// Owner: the store thread of the last tier; every call runs inside the caller's transaction.
// Promise: a group is told to be whole once, with the last of its parts; what a damaged row says is
// not believed (kIo). Cost: one row per part of those that are not whole; a group of one part costs
// nothing.

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "aggregator/store_messages.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class Groups {
 public:
  static Result<Groups> open(Database& db);

  struct Whole {
    ManifestEntry own;  // its batches, as its sender's
    std::vector<ManifestEntry> manifest;
  };

  // One more of its batches, new to the ledger.
  Result<std::optional<Whole>> add(const AcceptedBatch& batch);

  // Of the groups of one epoch that are not whole: the seq of part 0 of the oldest; none: beyond
  // all.
  Result<uint64_t> oldest(const SourceId& source, uint64_t epoch);

  // Epochs that the manifests of parts name. A damaged one is no error: discard() is its end.
  Status each_named(const std::function<void(const SeqRange&)>& fn);

  // Sources and epochs that have a damaged row. Reads all rows: at a start.
  Result<std::vector<std::pair<SourceId, uint64_t>>> damaged();

  // Parts of groups that are not whole, of one epoch: forgotten.
  Result<std::vector<SeqRange>> discard(const SourceId& source, uint64_t epoch);

 private:
  Statement put_, count_, read_, erase_, read_all_, read_epoch_, erase_epoch_, oldest_;
};

}  // namespace weir::aggregator
