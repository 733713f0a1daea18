#include "aggregator/query/parser.h"

#include <gtest/gtest.h>

#include "aggregator/query/lexer.h"

namespace weir::aggregator {
namespace {

const BinaryNode& binary(const Expr& expr) { return std::get<BinaryNode>(expr.node); }

std::string repeat(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Parser, ProductBindsTighterThanSumAndSumTighterThanComparison) {
  const auto parsed = parse_query("a < b + c * d");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(binary(**parsed).op, BinaryOp::kLt);
  const Expr& sum = *binary(**parsed).right;
  EXPECT_EQ(binary(sum).op, BinaryOp::kAdd);
  EXPECT_EQ(binary(*binary(sum).right).op, BinaryOp::kMul);
}

TEST(Parser, EqualOperatorsGroupLeftAndPowersGroupRight) {
  const auto minus = parse_query("a - b - c");
  ASSERT_TRUE(minus.ok());
  EXPECT_TRUE(std::holds_alternative<BinaryNode>(binary(**minus).left->node));
  const auto power = parse_query("a ^ b ^ c");
  ASSERT_TRUE(power.ok());
  EXPECT_TRUE(std::holds_alternative<BinaryNode>(binary(**power).right->node));
}

TEST(Parser, SelectorsCarryMatchersRangeAndOffset) {
  const auto parsed = parse_query("m{a=\"1\",b!=\"2\",c=~\"3\",d!~\"4\"}[1h30m] offset 5m");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ((*parsed)->type, ExprType::kRange);
  const auto& selector = std::get<SelectorNode>((*parsed)->node);
  EXPECT_EQ(selector.metric, "m");
  EXPECT_EQ(selector.range_ms, 5'400'000);
  EXPECT_EQ(selector.offset_ms, 300'000);
  ASSERT_EQ(selector.matchers.size(), 4u);
  EXPECT_EQ(selector.matchers[0].op, MatchOp::kEqual);
  EXPECT_EQ(selector.matchers[1].op, MatchOp::kNotEqual);
  EXPECT_EQ(selector.matchers[2].op, MatchOp::kRegex);
  EXPECT_EQ(selector.matchers[3].op, MatchOp::kNotRegex);
}

TEST(Parser, ANameMatcherIsTheMetricName) {
  const auto parsed = parse_selector("{__name__=\"m\", a=\"1\"}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->metric, "m");
  EXPECT_EQ(parsed->matchers.size(), 1u);
}

TEST(Parser, WordsOfTheLanguageAreAlsoMetricNames) {
  for (const auto* name : {"sum", "rate", "offset_total", "bool_x", "job:rate:5m", "count"}) {
    const auto parsed = parse_selector(name);
    ASSERT_TRUE(parsed.ok()) << name;
    EXPECT_EQ(parsed->metric, name);
  }
}

TEST(Parser, ErrorsCountLinesAndColumns) {
  const auto parsed = parse_query("sum(\n  a +\n  *)");
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().message, "3:3: parse error: unexpected \"*\"");
  EXPECT_EQ(parsed.error().code, Errc::kInvalid);
}

TEST(Parser, DepthAndLengthAreLimitsNotCrashes) {
  EXPECT_TRUE(parse_query(repeat("(", 60) + "1" + repeat(")", 60)).ok());
  for (const auto& text : {repeat("(", 5000), repeat("-", 5000) + "1", repeat("1^", 5000) + "1",
                           repeat("1+", 5000) + "1", repeat("sum(", 3000)}) {
    const auto parsed = parse_query(text);
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().code, Errc::kLimit);
    EXPECT_NE(parsed.error().message.find("nested deeper than 64"), std::string::npos);
  }
  const auto longest = parse_query(repeat(" ", 16384) + "1");
  ASSERT_FALSE(longest.ok());
  EXPECT_EQ(longest.error().message, "expression is longer than 16384 bytes");
}

TEST(Parser, EveryPrefixOfAQueryParsesOrSaysWhere) {
  const std::string query =
      "topk(3, sum by (a, b) (rate(m{x=~\"y.*\", z!='w'}[5m] offset 1h)) / on (a) n * -1e3)";
  ASSERT_TRUE(parse_query(query).ok());
  for (size_t n = 0; n < query.size(); ++n) {
    const auto parsed = parse_query(query.substr(0, n));
    if (parsed.ok()) continue;
    EXPECT_EQ(parsed.error().message.substr(0, 2), "1:") << n;
  }
}

TEST(Parser, MatchParametersAreInstantSelectors) {
  EXPECT_FALSE(parse_selector("a[5m]").ok());
  EXPECT_FALSE(parse_selector("a offset 5m").ok());
  EXPECT_FALSE(parse_selector("sum(a)").ok());
}

TEST(Durations, UnitsComeLargestFirstAndOnce) {
  EXPECT_EQ(*parse_duration_ms("1d12h"), 129'600'000);
  EXPECT_EQ(*parse_duration_ms("1s500ms"), 1500);
  EXPECT_EQ(*parse_duration_ms("1y"), 31'536'000'000);
  for (const auto* bad : {"", "5", "m", "5m1h", "5m5m", "5x", "-5m", "1000000y",
                          "99999999999999999999s", "9223372036854775807ms"}) {
    EXPECT_FALSE(parse_duration_ms(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace weir::aggregator
