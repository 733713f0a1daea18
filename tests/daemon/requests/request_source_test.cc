#include "daemon/requests/request_source.h"

#include <chrono>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(HarvestTime, IsTheMiddleBetweenTwoHarvests) {
  const UnixTime now{seconds(1'700'000'000)};
  EXPECT_EQ(harvest_time(now - seconds(1), now), now - milliseconds(500));
}

TEST(HarvestTime, StaysNearNowWhenTheClockStepsOrTheMachineSleeps) {
  const UnixTime now{seconds(1'700'000'000)};
  EXPECT_EQ(harvest_time(UnixTime{}, now), now - seconds(5));  // a clock that began in 1970
  EXPECT_EQ(harvest_time(now - hours(8), now), now - seconds(5));
  EXPECT_EQ(harvest_time(now + hours(8), now), now);
}

}  // namespace
}  // namespace weir::daemon
