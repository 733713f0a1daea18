#include "common/log.h"

#include <gtest/gtest.h>

namespace weir::log {
namespace {

using std::chrono::seconds;

constexpr size_t kTimestamp = std::string_view("2024-11-20T09:12:00.123Z ").size();

// What fn writes to standard error, without the timestamps.
template <class Fn>
std::string captured(Fn fn) {
  testing::internal::CaptureStderr();
  fn();
  const std::string all = testing::internal::GetCapturedStderr();
  std::string out;
  for (size_t at = 0; at < all.size();) {
    const size_t end = all.find('\n', at);
    out += all.substr(at + kTimestamp, end + 1 - at - kTimestamp);
    at = end + 1;
  }
  return out;
}

TEST(Log, LineHasTimeLevelAndMessage) {
  EXPECT_EQ(captured([] { warn("outbox at {} of {}", 3, "4 MiB"); }),
            "warning outbox at 3 of 4 MiB\n");
}

TEST(Log, DisabledLevelSaysNothing) {
  EXPECT_EQ(captured([] {
              set_level(Level::kError);
              warn("no");
              error("yes");
              set_level(Level::kInfo);
            }),
            "error yes\n");
}

TEST(Log, HostileTextCannotForgeASecondLine) {
  EXPECT_EQ(captured([] { info("name {}", "a\n2024 error forged\x1b[31m"); }),
            "info name a\\x0a2024 error forged\\x1b[31m\n");
}

TEST(Log, QuotedShowsWhereHostileTextBeginsAndEnds) {
  EXPECT_EQ(quoted("a\"b\\c\n"), R"("a\"b\\c\x0a")");
  EXPECT_EQ(quoted("abcdef", 3), "\"abc\"...");
}

TEST(Log, LimitedSaysOnceAnIntervalHowManyItHeldBack) {
  const MonoTime start{};
  EXPECT_EQ(captured([&] {
              Limited limited;
              limited.warn(start, "lost {}", 1);
              limited.warn(start + seconds(1), "lost {}", 2);
              limited.warn(start + seconds(9), "lost {}", 3);
              limited.warn(start + seconds(10), "lost {}", 4);
              limited.warn(start + seconds(20), "lost {}", 5);
            }),
            "warning lost 1\nwarning lost 4 (+2 more)\nwarning lost 5\n");
}

}  // namespace
}  // namespace weir::log
