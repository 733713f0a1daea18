#pragma once
// Tier: what one aggregator does to the windows that reach it. Region and global differ only in
// this value: (window in, window out, labels added and dropped, the next tier or none).
//
// A plain value, made by the configuration, shared by const reference. Pure functions, any thread.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/batch.h"
#include "common/metric.h"

namespace weir::aggregator {

struct Tier {
  std::string kind;  // "region", "global": only a word for people
  std::string name;
  uint32_t in_s = 60;                    // width of the windows received and kept as fine
  uint32_t out_s = 300;                  // width of the windows kept as coarse and sent up
  std::vector<std::string> drop_labels;  // sorted; fine windows keep them, coarse ones do not
  Labels add_labels;                     // sorted; on everything received, over the sender's own
  std::string upstream;                  // endpoint of the next tier; empty: this is the last one
  int64_t keep_in_s = 48 * 3600;
  int64_t keep_out_s = 30 * 86400;
  int64_t close_after_s = 10;                     // a window is closed this long after its end
  int64_t expect_for_s = 3600;                    // a silent source's windows are missing so long
  std::chrono::milliseconds flush_every{10'000};  // 0: only when a window out has closed

  [[nodiscard]] bool last() const { return upstream.empty(); }
};

// Who an aggregator is to those above and below it, where no key says it.
[[nodiscard]] SourceId tier_source(std::string_view kind, std::string_view name);

// Every mistake in it, one sentence each; empty: good.
[[nodiscard]] std::vector<std::string> mistakes(const Tier& tier);

// The labels of a received series in this tier, and what is left of them in coarse windows.
[[nodiscard]] Labels with_added(const Tier& tier, Labels labels);
[[nodiscard]] Labels without_dropped(const Tier& tier, const Labels& labels);

// A window is rewritten as one compressed block when this long has passed since its end.
[[nodiscard]] constexpr int64_t seal_after_s(uint32_t width_s) { return int64_t{120} * width_s; }

}  // namespace weir::aggregator
