#include "aggregator/http/json.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "aggregator/http/params.h"

namespace weir::aggregator {
namespace {

TEST(JsonWriter, PutsCommasAndEscapesWhereTheyBelong) {
  JsonWriter json;
  json.begin_object().text("a\"b", "c\\\n\x7f\xff✓").key("list").begin_array();
  json.integer(-1).natural(2).real(0.5).truth(true).real(std::nan("")).begin_array().end_array();
  json.begin_object().end_object().end_array().natural("n", 3).end_object();
  EXPECT_EQ(std::move(json).take(),
            "{\"a\\\"b\":\"c\\\\\\u000a\\u007f\xef\xbf\xbd✓\","
            "\"list\":[-1,2,0.5,true,null,[],{}],\"n\":3}");
}

TEST(SampleText, HasNoExponentAndReadsBackTheSame) {
  EXPECT_EQ(sample_text(0.1), "0.1");
  EXPECT_EQ(sample_text(1e21), "1000000000000000000000");
  EXPECT_EQ(sample_text(-2.5e-9), "-0.0000000025");
  EXPECT_EQ(sample_text(std::numeric_limits<double>::infinity()), "+Inf");
  EXPECT_EQ(sample_text(-std::numeric_limits<double>::infinity()), "-Inf");
  EXPECT_EQ(sample_text(std::nan("")), "NaN");
  for (const double value :
       {std::numeric_limits<double>::max(), std::numeric_limits<double>::min(), 1.0 / 3}) {
    EXPECT_EQ(std::stod(sample_text(value)), value);
  }
}

TEST(Times, AreSecondsOrRfc3339) {
  EXPECT_EQ(*parse_time_ms("1700000000.5"), 1'700'000'000'500);
  EXPECT_EQ(*parse_time_ms("2023-11-14T22:13:20Z"), 1'700'000'000'000);
  EXPECT_EQ(*parse_time_ms("2023-11-14T23:13:20.25+01:00"), 1'700'000'000'250);
  EXPECT_EQ(*parse_time_ms("2024-02-29T00:00:00-00:30"), 1'709'166'600'000);
  for (const auto* bad :
       {"", "x", "nan", "1e30", "2023-02-29T00:00:00Z", "2023-11-14", "1 ", "2023-11-14T24:00:00Z",
        "2023-11-14T22:13:20", "2023-11-14T22:13:20.Z", "-001-01-01T00:00:00Z"}) {
    EXPECT_FALSE(parse_time_ms(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace weir::aggregator
