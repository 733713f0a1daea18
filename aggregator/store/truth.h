#pragma once
// Truth: beside a select, how complete its windows are and what was lost in them (docs/query.md
// "What every answer carries").
//
// Owner: Reader::select, inside the same read transaction. Only the request's matchers on `host`
// and `region` apply. Promise: coverage is read from blocks alone, where one fold has written both
// sides of the sum; losses from the inbox too. Cost: four small metrics over the same range.

#include <memory>
#include <vector>

#include "aggregator/store/select.h"

namespace weir::aggregator {

class Truth {
 public:
  static Result<std::unique_ptr<Truth>> open(const Tier& tier, const WindowNumbers& numbers,
                                             const SelectRequest& request,
                                             const QueryLimits& limits);
  Truth(const Truth&) = delete;
  Truth& operator=(const Truth&) = delete;

  void set_times(int64_t now_s, int64_t fine_from_s, int64_t coarse_from_s);
  [[nodiscard]] bool wants(const Metric& metric) const;
  Status read_blocks(Statement& blocks, uint32_t id, const SnapshotCatalog::Rows& rows);
  // Copies what it wants.
  Status add_batch(DecodedBatch& batch, const SnapshotCatalog& catalog);
  void finish(SelectNotes& notes);

 private:
  struct Requests {
    SelectRequest coverage;
    SelectRequest losses;
  };

  Truth(const Tier& tier, const WindowNumbers& numbers, Requests requests,
        std::vector<LabelMatcher> coverage, std::vector<LabelMatcher> losses,
        const QueryLimits& limits);

  Status unless_too_much(Status read);

  Requests requests_;
  Select coverage_;
  Select losses_;
  bool too_much_ = false;  // beyond a limit: nothing more is read, and nothing said but that
};

}  // namespace weir::aggregator
