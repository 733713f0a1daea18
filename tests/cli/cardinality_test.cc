#include "cli/cardinality.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include <gtest/gtest.h>

namespace weir::cli {
namespace {

MetricCardinality checkout() {
  return {.name = "http_server_request_duration_seconds",
          .estimated = 12'345,
          .lo = 11'740,
          .hi = 12'950,
          .named = 2000,
          .overflow_events = 1'234'567,
          .overflow_share = 0.0314,
          .labels = {{"http_route", 12'000}, {"service", 12}},
          .offenders = {{"http_route=/cart/8f3a", 120}, {"http_route=/cart/9b01", 119}}};
}

TEST(CardinalityText, SaysHowManyWhatItCostAndWho) {
  EXPECT_EQ(cardinality_text({checkout()}),
            "http_server_request_duration_seconds\n"
            "  label sets about 12,345, 2,000 named on a host\n"
            "             (between 11,740 and 12,950)\n"
            "  overflow   1,234,567 events, 3.14 % of the metric\n"
            "  values     http_route 12,000, service 12\n"
            "  offenders  http_route=/cart/8f3a 120, http_route=/cart/9b01 119\n");
}

TEST(CardinalityText, ExactCountsHaveNoInterval) {
  EXPECT_EQ(cardinality_text({{.name = "orders",
                               .estimated = 40,
                               .lo = 40,
                               .hi = 40,
                               .named = 40,
                               .overflow_events = 0,
                               .overflow_share = {},
                               .labels = {},
                               .offenders = {}}}),
            "orders\n"
            "  label sets 40, 40 named on a host\n"
            "  overflow   0 events\n");
}

TEST(CardinalityText, FitsEightyColumnsAndShowsHostileNamesSafely) {
  MetricCardinality metric = checkout();
  metric.offenders.clear();
  for (int i = 0; i < 5; ++i)
    metric.offenders.emplace_back("path=/\x1b[31m" + std::string(30, 'x'), 9);
  const std::string text = cardinality_text({metric, metric});
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST(CardinalityText, CsvAndJsonCarryEveryNumber) {
  EXPECT_EQ(cardinality_csv({checkout()}),
            "metric,estimated,estimated_lo,estimated_hi,named,overflow_events,overflow_share\n"
            "http_server_request_duration_seconds,12345,11740,12950,2000,1234567,0.031400\n");
  const nlohmann::json json = cardinality_json({checkout()});
  const auto& metric = json["metrics"][0];
  EXPECT_EQ(metric["metric"], "http_server_request_duration_seconds");
  EXPECT_EQ(metric["overflow_share"], 0.0314);
  EXPECT_EQ(metric["labels"][0]["label"], "http_route");
  EXPECT_EQ(metric["offenders"][1]["count"], 119);
  EXPECT_TRUE(cardinality_json({MetricCardinality()})["metrics"][0]["overflow_share"].is_null());
}

}  // namespace
}  // namespace weir::cli
