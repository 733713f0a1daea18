#include "cli/time_text.h"

#include <gtest/gtest.h>

#include "common/time_text.h"

namespace weir::cli {

TEST(ParseDuration, ReadsUnitsAndTheirSums) {
  EXPECT_EQ(*parse_duration("90s"), 90);
  EXPECT_EQ(*parse_duration("1h30m"), 5400);
  EXPECT_EQ(*parse_duration("2d"), 172800);
}

TEST(ParseDuration, RefusesWhatHasNoUnitOrIsNotPositive) {
  for (const char* text :
       {"", "60", "m", "5x", "0s", "-5m", "5m3", "99999999999999999999s", "9000000000d"}) {
    EXPECT_FALSE(parse_duration(text).ok()) << text;
  }
}

TEST(ParseTime, ReadsNowRelativeUnixAndRfc3339) {
  EXPECT_EQ(*parse_time("now", 1000), 1000);
  EXPECT_EQ(*parse_time("now-1m", 1000), 940);
  EXPECT_EQ(*parse_time("1795158000", 0), 1795158000);
  EXPECT_EQ(*parse_time("1970-01-02T00:00:01Z", 0), 86401);
  EXPECT_EQ(*parse_time(rfc3339(1795158000), 0), 1795158000);
}

TEST(ParseTime, RefusesImpossibleDatesAndOtherShapes) {
  for (const char* text : {"", "yesterday", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z",
                           "2026-11-20T24:00:00Z", "2026-11-20 09:00:00", "now+1h"}) {
    EXPECT_FALSE(parse_time(text, 0).ok()) << text;
  }
}

}  // namespace weir::cli
