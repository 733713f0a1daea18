#include "aggregator/window_placement.h"

#include <gtest/gtest.h>

namespace weir::aggregator {
namespace {

constexpr int64_t kNow = 1'700'000'070;
constexpr Window kWindow{1'700'000'040, 60};
constexpr Kept kKept{kNow - 72 * 3600, kNow + 120};
constexpr int64_t kDay = 86400;

ClockView clocks(int64_t offset_s, bool known = true) {
  return {kNow, offset_s * 1'000'000'000, known};
}

Window later(int64_t by_s) { return {kWindow.start_s + by_s, kWindow.width_s}; }

TEST(WindowPlacement, ClocksThatAgreeWithinHalfAMinuteLeaveWindowsAlone) {
  EXPECT_EQ(place(kWindow, clocks(30), kKept).window, kWindow);
  EXPECT_EQ(place(kWindow, clocks(-30), kKept).window, kWindow);
  EXPECT_EQ(place(kWindow, clocks(31), kKept).window, later(60));
  EXPECT_EQ(place(kWindow, clocks(-89), kKept).window, later(-60));
}

TEST(WindowPlacement, AClockThatIsADayOffIsPutRightEitherWay) {
  EXPECT_EQ(place(later(kDay), clocks(-kDay), kKept).window, kWindow);
  EXPECT_EQ(place(later(-5 * kDay), clocks(5 * kDay), kKept).window, kWindow);
}

TEST(WindowPlacement, WhatWasStampedBeforeItsClockWasSetStaysWhereItWas) {
  EXPECT_EQ(place(kWindow, clocks(kDay), kKept).window, kWindow);       // moved, it would be ahead
  EXPECT_EQ(place(kWindow, clocks(-5 * kDay), kKept).window, kWindow);  // and too old
}

TEST(WindowPlacement, WhatIsAheadOfBothClocksCountsNowOnceTheyAreKnown) {
  const Placement waits = place(later(kDay), clocks(0, false), kKept);
  EXPECT_STREQ(waits.fault, "window_ahead");
  for (const int64_t offset_s : {int64_t{0}, 3600 * int64_t{2}, -9 * kDay}) {
    const Placement placed = place(later(kDay), clocks(offset_s), kKept);
    EXPECT_EQ(placed.fault, nullptr);
    EXPECT_EQ(placed.window, kWindow) << offset_s;
  }
}

TEST(WindowPlacement, WhatIsTooOldByBothClocksIsRefused) {
  EXPECT_STREQ(place(later(-4 * kDay), clocks(0), kKept).fault, "window_old");
  EXPECT_STREQ(place(later(-4 * kDay), clocks(-kDay), kKept).fault, "window_old");
  EXPECT_EQ(place(later(-4 * kDay), clocks(2 * kDay), kKept).fault, nullptr);
}

TEST(WindowPlacement, WhatIsTakenAlwaysIsMovedAndThenKeptInRange) {
  const Kept kept{kNow - 72 * 3600, kNow};
  EXPECT_EQ(place_always(kWindow.start_s - kDay, 60, clocks(kDay), kept), kWindow);
  EXPECT_EQ(place_always(kWindow.start_s, 60, clocks(-1'700'000'000), kept), kWindow);
  EXPECT_EQ(place_always(40, 60, clocks(1'700'000'000), kept).start_s, 1'699'999'980);
  EXPECT_EQ(place_always(kWindow.start_s - 9 * kDay, 60, clocks(0), kept),
            window_at(kept.oldest_s, 60));
  EXPECT_EQ(place_always(kWindow.start_s + 9 * kDay, 60, clocks(0, false), kept), kWindow);
}

TEST(WindowPlacement, NoClockAndNoWindowIsTooFarOff) {
  const Kept kept{kNow - 72 * 3600, kNow};
  for (const int64_t offset_ns : {INT64_MIN, INT64_MAX}) {
    const ClockView absurd{kNow, offset_ns, true};
    EXPECT_EQ(place(kWindow, absurd, kKept).window, kWindow);
    for (const int64_t start_s : {INT64_MIN, INT64_MAX}) {
      const Window placed = place_always(start_s, 60, absurd, kept);
      EXPECT_GE(placed.end_s(), kept.oldest_s);
      EXPECT_LE(placed.start_s, kept.newest_s);
    }
    EXPECT_STREQ(place({INT64_MIN / 60 * 60, 60}, absurd, kKept).fault, "window_old");
    EXPECT_EQ(place({INT64_MAX / 60 * 60, 60}, absurd, kKept).window, kWindow);
  }
}

}  // namespace
}  // namespace weir::aggregator
