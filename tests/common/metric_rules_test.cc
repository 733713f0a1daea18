#include "common/metric_rules.h"

#include <gtest/gtest.h>

namespace weir {

TEST(MetricRules, EachFieldComesFromTheClosestRuleThatSetsIt) {
  const MetricRules rules = {
      {.name = "*", .series = 1, .scale = 5},
      {.name = "http_*", .series = 2, .values_per_label = 20},
      {.name = "http_server_*", .series = 3},
      {.name = "http_server_total", .dry_run = true},
  };
  const MetricRule exact = rule_of(rules, "http_server_total");
  EXPECT_EQ(exact.name, "http_server_total");
  EXPECT_EQ(exact.dry_run, true);
  EXPECT_EQ(exact.series, 3U);
  EXPECT_EQ(exact.values_per_label, 20U);
  EXPECT_EQ(exact.scale, 5);
  const MetricRule other = rule_of(rules, "queue");
  EXPECT_EQ(other.series, 1U);
  EXPECT_FALSE(other.values_per_label || other.dry_run);
  EXPECT_FALSE(rule_of({}, "queue").series);
}

}  // namespace weir
