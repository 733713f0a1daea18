#include "aggregator/http/api.h"

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include "tests/fakes/fake_data_source.h"

namespace weir::aggregator {
namespace {

using nlohmann::json;

constexpr int64_t kNow = 1'700'000'100;

class ApiTest : public testing::Test {
 protected:
  ApiTest() {
    source_.now_s = kNow;
    context_.now = UnixTime(std::chrono::seconds(kNow));
    const Metric requests{.name = "requests", .kind = Kind::kCounter, .unit = "", .quantum = 0};
    const Metric latency{
        .name = "lat", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -3};
    const Window window = window_at(kNow - 60, 60);
    source_.add(requests, {{"region", "eu"}, {"service", "a"}}, window, Counter{120});
    source_.add(requests, {{"region", "us"}, {"service", "b"}}, window, Counter{60});
    Distribution distribution(-3);
    EXPECT_TRUE(distribution.add(0).ok());
    EXPECT_TRUE(distribution.add(100, 3).ok());
    source_.add(latency, {{"service", "a"}}, window, distribution);
    end_ = window.end_s();
  }

  ApiResponse get(const std::string& path, FormFields fields = {}) {
    return route({.path = path, .fields = std::move(fields)}, source_, context_);
  }

  json get_json(const std::string& path, FormFields fields = {}) {
    const auto response = get(path, std::move(fields));
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }

  json query(const std::string& text) {
    return get_json("/api/v1/query", {{"query", text}, {"time", std::to_string(end_)}});
  }

