#include "aggregator/store/planner.h"

#include <algorithm>

namespace weir::aggregator {
namespace {

// Far beyond any calendar, and far from overflow.
constexpr int64_t kForever = int64_t{1} << 40;

int64_t floor_to(int64_t time_s, uint32_t width_s) {
  return window_at(std::clamp(time_s, -kForever, kForever), width_s).start_s;
}

int64_t ceil_to(int64_t time_s, uint32_t width_s) {
  const int64_t floor = floor_to(time_s, width_s);
  return floor >= time_s ? floor : floor + width_s;
}

}  // namespace

Plan plan_windows(const PlanInput& in) {
  // The wanted windows as if all were fine: starts in [first, end).
  const int64_t first = floor_to(in.range.from_s, in.in_s);
  const int64_t open_end = ceil_to(in.range.to_s, in.in_s);
  const int64_t end = open_end > in.now_s ? open_end : floor_to(in.range.to_s, in.in_s);
  Plan plan;
  const auto add = [&plan](Grain grain, int64_t from_s, int64_t to_s) {
    if (from_s < to_s) plan.spans.push_back({grain, from_s, to_s});
  };
  if (first >= end) return plan;

  const int64_t whole_end = floor_to(end, in.out_s);
  int64_t next = first;
  if (first < in.fine_from_s) {
    // A coarse window counts if its end is in the range, as a fine one would.
    add(Grain::kCoarse, std::max(floor_to(first, in.out_s), in.coarse_from_s),
        std::min(in.fine_from_s, whole_end));
    next = in.fine_from_s;
    plan.fine_missing = true;
  }
  const int64_t whole_first = ceil_to(next, in.out_s);
  if (in.prefer_coarse && whole_first < whole_end) {
    add(Grain::kFine, next, whole_first);
    add(Grain::kCoarse, std::max(whole_first, in.coarse_from_s), whole_end);
    add(Grain::kFine, whole_end, end);
  } else {
    add(Grain::kFine, next, end);
  }
  return plan;
}

}  // namespace weir::aggregator
