#pragma once
// Select: one read of stored windows, from its first block to its last inbox batch.
//
// Owner: Reader::select, inside its read transaction. Promise: each delta of the planned windows is
// added once; what limits stop is an error, what is damaged is left out and counted.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "aggregator/query/data_source.h"
#include "aggregator/query/matcher.h"
#include "aggregator/store/block_key.h"
#include "aggregator/store/catalog.h"
#include "aggregator/store/planner.h"
#include "aggregator/store/series_set.h"
#include "aggregator/tier.h"
#include "common/batch.h"
#include "common/sqlite.h"

namespace weir::aggregator {

// Everything referred to outlives it.
class Select {
 public:
  Select(const Tier& tier, const WindowNumbers& numbers, const SelectRequest& request,
         std::vector<LabelMatcher> matchers, const QueryLimits& limits);

  void set_times(int64_t now_s, int64_t fine_from_s, int64_t coarse_from_s);

  [[nodiscard]] bool wants(const Metric& metric) const;

  Status read_blocks(Statement& blocks, uint32_t id, const SnapshotCatalog::Rows& rows);

  // kTake: the rows it wants are moved out of the batch.
  enum class Use : uint8_t { kTake, kCopy };
  Status add_batch(DecodedBatch& batch, const SnapshotCatalog& catalog, Use use);

  void count_damaged() { ++damaged_; }

  [[nodiscard]] Selection finish();

 private:
  // How this select reads one metric: which windows, and which labels its series keep.
  struct Reading {
    Plan plan;
    bool project = false;  // series lose the dropped labels, in fine windows too
  };

  // Where a row's values go: the series asked for, or those that may hold some of it.
  struct Place {
    SeriesSet* set = nullptr;
    SeriesSet::Slot slot = 0;
  };

  using Places = std::vector<std::optional<Place>>;  // by row

  Reading reading_of(const Metric& metric);
  std::optional<Place> place_of(const std::shared_ptr<const Metric>& metric, const Reading& reading,
                                const Labels& labels);
  Status read_span(Statement& blocks, uint32_t id, const Metric& metric, const WindowSpan& span,
                   const Places& places);
  [[nodiscard]] std::optional<Window> placed(const Plan& plan, const Window& fine) const;
  std::shared_ptr<const Metric> shared(const Metric& metric, const SnapshotCatalog& catalog);

  const Tier& tier_;
  const WindowNumbers& numbers_;
  const SelectRequest& request_;
  std::vector<LabelMatcher> matchers_;
  SeriesSet set_;
  SeriesSet unnamed_;
  PlanInput input_;
  std::map<Metric, std::shared_ptr<const Metric>> unfolded_;
  bool matches_dropped_ = false;
  bool lacks_labels_ = false;
  uint32_t finest_s_ = UINT32_MAX;
  uint64_t damaged_ = 0;
};

}  // namespace weir::aggregator
