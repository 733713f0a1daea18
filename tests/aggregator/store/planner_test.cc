#include "aggregator/store/planner.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace weir::aggregator {
namespace {

constexpr int64_t kNow = 1'000'000'200;

PlanInput input(int64_t from_s, int64_t to_s) {
  return {.in_s = 60,
          .out_s = 300,
          .range = {from_s, to_s},
          .now_s = kNow,
          .fine_from_s = INT64_MIN,
          .coarse_from_s = INT64_MIN,
          .prefer_coarse = true};
}

TEST(Planner, WholeCoarseWindowsInTheMiddleAndFineOnesAtTheEdges) {
  const auto plan = plan_windows(input(1140, 2160));
  const std::vector<WindowSpan> expected{
      {Grain::kFine, 1140, 1200}, {Grain::kCoarse, 1200, 2100}, {Grain::kFine, 2100, 2160}};
  EXPECT_EQ(plan.spans, expected);
  EXPECT_FALSE(plan.fine_missing);
}

TEST(Planner, CallerWhoNeedsDroppedLabelsGetsFineWindowsOnly) {
  auto in = input(1140, 2160);
  in.prefer_coarse = false;
  const std::vector<WindowSpan> expected{{Grain::kFine, 1140, 2160}};
  EXPECT_EQ(plan_windows(in).spans, expected);
}

TEST(Planner, WindowCountsWhenItsEndIsInTheHalfOpenRange) {
  // (1200, 1260] holds exactly the window that ends at 1260.
  const std::vector<WindowSpan> one{{Grain::kFine, 1200, 1260}};
  EXPECT_EQ(plan_windows(input(1200, 1260)).spans, one);
  EXPECT_EQ(plan_windows(input(1259, 1260)).spans, one);
  EXPECT_TRUE(plan_windows(input(1200, 1259)).spans.empty());
}

TEST(Planner, OpenWindowCountsIfItBeganBeforeTheEnd) {
  const int64_t start = kNow - kNow % 60;
  const std::vector<WindowSpan> open{{Grain::kFine, start - 60, start + 60}};
  EXPECT_EQ(plan_windows(input(start - 60, kNow + 1)).spans, open);
}

TEST(Planner, CoarseWindowsAnswerWhereFineOnesAreGone) {
  auto in = input(1140, 3000);
  in.prefer_coarse = false;
  in.fine_from_s = 2400;
  const auto plan = plan_windows(in);
  const std::vector<WindowSpan> expected{{Grain::kCoarse, 900, 2400}, {Grain::kFine, 2400, 3000}};
  EXPECT_EQ(plan.spans, expected);
  EXPECT_TRUE(plan.fine_missing);
}

TEST(Planner, ExtremeRangesAreBoundedAndOrdered) {
  for (const auto& [from, to] : {std::pair{INT64_MIN, INT64_MAX}, std::pair{INT64_MAX, INT64_MIN},
                                 std::pair{int64_t{5}, int64_t{5}}}) {
    const auto plan = plan_windows(input(from, to));
    for (const auto& span : plan.spans) EXPECT_LT(span.from_s, span.to_s);
    EXPECT_EQ(plan.spans.empty(), from >= to);
  }
}

TEST(Planner, RandomRangesCoverEachWantedFineWindowOnce) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const auto from = static_cast<int64_t>(random() % 4000) + 1'000'000;
    const auto to = from + static_cast<int64_t>(random() % 4000);
    auto in = input(from, to);
    in.now_s = 1'002'000 + static_cast<int64_t>(random() % 4000);
    in.prefer_coarse = random() % 2 == 0;
    std::multiset<int64_t> got;
    for (const auto& span : plan_windows(in).spans) {
      for (int64_t start = span.from_s; start < span.to_s; start += 60) got.insert(start);
      if (span.grain == Grain::kCoarse) {
        EXPECT_EQ(span.from_s % 300 + span.to_s % 300, 0);
      }
    }
    std::multiset<int64_t> wanted;
    for (int64_t start = 1'000'000 / 300 * 300 - 600; start < 1'010'000; start += 60) {
      const int64_t end = start + 60;
      const bool closed = end > from && end <= to;
      const bool open = end > in.now_s && start < to && end > from;
      if (closed || open) wanted.insert(start);
    }
    ASSERT_EQ(got, wanted) << from << " " << to << " now " << in.now_s;
  }
}

}  // namespace
}  // namespace weir::aggregator
