#pragma once
// Reader: the store as the query engine sees it (aggregator/query/data_source.h).
//
// Owner and thread: one query thread; it opens its own read-only connection. Promise: each call is
// one read transaction, so every committed batch is seen once, in a block or in the inbox (a later
// transaction, if what it wanted to read was folded and written over meanwhile); series and windows
// come out the same however the planner tiles the range; a damaged block is left out, counted and
// named in the notes, never guessed. Cost: blocks of the metric's key range are read in order, 256
// rows at a time; the catalog is cached and follows the database.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregator/detect/anomaly.h"
#include "aggregator/query/data_source.h"
#include "aggregator/store/block_key.h"
#include "aggregator/store/body_file.h"
#include "aggregator/store/catalog.h"
#include "aggregator/store/select.h"
#include "aggregator/store/truth.h"
#include "aggregator/tier.h"
#include "common/clock.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class Reader final : public DataSource {
 public:
  // `clock` outlives it. The database must exist: the store thread makes it first.
  static Result<std::unique_ptr<Reader>> open(const std::string& path, const Tier& tier,
                                              const Clock& clock, DatabaseOptions database = {});

  Result<Selection> select(const SelectRequest& request, const QueryLimits& limits) override;
  // From the series ever folded; those still in the inbox appear with the next fold.
  Result<std::vector<std::string>> label_values(const std::string& label) override;
  [[nodiscard]] std::vector<uint32_t> widths() const override;

  // Of windows that end in (from_s, to_s], newest first.
  Result<std::vector<Anomaly>> anomalies(int64_t from_s, int64_t to_s, size_t limit);

 private:
  struct Held {
    int64_t fine_from_s = 0;
    int64_t coarse_from_s = 0;
  };

  Reader(Database db, const std::string& path, const Tier& tier, const Clock& clock)
      : db_(std::move(db)), bodies_(body_file(path)), tier_(tier), clock_(&clock) {}

  Status prepare();
  Result<Held> held();
  Result<LedgerNote> read_ledger();
  // What one snapshot shows; none: what it wanted to read is no longer where it was.
  Result<std::optional<Selection>> try_select(const SelectRequest& request,
                                              const QueryLimits& limits);
  // `unread`: rows whose body is not what was stored.
  Status read_inbox(Select& select, Truth* truth, const TimeRange& range,
                    std::vector<int64_t>& unread);
  Result<bool> in_inbox(int64_t id);

  Database db_;
  BodyReader bodies_;
  Tier tier_;
  const Clock* clock_;
  WindowNumbers numbers_;
  std::optional<SnapshotCatalog> catalog_;
  Statement held_, blocks_, inbox_, inbox_row_, accounts_, accounts_off_;
};

}  // namespace weir::aggregator
