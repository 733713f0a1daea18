#include "common/crash_point.h"

#include <csignal>
#include <cstdlib>

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(CrashPoint, KillsAtTheNamedPassageOnly) {
  EXPECT_EXIT(
      {
        ::setenv("WEIR_CRASH", "here:2", 1);
        crash_point("elsewhere");
        crash_point("here");
        std::fputs("still here", stderr);
        crash_point("here");
        std::fputs("never", stderr);
      },
      testing::KilledBySignal(SIGKILL), "^still herecrash point here\n$");
}

TEST(CrashPoint, DoesNothingUnasked) {
  EXPECT_EXIT(
      {
        ::unsetenv("WEIR_CRASH");
        crash_point("here");
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace weir
