#include "daemon/statsd/parser.h"

#include <vector>

#include <gtest/gtest.h>

namespace weir::daemon::statsd {
namespace {

Line parsed(std::string_view text) {
  Line line;
  const auto reject = parse_line(text, line);
  EXPECT_FALSE(reject) << text << ": " << (reject ? reject_name(*reject) : "");
  return line;
}

std::string_view refusal(std::string_view text) {
  Line line;
  const auto reject = parse_line(text, line);
  return reject ? reject_name(*reject) : "none";
}

Number number(std::string_view text) {
  Number out;
  EXPECT_FALSE(parse_number(text, out)) << text;
  return out;
}

std::string_view number_refusal(std::string_view text) {
  Number out;
  const auto reject = parse_number(text, out);
  return reject ? reject_name(*reject) : "none";
}

TEST(StatsdParser, LineIsNameValuesTypeAndFieldsInAnyOrder) {
  const Line line = parsed("page.views:1:2:3|ms|T1700000000|#env:prod,canary|c:ci-4f|@0.5");
  EXPECT_EQ(line.name, "page.views");
  EXPECT_EQ(line.values, "1:2:3");
  EXPECT_EQ(line.type, Type::kTimer);
  EXPECT_EQ(line.rate_nano, 500'000'000u);
  EXPECT_EQ(line.tags, "env:prod,canary");
  EXPECT_EQ(line.unix_s, 1'700'000'000);
}

TEST(StatsdParser, EveryTypeIsKnownByItsLetter) {
  const std::pair<const char*, Type> types[] = {
      {"a:1|c", Type::kCounter},   {"a:1|g", Type::kGauge},        {"a:1|ms", Type::kTimer},
      {"a:1|h", Type::kHistogram}, {"a:1|d", Type::kDistribution}, {"a:1|s", Type::kSet}};
  for (const auto& [text, type] : types) EXPECT_EQ(parsed(text).type, type) << text;
}

TEST(StatsdParser, EveryMalformedLineHasItsReason) {
  const std::pair<std::string, const char*> cases[] = {
      {"a", "no_value"},
      {"a:1", "no_value"},
      {"a|c", "no_value"},
      {"a|c|#b:c", "no_value"},
      {":1|c", "name"},
      {std::string(201, 'n') + ":1|c", "name"},
      {"a:1|", "type"},
      {"a:1|x", "type"},
      {"a:1|cc", "type"},
      {"a:1|c|@0", "rate"},
      {"a:1|c|@1.5", "rate"},
      {"a:1|c|@-0.5", "rate"},
      {"a:1|c|@nan", "rate"},
      {"a:1|c|@", "rate"},
      {"a:1|c|@0.0000000001", "rate"},
      {"a:1|c|T", "timestamp"},
      {"a:1|c|T-5", "timestamp"},
      {"a:1|c|T1.5", "timestamp"},
      {"a:1|c|T9000000001", "timestamp"},
      {"a:1|c|0.1", "field"},
      {"a:1|c||#b:c", "field"},
      {"a:1|c|@0.1|@0.1", "field"},
      {"a:1|c|#a:b|#a:b", "field"},
      {"a:1|c|T5|T6", "field"},
      {"_e{5,4}:title|text", "event"},
      {"_sc|db|0", "service_check"},
      {"a:1|c|#" + std::string(kMaxLine, 't'), "too_long"},
  };
  for (const auto& [text, reason] : cases) EXPECT_EQ(refusal(text), reason) << text;
}

TEST(StatsdParser, PacketIsLinesWithAnyLineEnd) {
  std::string_view packet = "a:1|c\nb:2|c\r\n\n\nc:3|c";
  std::string_view line;
  std::vector<std::string> lines;
  while (next_line(packet, line)) lines.emplace_back(line);
  EXPECT_EQ(lines, (std::vector<std::string>{"a:1|c", "b:2|c", "c:3|c"}));
}

TEST(StatsdParser, ValuesAreSeparatedByColonsAndATrailingOneIsAnEmptyValue) {
  std::string_view values = "1:2:";
  std::vector<std::string> all;
  for (bool more = true; more;) {
    std::string_view value;
    more = take_value(values, value);
    all.emplace_back(value);
  }
  EXPECT_EQ(all, (std::vector<std::string>{"1", "2", ""}));
}

TEST(StatsdParser, NumbersAreExactIntegersAndNineDecimals) {
  EXPECT_EQ(number("18446744073709551615").whole, UINT64_MAX);
  EXPECT_EQ(number("9007199254740993").whole, 9007199254740993u);  // no double in between
  EXPECT_EQ(number("0.123456789").nano, 123'456'789u);
  EXPECT_EQ(number(".5").nano, 500'000'000u);
  EXPECT_EQ(number("5.").whole, 5u);
  EXPECT_EQ(number("0.1234567899").nano, 123'456'789u);
  EXPECT_EQ(number("1e-05").nano, 10'000u);
  EXPECT_EQ(number("2.5E3").whole, 2500u);
  EXPECT_EQ(number("+3").sign, Number::Sign::kPlus);
  EXPECT_EQ(number("-3").sign, Number::Sign::kMinus);
}

TEST(StatsdParser, WhatIsNoNumberIsRefused) {
  for (const char* text : {"", ".", "-", "+-1", "nan", "NaN", "inf", "-inf", "infinity", "0x10",
                           "1,5", "1 ", " 1", "1e", "1e5x", "1.2.3", "--1", "e5"}) {
    EXPECT_EQ(number_refusal(text), "number") << text;
  }
  for (const char* text : {"18446744073709551616", "1e20", "1e400"}) {
    EXPECT_EQ(number_refusal(text), "range") << text;
  }
}

TEST(StatsdParser, MillionthsRoundHalfUpOnce) {
  EXPECT_EQ(millionths(number("1.0000005")), 1'000'001);
  EXPECT_EQ(millionths(number("1.00000049999")), 1'000'000);
  EXPECT_EQ(millionths(number("0.9999999")), 1'000'000);
  EXPECT_EQ(millionths(number("9223372036854.775807")), INT64_MAX);
  EXPECT_EQ(millionths(number("9223372036854.775808")), std::nullopt);
}

TEST(StatsdParser, SampledCountsAreNeverOffByOneEventOrMore) {
  Scaler third(parsed("a:1|c|@0.3").rate_nano);
  uint64_t sum = 0;
  for (uint64_t n = 1; n <= 1000; ++n) {
    sum += *third.add(number("1"));
    EXPECT_EQ(sum, n * 10 / 3) << n;  // floor of the exact quotient, at every step
  }
}

TEST(StatsdParser, IntegerCountsAtAWholeFactorAreExact) {
  Scaler tenth(parsed("a:1|c|@0.1").rate_nano);
  EXPECT_EQ(tenth.add(number("7")), 70u);
  Scaler unsampled(kNano);
  EXPECT_EQ(unsampled.add(number("18446744073709551615")), UINT64_MAX);
  EXPECT_EQ(unsampled.add(number("0.5")), 0u);
  EXPECT_EQ(unsampled.add(number("0.5")), 1u);
  EXPECT_EQ(tenth.add(number("18446744073709551615")), std::nullopt);
  EXPECT_EQ(tenth.add(number("1")), 10u);  // the refused one left nothing behind
}

TEST(StatsdParser, NamesBecomeValidAndReservedLabelsAreRenamed) {
  EXPECT_EQ(metric_name("page.views-total:x"), "page_views_total:x");
  EXPECT_EQ(metric_name("5xx"), "_5xx");
  EXPECT_EQ(metric_name("weir.dropped_total"), "exported_weir_dropped_total");
  EXPECT_EQ(metric_name("__other__"), "exported___other__");
  EXPECT_EQ(label_name("env.zone"), "env_zone");
  EXPECT_EQ(label_name("host"), "exported_host");
  EXPECT_EQ(label_name("region"), "exported_region");
  EXPECT_EQ(label_name("__name__"), "exported___name__");
  EXPECT_EQ(label_name(""), "_");
}

TEST(StatsdParser, TagsAreNameAndValueAndAFlagIsTrue) {
  std::string_view tags = "env:prod,,url:http://x:80,canary,empty:";
  std::string_view name;
  std::string_view value;
  std::vector<std::string> all;
  while (next_tag(tags, name, value)) all.push_back(std::string(name) + "=" + std::string(value));
  EXPECT_EQ(all,
            (std::vector<std::string>{"env=prod", "url=http://x:80", "canary=true", "empty="}));
}

}  // namespace
}  // namespace weir::daemon::statsd