  FakeDataSource source_;
  ApiContext context_;
  int64_t end_ = 0;
};

TEST_F(ApiTest, AnInstantQueryIsAVector) {
  const auto body = query("sum by (service) (increase(requests[1m]))");
  EXPECT_EQ(body["status"], "success");
  EXPECT_EQ(body["data"]["resultType"], "vector");
  ASSERT_EQ(body["data"]["result"].size(), 2u);
  EXPECT_EQ(body["data"]["result"][0]["metric"], (json{{"service", "a"}}));
  EXPECT_EQ(body["data"]["result"][0]["value"], (json{end_, "120"}));
  EXPECT_FALSE(body.contains("weir"));
}

TEST_F(ApiTest, AnAnswerCarriesItsCoverage) {
  source_.notes.coverage = {119, 120};
  source_.notes.losses = {{"outbox", "full", 12}};
  const auto body = get_json(
      "/api/v1/query",
      {{"query", "sum(increase(requests[1m]))"}, {"time", std::to_string(end_)}, {"weir", "1"}});
  const auto& coverage = body["weir"]["coverage"];
  EXPECT_EQ(coverage["merged"], 119);
  EXPECT_EQ(coverage["expected"], 120);
  EXPECT_NEAR(coverage["percent"].get<double>(), 99.1667, 1e-4);
  EXPECT_EQ(coverage["windows_missing"], 1);
  EXPECT_EQ(coverage["lost"], 12);
  EXPECT_EQ(coverage["losses"],
            (json::array({{{"where", "outbox"}, {"reason", "full"}, {"events", 12}}})));
  EXPECT_EQ(body["warnings"].size(), 2u);
}

TEST_F(ApiTest, WithoutSourcesThePercentageIsNoNumber) {
  const auto body = get_json(
      "/api/v1/query",
      {{"query", "sum(increase(requests[1m]))"}, {"time", std::to_string(end_)}, {"weir", "1"}});
  EXPECT_TRUE(body["weir"]["coverage"]["percent"].is_null());
  EXPECT_FALSE(body.contains("warnings"));
}

TEST_F(ApiTest, AScalarAndAStringAreTheirOwnTypes) {
  EXPECT_EQ(query("1+1")["data"], (json{{"resultType", "scalar"}, {"result", {end_, "2"}}}));
  EXPECT_EQ(query("'x'")["data"], (json{{"resultType", "string"}, {"result", {end_, "x"}}}));
}

TEST_F(ApiTest, TheHealthCheckOfGrafanaWorksOnAnEmptyStore) {
  FakeDataSource empty;
  const auto response = route(
      {.path = "/api/v1/query", .fields = {{"query", "1+1"}, {"time", "4"}}}, empty, context_);
  EXPECT_EQ(response.body,
            R"({"status":"success","data":{"resultType":"scalar","result":[4,"2"]}})");
}

TEST_F(ApiTest, ADistributionIsANativeHistogram) {
  const auto histogram = query("increase(lat[1m])")["data"]["result"][0]["histogram"][1];
  EXPECT_EQ(histogram["count"], "4");
  EXPECT_EQ(histogram["sum"], "0.3");
  ASSERT_EQ(histogram["buckets"].size(), 2u);
  EXPECT_EQ(histogram["buckets"][0], (json{3, "0", "0", "1"}));
  EXPECT_EQ(histogram["buckets"][1][0], 0);
  EXPECT_LT(std::stod(histogram["buckets"][1][1].get<std::string>()), 0.1);
  EXPECT_GE(std::stod(histogram["buckets"][1][2].get<std::string>()), 0.1);
  EXPECT_EQ(histogram["buckets"][1][3], "3");
}

TEST_F(ApiTest, ARangeQueryIsAMatrix) {
  const auto at = [&](int64_t offset) { return std::to_string(end_ + offset); };
  const auto body =
      get_json("/api/v1/query_range", {{"query", "increase(requests{service=\"a\"}[1m])"},
                                       {"start", at(-60)},
                                       {"end", at(60)},
                                       {"step", "1m"}});
  EXPECT_EQ(body["data"]["resultType"], "matrix");
  ASSERT_EQ(body["data"]["result"].size(), 1u);
  EXPECT_EQ(body["data"]["result"][0]["values"], (json{{end_, "120"}}));
  const auto histograms =
      get_json("/api/v1/query_range",
               {{"query", "increase(lat[1m])"}, {"start", at(0)}, {"end", at(0)}, {"step", "15"}});
  EXPECT_EQ(histograms["data"]["result"][0]["histograms"][0][1]["count"], "4");
}

TEST_F(ApiTest, WeirDetailGivesTheIntervalOfAQuantile) {
  const auto body =
      get_json("/api/v1/query", {{"query", "histogram_quantile(0.9, increase(lat[1m]))"},
                                 {"time", std::to_string(end_)},
                                 {"weir", "1"}});
  const auto& sample = body["weir"]["samples"][0];
  EXPECT_EQ(sample["scale"], 6);
  EXPECT_NEAR(sample["error"].get<double>(), 0.00542, 0.00001);
  EXPECT_LT(std::stod(sample["lo"].get<std::string>()), 0.1);
  EXPECT_GE(std::stod(sample["hi"].get<std::string>()), 0.1);
  EXPECT_EQ(body["weir"]["windows"], (json{{"finest_s", 60}, {"coarsest_s", 60}, {"open", false}}));
  EXPECT_EQ(body["infos"][0], "histogram_quantile: relative error at most 0.542 % (scale 6)");
}

TEST_F(ApiTest, DamageAndWarningsOfTheStoreAreSaid) {
  source_.notes.warnings = {"1 damaged block left out"};
  source_.notes.damaged_blocks = 1;
  const auto body = get_json(
      "/api/v1/query",
      {{"query", "sum(increase(requests[1m]))"}, {"time", std::to_string(end_)}, {"weir", "1"}});
  EXPECT_EQ(body["warnings"], (json{"1 damaged block left out"}));
  EXPECT_EQ(body["weir"]["damaged_blocks"], 1);
}

struct BadRequest {
  std::string path;
  FormFields fields;
  int status;
  std::string type;
  std::string error;
};

TEST_F(ApiTest, EveryFaultIsPrometheusShaped) {
  const std::string q = "/api/v1/query";
  const std::string range = "/api/v1/query_range";
  const std::string deep(100, '(');
  const std::vector<BadRequest> cases = {
      {q,
       {},
       400,
       "bad_data",
       "invalid parameter \"query\": 1:1: parse error: no expression found in input"},
      {q,
       {{"query", "sum("}},
       400,
       "bad_data",
       "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis"},
      {q,
       {{"query", "irate(x[5m])"}},
       400,
       "bad_data",
       "invalid parameter \"query\": 1:1: parse error: not supported yet by Weir: irate"},
      {q,
       {{"query", "1"}, {"time", "yesterday"}},
       400,
       "bad_data",
       "invalid parameter \"time\": cannot parse \"yesterday\" to a valid timestamp"},
      {q,
       {{"query", "1"}, {"time", "1e300"}},
       400,
       "bad_data",
       "invalid parameter \"time\": cannot parse \"1e300\" to a valid timestamp"},
      {q,
       {{"query", "lat * 2"}},
       422,
       "execution",
       "operator \"*\" does not apply to a distribution: take histogram_quantile, "
       "histogram_count or histogram_sum of it first"},
      {q,
       {{"query", deep}},
       422,
       "execution",
       "invalid parameter \"query\": 1:65: parse error: expression is nested deeper than 64"},
      {range,
       {{"query", "1"}, {"end", "1"}, {"step", "1"}},
       400,
       "bad_data",
       "invalid parameter \"start\": cannot parse \"\" to a valid timestamp"},
      {range,
       {{"query", "1"}, {"start", "2"}, {"end", "1"}, {"step", "1"}},
       400,
       "bad_data",
       "invalid parameter \"end\": end timestamp must not be before start time"},
      {range,
       {{"query", "1"}, {"start", "0"}, {"end", "1"}, {"step", "0"}},
       400,
       "bad_data",
       "invalid parameter \"step\": zero or negative query resolution step widths are not "
       "accepted. Try a positive integer"},
      {range,
       {{"query", "1"}, {"start", "0"}, {"end", "11000"}, {"step", "1"}},
       400,
       "bad_data",
       "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query "
       "resolution (?step=XX)"},
      {"/api/v1/series", {}, 400, "bad_data", "no match[] parameter provided"},
      {"/api/v1/series",
       {{"match[]", "a[5m]"}},
       400,
       "bad_data",
       "invalid parameter \"match[]\": 1:1: parse error: expected an instant vector selector"},
      {"/api/v1/labels",
       {{"limit", "many"}},
       400,
       "bad_data",
       "invalid parameter \"limit\": cannot parse \"many\" to a count"},
      {"/api/v1/profile",
       {{"type", "requests"}},
       422,
       "execution",
       "\"requests\" is a counter, not a profile"},
      {"/api/v1/profile",
       {{"format", "svg"}},
       400,
       "bad_data",
       "invalid parameter \"format\": \"svg\" is neither \"json\" nor \"folded\""},
      {"/api/v1/nosuch", {}, 404, "not_found", "no such call: /api/v1/nosuch"},
  };
  for (const auto& bad : cases) {
    const auto response = get(bad.path, bad.fields);
    EXPECT_EQ(response.status, bad.status) << bad.error;
    EXPECT_EQ(json::parse(response.body),
              (json{{"status", "error"}, {"errorType", bad.type}, {"error", bad.error}}));
  }
}

TEST_F(ApiTest, LimitsOfAQueryAreErrorsNotPartialAnswers) {
  context_.limits.max_series = 1;
  EXPECT_EQ(get("/api/v1/query", {{"query", "requests"}}).status, 422);
  context_.limits.max_series = 100;
  context_.limits.max_rows = 1;
  const auto response = get("/api/v1/query", {{"query", "requests"}});
  EXPECT_EQ(response.status, 422);
  EXPECT_EQ(json::parse(response.body)["error"], "the answer has more than 1 points");
}

TEST_F(ApiTest, AStoppedQueryIsATimeout) {
  context_.stop = [] { return true; };
  const auto response =
      get("/api/v1/query_range",
          {{"query", "requests + 1"}, {"start", "0"}, {"end", "10000"}, {"step", "1"}});
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(json::parse(response.body)["errorType"], "timeout");
}

TEST_F(ApiTest, LabelsAndValuesComeFromTheIndexOrFromMatchingSeries) {
  EXPECT_EQ(get_json("/api/v1/labels")["data"], (json{"__name__", "region", "service"}));
  EXPECT_EQ(get_json("/api/v1/labels", {{"match[]", "lat"}})["data"],
            (json{"__name__", "service"}));
  EXPECT_EQ(get_json("/api/v1/label/service/values")["data"], (json{"a", "b"}));
  EXPECT_EQ(get_json("/api/v1/label/__name__/values")["data"], (json{"lat", "requests"}));
  EXPECT_EQ(get_json("/api/v1/label/__name__/values", {{"match[]", "{service=\"b\"}"}})["data"],
            (json{"requests"}));
  const auto cut = get_json("/api/v1/label/service/values", {{"limit", "1"}});
  EXPECT_EQ(cut["data"], (json{"a"}));
  EXPECT_EQ(cut["warnings"], (json{"results truncated due to limit"}));
}

TEST_F(ApiTest, SeriesAreLabelSetsWithNames) {
  const auto body = get_json("/api/v1/series", {{"match[]", "{service=\"a\"}"}});
  EXPECT_EQ(body["data"], (json{{{"__name__", "lat"}, {"service", "a"}},
                                {{"__name__", "requests"}, {"region", "eu"}, {"service", "a"}}}));
  EXPECT_EQ(source_.requests.back().want, SelectWant::kLabels);
}

TEST_F(ApiTest, SumsTellTheStoreWhichLabelsTheyNeed) {
  query("sum by (service) (rate(requests{region!=\"us\"}[1m]))");
  const auto request = source_.requests.back();
  EXPECT_FALSE(request.needs_all_labels);
  EXPECT_TRUE(needs_label(request, Kind::kCounter, "service"));
  EXPECT_TRUE(needs_label(request, Kind::kCounter, "region"));
  EXPECT_FALSE(needs_label(request, Kind::kCounter, "host"));
  EXPECT_TRUE(needs_label(request, Kind::kGauge, "host"));
  query("sum without (host) (histogram_count(increase(lat[1m])))");
  EXPECT_FALSE(needs_label(source_.requests.back(), Kind::kDistribution, "host"));
  EXPECT_TRUE(needs_label(source_.requests.back(), Kind::kDistribution, "service"));
  for (const auto* all :
       {"rate(requests[1m])", "max by (service) (rate(requests[1m]))", "count(rate(requests[1m]))",
        "sum(requests)", "sum(rate(requests[1m]) > 1)"}) {
    query(all);
    EXPECT_TRUE(source_.requests.back().needs_all_labels) << all;
  }
}

TEST_F(ApiTest, ARangeQueryAsksForWindowsThatFitItsSteps) {
  const auto step_of = [&](const std::string& text, const std::string& start,
                           const std::string& step) {
    get_json("/api/v1/query_range",
             {{"query", text}, {"start", start}, {"end", "1700003600"}, {"step", step}});
    return source_.requests.back().step_s;
  };
  EXPECT_EQ(step_of("increase(requests[1h])", "1699999200", "300"), 300u);
  EXPECT_EQ(step_of("increase(requests[1h])", "1699999260", "300"), 60u);  // starts off the grid
  EXPECT_EQ(step_of("increase(requests[2m])", "1699999200", "300"), 60u);
  EXPECT_EQ(step_of("increase(requests[1h] offset 1m)", "1699999200", "300"), 60u);
  EXPECT_EQ(step_of("increase(requests[1h])", "1699999200.5", "300"), 1u);
}

class ProfileApiTest : public ApiTest {
 protected:
  ProfileApiTest() {
    const Metric cpu{.name = "cpu", .kind = Kind::kProfile, .unit = "nanoseconds", .quantum = -9};
    const Frame main{FrameKind::kUser, "app", "main"};
    const Frame work{FrameKind::kUser, "app", "work;hard"};
    const Frame syscall{FrameKind::kKernel, "", "do_syscall_64"};
    Profile one;
    one.add(std::vector{main, work}, 300, 3);
    one.add(std::vector{main, syscall}, 100, 1);
    one.add_quality({.lost = 1, .truncated = 2, .unresolved = 3});
    const Window window = window_at(kNow - 60, 60);
    source_.add(cpu, {{"host", "h1"}, {"service", "a"}}, window, one);
    source_.add(cpu, {{"host", "h2"}, {"service", "a"}}, window, one);
    source_.add(cpu, {{"host", "h2"}, {"service", "b"}}, window, one);
  }
};

TEST_F(ProfileApiTest, ProfilesOfTheRangeMergeIntoOneTrie) {
  const auto data = get_json("/api/v1/profile", {{"service", "a"}})["data"];
  EXPECT_EQ(data["type"], "cpu");
  EXPECT_EQ(data["unit"], "nanoseconds");
  EXPECT_EQ(data["total"], 800);
  EXPECT_EQ(data["samples"], 8);
  EXPECT_EQ(data["quality"], (json{{"lost", 2}, {"truncated", 4}, {"unresolved", 6}}));
  EXPECT_EQ(data["hosts"], 2);
  EXPECT_EQ(data["windows"], 1);
  EXPECT_EQ(data["frames"].size(), 3u);
  EXPECT_EQ(data["nodes"]["self"].size(), 4u);
  uint64_t total = 0;
  for (const auto& self : data["nodes"]["self"]) total += self.get<uint64_t>();
  EXPECT_EQ(total, 800u);
}

TEST_F(ProfileApiTest, FoldedIsTextWithKernelFramesMarked) {
  const auto response = get("/api/v1/profile", {{"format", "folded"}, {"host", "h1"}});
  EXPECT_EQ(response.type, "text/plain; charset=utf-8");
  EXPECT_EQ(response.body, "main;work:hard 300\nmain;do_syscall_64_[k] 100\n");
}

TEST_F(ProfileApiTest, ARootLabelKeepsServicesApart) {
  const auto response = get("/api/v1/profile", {{"format", "folded"}, {"root", "service"}});
  EXPECT_EQ(response.body,
            "a;main;work:hard 600\na;main;do_syscall_64_[k] 200\n"
            "b;main;work:hard 300\nb;main;do_syscall_64_[k] 100\n");
}

TEST_F(ProfileApiTest, AProfileTwoSelectorsMatchCountsOnce) {
  const auto body =
      get_json("/api/v1/profile", {{"match[]", "{service=\"a\"}"}, {"match[]", "{host=\"h2\"}"}});
  EXPECT_EQ(body["data"]["total"], 1200);
}

TEST_F(ProfileApiTest, NothingInTheRangeIsAnEmptyProfile) {
  const auto data = get_json("/api/v1/profile", {{"start", "0"}, {"end", "60"}})["data"];
  EXPECT_EQ(data["total"], 0);
  EXPECT_EQ(data["nodes"]["parent"].size(), 1u);
}

TEST_F(ApiTest, AnomaliesAreFiringAlertsThatNeverPage) {
  int64_t asked_from = 0;
  context_.anomalies = [&](int64_t from_s, int64_t to_s, size_t limit) {
    asked_from = from_s;
    EXPECT_EQ(to_s, 1'700'000'000);
    EXPECT_GE(limit, 5u);
    Anomaly anomaly;
    anomaly.window = {1'699'999'980, 60};
    anomaly.detector = "band";
    anomaly.signal = "p99";
    anomaly.labels = {{"region", "eu"}, {"service", "a"}};
    anomaly.value = 0.9;
    anomaly.summary = "p99 of a in eu is 0.9 s";
    return Result<std::vector<Anomaly>>(std::vector{anomaly});
  };
  const auto body = get_json(
      "/api/v1/alerts", {{"start", "2023-11-14T22:00:00Z"}, {"end", "1700000000"}, {"limit", "5"}});
  EXPECT_EQ(asked_from, 1'699'999'200);
  ASSERT_EQ(body["data"]["alerts"].size(), 1u);
  const auto& alert = body["data"]["alerts"][0];
  EXPECT_EQ(alert["labels"], (json{{"alertname", "WeirAnomaly"},
                                   {"detector", "band"},
                                   {"region", "eu"},
                                   {"service", "a"},
                                   {"severity", "none"},
                                   {"signal", "p99"}}));
  EXPECT_EQ(alert["state"], "firing");
  EXPECT_EQ(alert["activeAt"], "2023-11-14T22:14:00Z");
  EXPECT_EQ(alert["value"], "0.9");
  EXPECT_EQ(alert["annotations"]["summary"], "p99 of a in eu is 0.9 s");
}

TEST_F(ApiTest, AnomaliesOfOneServiceAreChosenBeforeTheLimitCutsAndTheCutIsSaid) {
  context_.anomalies = [](int64_t, int64_t, size_t) {
    std::vector<Anomaly> all(6);
    for (size_t i = 0; i < all.size(); ++i) all[i].labels = {{"service", i < 3 ? "a" : "b"}};
    return Result<std::vector<Anomaly>>(all);
  };
  const auto some = get_json("/api/v1/alerts", {{"service", "b"}, {"limit", "3"}});
  ASSERT_EQ(some["data"]["alerts"].size(), 3u);
  EXPECT_EQ(some["data"]["alerts"][0]["labels"]["service"], "b");
  EXPECT_FALSE(some.contains("warnings"));
  const auto cut = get_json("/api/v1/alerts", {{"service", "b"}, {"limit", "2"}});
  EXPECT_EQ(cut["data"]["alerts"].size(), 2u);
  EXPECT_TRUE(cut.contains("warnings"));
}

TEST_F(ApiTest, StatusAndMetricsShowTheSameCounters) {
  context_.status = [] {
    TierStatus status;
    status.tier = "region";
    status.name = "eu-1";
    status.counters = {{"weir_intake_rejected_total{reason=\"crc\"}", 2},
                       {"weir_intake_rejected_total{reason=\"age\"}", 1}};
    status.widths = {{.width_s = 60, .windows = 3}};
    status.sources.resize(1);
    status.sources[0].report.name = "edge-1";
    status.sources[0].report.collectors = {
        {.name = "requests", .state = 3, .reason = "no CAP_BPF", .fix = "run as root"}};
    return status;
  };
  const auto data = get_json("/api/v1/status/weir")["data"];
  EXPECT_EQ(data["name"], "eu-1");
  EXPECT_EQ(data["sources"][0]["collectors"][0]["state"], "unavailable");
  EXPECT_EQ(data["counters"]["weir_intake_rejected_total{reason=\"crc\"}"], 2);
  const auto metrics = get("/metrics").body;
  EXPECT_NE(metrics.find("# TYPE weir_intake_rejected_total counter\n"
                         "weir_intake_rejected_total{reason=\"age\"} 1\n"
                         "weir_intake_rejected_total{reason=\"crc\"} 2\n"),
            std::string::npos)
      << metrics;
  EXPECT_NE(metrics.find("weir_store_windows{width=\"60\"} 3\n"), std::string::npos);
}

TEST_F(ApiTest, SourcesWhoseAccountIsOffOrHasGapsAreNamedAndOthersAreNot) {
  TierStatus status;
  status.ledger.sources = 3;
  context_.status = [&] { return status; };
  EXPECT_EQ(get("/metrics").body.find("weir_source_"), std::string::npos);
  const SourceId one{std::byte{0xab}};
  status.ledger.worst = {{one, 7}};
  status.ledger.gapped = 30;
  status.ledger.gaps = 40;
  status.ledger.most_gaps = {{one, 11}, {{}, 2}};
  const auto metrics = get("/metrics").body;
  const std::string zeros(30, '0');
  EXPECT_NE(metrics.find("# TYPE weir_source_imbalance gauge\n"
                         "weir_source_imbalance{source=\"ab" +
                         zeros + "\"} 7\n"),
            std::string::npos)
      << metrics;
  EXPECT_NE(metrics.find("weir_source_gaps{source=\"ab" + zeros +
                         "\"} 11\n"
                         "weir_source_gaps{source=\"00" +
                         zeros + "\"} 2\n"),
            std::string::npos)
      << metrics;
  const auto ledger = get_json("/api/v1/status/weir")["data"]["ledger"];
  EXPECT_EQ(ledger["gapped"], 30);
  EXPECT_EQ(ledger["gaps"], 40);
  EXPECT_EQ(ledger["most_gaps"].size(), 2U);
  EXPECT_EQ(ledger["most_gaps"][0]["gaps"], 11);
}

TEST_F(ApiTest, WhatClientsAskFirstIsAnswered) {
  context_.status = [] { return TierStatus(); };
  EXPECT_EQ(get_json("/api/v1/status/buildinfo")["data"]["version"], "2.42.0");
  EXPECT_FALSE(get_json("/api/v1/status/buildinfo")["data"].contains("features"));
  EXPECT_EQ(get_json("/api/v1/rules")["data"], (json{{"groups", json::array()}}));
  EXPECT_EQ(get_json("/api/v1/metadata")["data"], json::object());
  EXPECT_EQ(get_json("/api/v1/query_exemplars")["data"], json::array());
  EXPECT_EQ(get("/-/healthy").status, 200);
  EXPECT_EQ(get("/-/ready").status, 200);
}

TEST_F(ApiTest, WhatWaitsForItsDiskIsHealthyAndNotReady) {
  context_.status = [] {
    TierStatus status;
    status.counters["weir_store_unavailable"] = 1;
    return status;
  };
  EXPECT_EQ(get("/-/healthy").status, 200);
  EXPECT_EQ(get("/-/ready").status, 503);
}

TEST(Form, DecodesAndRefusesBrokenEscapes) {
  EXPECT_EQ(*decode_form("a=1&b=%7B+%7d&c&=d&&match%5B%5D=x"),
            (FormFields{{"a", "1"}, {"b", "{ }"}, {"c", ""}, {"", "d"}, {"match[]", "x"}}));
  for (const auto* bad : {"a=%", "a=%4", "a=%zz", "%=1"}) EXPECT_FALSE(decode_form(bad).ok());
  std::string many;
  for (int i = 0; i < 257; ++i) many += "a=1&";
  EXPECT_FALSE(decode_form(many).ok());
}

}  // namespace
}  // namespace weir::aggregator
