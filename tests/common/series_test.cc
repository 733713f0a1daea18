#include "common/series.h"

#include <algorithm>
#include <map>
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

TEST(SeriesTable, RawBytesLeadToTheSeriesTheyWereRememberedFor) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const MetricId other = *table.metric({"other_total", Kind::kCounter, "", 0});
  const LabelView labels[] = {{"a", "1"}};
  const SeriesId id = must(table.intern(metric, labels));
  EXPECT_FALSE(table.find_raw(metric, as_bytes("a:1")).has_value());
  table.remember_raw(id, as_bytes("a:1"));
  table.remember_raw(id, as_bytes("a:1"));
  EXPECT_EQ(table.find_raw(metric, as_bytes("a:1")), id);
  EXPECT_FALSE(table.find_raw(other, as_bytes("a:1")).has_value());
  EXPECT_FALSE(table.find_raw(metric, as_bytes("a:1,")).has_value());
  EXPECT_FALSE(table.find_raw(metric, {}).has_value());
}

TEST(SeriesTable, ASeriesRemembersItsLastSpellingsOnly) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const SeriesId id = must(table.intern(metric, std::span<const LabelView>()));
  size_t full = 0;
  for (size_t i = 0; i < 1000; ++i) {
    table.remember_raw(id, as_bytes(std::to_string(1000 + i)));
    if (i == SeriesTable::kSpellings) full = table.memory_bytes();
  }
  EXPECT_EQ(table.memory_bytes(), full);
  EXPECT_EQ(table.find_raw(metric, as_bytes("1999")), id);
  EXPECT_EQ(table.find_raw(metric, as_bytes("1996")), id);
  EXPECT_FALSE(table.find_raw(metric, as_bytes("1995")).has_value());
}

TEST(SeriesTable, RemovedSeriesTakesItsSpellingsAndHandlesWithIt) {
  SeriesTable table;
  const MetricId metric = *table.metric(kRequests);
  const LabelView labels[] = {{"b", "2"}, {"a", "1"}};
  const LabelView sorted[] = {{"a", "1"}, {"b", "2"}};
  EXPECT_FALSE(table.alive(SeriesHandle{}));
  const SeriesHandle handle = table.handle(must(table.intern(metric, labels)));
  EXPECT_FALSE(table.alive(SeriesHandle{}));
  EXPECT_TRUE(table.alive(handle));
  must(table.intern(metric, labels));  // twice: this order is remembered now
  must(table.intern(metric, sorted));
  table.remember_raw(handle.id, as_bytes("b:2,a:1"));
  table.remove(handle.id);
  EXPECT_FALSE(table.alive(handle));
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.series_of(metric), 0U);
  EXPECT_EQ(code_of(table.find(metric, labels)), Errc::kNotFound);
  EXPECT_EQ(code_of(table.find(metric, sorted)), Errc::kNotFound);
  EXPECT_FALSE(table.find_raw(metric, as_bytes("b:2,a:1")).has_value());

  const LabelView next[] = {{"a", "2"}};  // takes the id
  EXPECT_EQ(must(table.intern(metric, next)), handle.id);
  EXPECT_FALSE(table.alive(handle));
  EXPECT_TRUE(table.alive(table.handle(handle.id)));
  EXPECT_EQ(table.labels_of(handle.id), (Labels{{"a", "2"}}));
  EXPECT_FALSE(table.find_raw(metric, as_bytes("b:2,a:1")).has_value());
}

TEST(SeriesTable, ReferencesHoldUntilTheirSeriesIsRemoved) {
  SeriesTable table;
  const SeriesId kept = must(table.intern(*table.metric(kRequests), Labels{{"a", "1"}}));
  const Metric& metric = table.metric_of(kept);
  for (int i = 0; i < 5000; ++i) {
    const Metric more{"m" + std::to_string(i), Kind::kCounter, "", 0};
    const SeriesId id = must(table.intern(*table.metric(more), Labels{{"a", more.name}}));
    if (i % 2 == 0) table.remove(id);
  }
  EXPECT_EQ(&metric, &table.metric_of(kept));
  EXPECT_EQ(metric, kRequests);
  EXPECT_EQ(table.labels_of(kept), (Labels{{"a", "1"}}));
}

TEST(SeriesTable, RemovedMetricGivesItsIdAndItsNameBack) {
  SeriesTable table;
  Metric gauge = kRequests;
  gauge.kind = Kind::kGauge;
  const MetricId counter_id = *table.metric(kRequests);
  const MetricId gauge_id = *table.metric_apart(gauge);
  table.remove_metric(counter_id);
  EXPECT_EQ(table.metrics(), 1U);
  EXPECT_EQ(*table.metric(gauge), gauge_id);   // the name leads to it now
  EXPECT_FALSE(table.metric(kRequests).ok());  // so this kind is another one
  EXPECT_EQ(*table.metric({"new", Kind::kCounter, "", 0}), counter_id);
  EXPECT_EQ(table.metric_at(counter_id).name, "new");
  EXPECT_EQ(*table.metric_apart(gauge), gauge_id);
}

// Series come and go under a model that knows what each name should lead to.
TEST(SeriesTable, ChurnNeverResolvesAnOldHandleAndMemoryReturns) {
  SeriesTable table(500);
  const MetricId metric = *table.metric(kRequests);
  const size_t before = table.memory_bytes();

  struct Known {
    SeriesHandle handle;
    Labels labels;
  };

  std::map<uint64_t, Known> model;
  std::vector<SeriesHandle> dead;
  std::mt19937_64 random(3);
  for (int step = 0; step < 60'000; ++step) {
    const uint64_t key = random() % 700;
    const std::string value = "v" + std::to_string(key);
    const std::string raw = "b=" + value + ";a=same";
    const LabelView labels[] = {{"b", value}, {"a", "same"}};
    const auto it = model.find(key);
    if (it != model.end()) {
      ASSERT_EQ(*table.find_raw(metric, as_bytes(raw)), it->second.handle.id);
      ASSERT_EQ(must(table.find(metric, labels)), it->second.handle.id);
      ASSERT_TRUE(table.alive(it->second.handle));
      ASSERT_EQ(table.labels_of(it->second.handle.id), it->second.labels);
      if (random() % 2 == 0) continue;
      table.remove(it->second.handle.id);
      dead.push_back(it->second.handle);
      model.erase(it);
      continue;
    }
    ASSERT_FALSE(table.find_raw(metric, as_bytes(raw)).has_value());
    const auto made = table.intern(metric, labels);
    ASSERT_EQ(made.ok(), model.size() < 500);
    if (!made.ok()) continue;
    table.remember_raw(*made, as_bytes(raw));
    model[key] = {table.handle(*made), {{"a", "same"}, {"b", value}}};
  }
  for (const SeriesHandle& handle : dead) ASSERT_FALSE(table.alive(handle));
  EXPECT_GT(dead.size(), 10'000U);
  EXPECT_LE(table.ids(), 500U);
  for (const auto& [key, known] : model) table.remove(known.handle.id);
  // What is left: 16 or so bytes for each id there ever was.
  EXPECT_LT(table.memory_bytes(), before + 500 * 80);
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
