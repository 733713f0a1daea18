#include "common/series.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace weir {

namespace {

const Metric kRequests{.name = "requests_total", .kind = Kind::kCounter, .unit = "", .quantum = 0};

SeriesId must(Result<SeriesId> id) {
  EXPECT_TRUE(id.ok());
  return *id;
}

Errc code_of(const Result<SeriesId>& result) {
  EXPECT_FALSE(result.ok());
  return result.error().code;
}

}  // namespace

TEST(SeriesTable, AnyLabelOrderIsOneSeries) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  std::vector<LabelView> labels{{"service", "api"}, {"route", "/"}, {"method", "GET"}};
  const SeriesId first = must(table.intern(metric, labels));
  std::mt19937 random(1);
  for (int i = 0; i < 50; ++i) {
    std::shuffle(labels.begin(), labels.end(), random);
    EXPECT_EQ(must(table.intern(metric, labels)), first);
  }
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.labels_of(first),
            (Labels{{"method", "GET"}, {"route", "/"}, {"service", "api"}}));
  EXPECT_EQ(table.metric_of(first), kRequests);
}

TEST(SeriesTable, EmptyValueIsNoLabel) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const LabelView with[] = {{"a", "1"}, {"b", ""}};
  const LabelView without[] = {{"a", "1"}};
  EXPECT_EQ(must(table.intern(metric, with)), must(table.intern(metric, without)));
  EXPECT_EQ(table.labels_of(0), (Labels{{"a", "1"}}));
}

TEST(SeriesTable, ConcatenationsThatLookAlikeAreDifferentSeries) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const LabelView sets[][2] = {{{"a", "bc"}, {"d", "e"}},
                               {{"ab", "c"}, {"d", "e"}},
                               {{"a", "b"}, {"cd", "e"}},
                               {{"a", std::string_view("b\0", 2)}, {"d", "e"}},
                               {{"a", "b"}, {"d", "e"}}};
  std::set<SeriesId> ids;
  for (const auto& set : sets) ids.insert(must(table.intern(metric, set)));
  EXPECT_EQ(ids.size(), 5U);
}

TEST(SeriesTable, IdsAreDenseAndStableOverGrowth) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  for (uint32_t pass = 0; pass < 2; ++pass) {
    for (uint32_t i = 0; i < 5000; ++i) {
      const std::string value = std::to_string(i);
      const LabelView labels[] = {{"z", value}, {"a", "same"}};
      ASSERT_EQ(must(table.intern(metric, labels)), i);
    }
  }
  EXPECT_EQ(table.size(), 5000U);
}

TEST(SeriesTable, RefusesMalformedLabels) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const std::string longer(kMaxLabelText + 1, 'x');
  const std::vector<std::vector<LabelView>> bad{{{"a", "1"}, {"b", "2"}, {"a", "3"}},
                                                {{"a", "1"}, {"a", "1"}},
                                                {{"", "1"}},
                                                {{"a\xff", "1"}},
                                                {{"a", "\xc0\x80"}},
                                                {{"a", longer}},
                                                {{longer, "a"}}};
  for (const auto& labels : bad) {
    EXPECT_EQ(code_of(table.intern(metric, labels)), Errc::kInvalid);
  }
  const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (size_t i = 0; i <= kMaxLabels; ++i) out.push_back("l" + std::to_string(i));
    return out;
  }();
  std::vector<LabelView> many;
  for (const auto& name : names) many.push_back({name, "v"});
  EXPECT_EQ(code_of(table.intern(metric, many)), Errc::kInvalid);
  many.pop_back();
  EXPECT_TRUE(table.intern(metric, many).ok());
  EXPECT_EQ(table.size(), 1U);
}

TEST(SeriesTable, FindAddsNothing) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const LabelView labels[] = {{"b", "1"}, {"a", "2"}};
  EXPECT_EQ(code_of(table.find(metric, labels)), Errc::kNotFound);
  EXPECT_EQ(table.size(), 0U);
  const SeriesId id = must(table.intern(metric, labels));
  const LabelView other_order[] = {{"a", "2"}, {"b", "1"}};
  EXPECT_EQ(must(table.find(metric, other_order)), id);
}

TEST(SeriesTable, FullTableSaysLimitAndKeepsAnsweringForKnownSeries) {
  SeriesTable table(2);
  const MetricId metric = *table.metric(kRequests);
  const LabelView a[] = {{"k", "a"}};
  const LabelView b[] = {{"k", "b"}};
  const LabelView c[] = {{"k", "c"}};
  EXPECT_EQ(must(table.intern(metric, a)), 0U);
  EXPECT_EQ(must(table.intern(metric, b)), 1U);
  EXPECT_EQ(code_of(table.intern(metric, c)), Errc::kLimit);
  EXPECT_EQ(must(table.intern(metric, a)), 0U);
}

TEST(SeriesTable, OneNameHasOneKindAtTheEdgeAndAnyAbove) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  EXPECT_EQ(*table.metric(kRequests), metric);
  Metric other = kRequests;
  other.kind = Kind::kGauge;
  const auto refused = table.metric(other);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kInvalid);
  EXPECT_NE(refused.error().message.find("requests_total"), std::string::npos);
  const MetricId apart = *table.metric_apart(other);
  EXPECT_NE(apart, metric);
  EXPECT_EQ(*table.metric_apart(other), apart);
  EXPECT_EQ(*table.metric_apart(kRequests), metric);
  EXPECT_EQ(*table.metric(kRequests), metric);
  EXPECT_FALSE(table.metric({.name = "", .kind = Kind::kCounter, .unit = "", .quantum = 0}).ok());
  EXPECT_FALSE(
      table.metric({.name = "\xff", .kind = Kind::kCounter, .unit = "", .quantum = 0}).ok());
}

TEST(SeriesKey, FingerprintIsTheSameOnEveryHost) {
  const Labels labels{{"method", "GET"}, {"service", "api"}};
  const Bytes key = series_key(kRequests, labels);
  const std::string_view expected =
      "\x0erequests_total\x06method\x03GET\x07service\x03"
      "api";
  EXPECT_TRUE(std::ranges::equal(key, as_bytes(expected)));
  std::string hex;
  for (const std::byte b : fingerprint(key)) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    hex += kDigits[static_cast<size_t>(b) >> 4];
    hex += kDigits[static_cast<size_t>(b) & 15];
  }
  EXPECT_EQ(hex, "47ab1413131bfbe1bcad9ca3965e6471");
}

}  // namespace weir
