#include "common/time_text.h"

#include <gtest/gtest.h>

namespace weir {

TEST(Rfc3339, WritesUtcToTheSecond) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339(1'795'166'896), "2026-11-20T09:28:16Z");
  EXPECT_EQ(rfc3339(-1), "1969-12-31T23:59:59Z");
}

TEST(Rfc3339, TimesBeyondTheCalendarStayNumbers) {
  EXPECT_EQ(rfc3339(253'402'300'799), "9999-12-31T23:59:59Z");
  EXPECT_EQ(rfc3339(253'402'300'800), "253402300800 s");
  EXPECT_EQ(rfc3339(INT64_MIN), "-9223372036854775808 s");
}

}  // namespace weir
