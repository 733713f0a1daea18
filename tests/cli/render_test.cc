#include "cli/render.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include <gtest/gtest.h>

#include "cli/api.h"
#include "cli/report.h"

namespace weir::cli {
namespace {

using nlohmann::json;

size_t longest_line(const std::string& text) {
  size_t longest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) longest = std::max(longest, line.size());
  return longest;
}

json vector_of(const std::vector<std::pair<json, std::string>>& samples) {
  json result = json::array();
  for (const auto& [labels, value] : samples) {
    result.push_back({{"metric", labels}, {"value", {1795166896.0, value}}});
  }
  return {{"status", "success"}, {"data", {{"resultType", "vector"}, {"result", result}}}};
}

json full_labels(const std::string& host, const std::string& route) {
  return {{"__name__", "http_server_request_duration_seconds"},
          {"host", host},
          {"http_request_method", "GET"},
          {"http_response_status_class", "2xx"},
          {"http_route", route},
          {"region", "eu-1"},
          {"server_port", "8080"},
          {"service", "checkout"}};
}

}  // namespace

TEST(QueryText, ShowsAQuantileWithItsInterval) {
  json body =
      vector_of({{{{"service", "checkout"}}, "0.41821507316"}, {{{"service", "cart"}}, "12"}});
  body["weir"] = {
      {"samples",
       {{{"lo", "0.41600000000000004"}, {"hi", "0.4205"}, {"scale", 6}}, json::object()}}};
  EXPECT_EQ(query_text(body, Output::kTable),
            "service   value     interval\n"
            "checkout  0.418215  [0.416, 0.4205]\n"
            "cart      12\n");
  EXPECT_EQ(query_text(body, Output::kCsv),
            "service,time,value,lo,hi\n"
            "checkout,2026-11-20T09:28:16Z,0.41821507316,0.41600000000000004,0.4205\n"
            "cart,2026-11-20T09:28:16Z,12,,\n");
}

TEST(QueryText, LabelsThatAllSeriesShareMoveAboveATableThatIsTooWide) {
  EXPECT_EQ(query_text(vector_of({{full_labels("edge-1", "/a"), "1"},
                                  {full_labels("edge-2", "/orders/{id}"), "2"}}),
                       Output::kTable),
            "__name__=http_server_request_duration_seconds, http_request_method=GET, "
            "http_response_status_class=2xx, region=eu-1, server_port=8080, service=checkout\n"
            "host    http_route    value\n"
            "edge-1  /a            1\n"
            "edge-2  /orders/{id}  2\n");
}

TEST(QueryText, SeriesWithVeryLongLabelsAreStackedWithinEightyColumns) {
  const std::string route = "/" + std::string(60, 'x');
  json first{{"http_route", route}, {"service", "checkout-service"}};
  json second{{"http_route", route + "2"}, {"service", "cart"}};
  const std::string text = query_text(vector_of({{first, "1"}, {second, "2"}}), Output::kTable);
  EXPECT_EQ(text, "http_route=" + route + ", service=checkout-service\nvalue\n1\n\nhttp_route=" +
                      route + "2, service=cart\nvalue\n2\n");
}

TEST(QueryText, RangesShowATimePerLine) {
  const json body = json::parse(R"({"data":{"resultType":"matrix","result":[
    {"metric":{},"values":[[0,"1"],[60,"NaN"],[1e300,"+Inf"]]}]}})");
  EXPECT_EQ(query_text(body, Output::kTable),
            "time                  value\n"
            "1970-01-01T00:00:00Z  1\n"
            "1970-01-01T00:01:00Z  NaN\n"
            "1e+300                +Inf\n");
}

TEST(QueryText, HostileAnswersAreSafeText) {
  const json body = vector_of({{{{"service\x1b[2J", "a\r\nb"}}, "\x1b]0;x\x07"}});
  for (const Output output : {Output::kTable, Output::kCsv}) {
    const std::string text = query_text(body, output);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(std::ranges::count(text, '\n'), 2);
  }
  for (const char* odd : {"{}", "[]", R"({"data":7})", R"({"data":{"result":[7,{"value":3}]}})"}) {
    EXPECT_EQ(query_text(json::parse(odd), Output::kTable), "") << odd;
  }
}

TEST(QueryText, UnderATableStandsWhatItCovers) {
  json body = vector_of({{json::object(), "12"}});
  const auto text_with = [&](const char* weir, Output output = Output::kTable) {
    body["weir"] = json::parse(weir);
    return query_text(body, output);
  };
  EXPECT_EQ(text_with(R"({"ledger":{"sources":3000,"unbalanced":0,"imbalance":0}})"),
            "value\n12\nledger: balanced over 3,000 sources\n");
  EXPECT_EQ(text_with(R"({"ledger":{"sources":3,"unbalanced":1,"imbalance":1234}})"),
            "value\n12\nledger: OFF by 1,234 in 1 of 3 sources\n");
  EXPECT_EQ(text_with(R"({"coverage":{"merged":119,"expected":120,"windows_missing":1,"lost":0}})"),
            "value\n12\n"
            "coverage: 119 of 120 source-windows (99.1 %), 1 window missing, 0 events lost\n");
  EXPECT_EQ(
      text_with(
          R"({"coverage":{"merged":11000,"expected":12000,"windows_missing":1000,"lost":2}})"),
      "value\n12\ncoverage: 11,000 of 12,000 source-windows (91.6 %),\n"
      "  1,000 windows missing, 2 events lost\n");
  EXPECT_EQ(text_with(R"({"coverage":{"merged":0,"expected":0,"lost":1234567}})"),
            "value\n12\ncoverage: not known, 1,234,567 events lost\n");
  EXPECT_EQ(text_with(R"({"coverage":{"merged":0,"expected":0,"lost":0}})"), "value\n12\n");
  EXPECT_EQ(text_with(R"({"coverage":{"merged":1,"expected":2}})", Output::kCsv),
            "time,value,lo,hi\n2026-11-20T09:28:16Z,12,,\n");
}

TEST(QueryText, SaysHowMuchMoreThereCouldBe) {
  json body = vector_of({{json::object(), "12"}, {{{"a", "b"}}, "3"}});
  body["weir"] = json::parse(R"({"samples":[{"overflow_upper":"1246"},{}],
    "overflow":[{"metric":"m","events":1234,"share":0.031}]})");
  EXPECT_EQ(query_text(body, Output::kTable),
            "a  value  up to\n   12     1246\nb  3\n"
            "overflow: up to 1,234 more (3.1 %) in series beyond the limits\n");
}

TEST(NotesText, DoesNotRepeatWhatStandsUnderTheTable) {
  const json body = {{"warnings", {"coverage: 1 of 2 source-windows (50.0 %), 1 missing", "low"}}};
  EXPECT_EQ(notes_text(body, Said::kCoverage), "warning: low\n");
}

TEST(NotesText, SaysWarningsAndInfosOnALineEach) {
  EXPECT_EQ(notes_text({{"warnings", {"too low"}}, {"infos", {"a\nb", "c"}}}, Said::kNothing),
            "warning: too low\ninfo: a\\x0ab\ninfo: c\n");
}

TEST(StatusText, FitsEightyColumnsAndSaysWhatDoesNotRun) {
  const json data = json::parse(R"JSON({
    "tier":"region","name":"eu-1","version":"0.1.0","now":1795166896,"started":1795160000,
    "upstream":{"configured":true,"connected":false,"sent":123456,"resent":12,"acked_g":123400,
                "nacked":3},
    "outbox":{"rows":56,"bytes":9000000},"inbox":{"rows":120,"bytes":4000000},
    "widths":[{"width_s":60,"newest_start":1795166880,"closed_until":1795166880,"windows":2880,
               "blocks":123456,"bytes":999999999}],
    "sources":[
      {"id":"0123456789abcdef","name":"","tier":"","last_seen":0,"batches":0,"collectors":[]},
      {"id":"a0","name":"edge-1.example.net","tier":"edge","last_seen":1795166895,"batches":4711,
       "collectors":[{"name":"requests","state":"running"},{"name":"statsd","state":"running"},
                     {"name":"profile","state":"unavailable","reason":"no BTF",
                      "fix":"install a kernel with BTF"}],
       "counters":{"weir_dropped_total{where=\"statsd\",reason=\"parse\"}":7,"weir_x_total":1}}],
    "counters":{"weir_ledger_imbalance":1,"weir_store_batches_total":9}})JSON");
  const std::string text = status_text(data);
  EXPECT_LE(longest_line(text), 80U) << text;
  EXPECT_NE(text.find("NOT CONNECTED"), std::string::npos);
  EXPECT_NE(text.find("60 s    2880"), std::string::npos) << text;
  EXPECT_NE(text.find("01234567"), std::string::npos);
  EXPECT_NE(text.find("2 running, profile unavailable"), std::string::npos);
  EXPECT_NE(text.find("fix: install a kernel with BTF"), std::string::npos);
  EXPECT_NE(text.find("weir_ledger_imbalance"), std::string::npos);
  EXPECT_EQ(text.find("weir_store_batches_total"), std::string::npos);
}

TEST(StatusText, TheLastTierSaysWhetherItsAccountsBalance) {
  const json good =
      json::parse(R"JSON({"ledger":{"sources":1200,"unbalanced":0,"imbalance":0}})JSON");
  EXPECT_NE(status_text(good).find("ledger: balanced over 1200 sources\n"), std::string::npos);
  const json off = json::parse(R"JSON({"ledger":{"sources":3,"unbalanced":1,"imbalance":7,
                                       "worst":[{"id":"a0","imbalance":7}]}})JSON");
  const json gap = json::parse(R"JSON({"ledger":{"sources":3,"unbalanced":0,"imbalance":0,
                                       "most_gaps":[{"id":"a1","gaps":2}]}})JSON");
  EXPECT_NE(status_text(gap).find("balanced over 3 sources\n  a1: 2 gaps in its account"),
            std::string::npos);
  EXPECT_NE(status_text(off).find("ledger: OFF by 7 in 1 of 3 sources\n  a0: off by 7\n"),
            std::string::npos);
}

TEST(StatusText, AnAnswerWithNothingInItIsNoCrash) {
  EXPECT_NE(status_text(json()).find("no source has reported yet"), std::string::npos);
  EXPECT_NE(status_text(json()).find("nothing dropped"), std::string::npos);
}

TEST(AnomaliesText, ListsWhatWasFlagged) {
  const json body = json::parse(R"({"data":{"alerts":[{"activeAt":"2026-11-20T09:28:00Z",
    "labels":{"service":"cart","region":"eu-1","signal":"p99"},
    "annotations":{"summary":"p99 is 900 ms, expected 100±20 ms"},
    "weir":{"score":"6.53281"}}]}})");
  EXPECT_EQ(anomalies_text(body, Output::kTable),
            "time                  service  region  signal  score  what\n"
            "2026-11-20T09:28:00Z  cart     eu-1    p99     6.5    "
            "p99 is 900 ms, expected 100±20 ms\n");
  EXPECT_NE(anomalies_text(body, Output::kCsv).find("6.5,\"p99 is 900 ms, expected"),
            std::string::npos);
  EXPECT_EQ(anomalies_text(json(), Output::kTable), "");
}

TEST(Answers, ErrorsOfTheServerKeepTheirSentenceAndTheirExitCode) {
  const auto wrong = parse_answer(
      {400, R"({"status":"error","errorType":"bad_data","error":"1:5: parse error"})"}, "here");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message, "bad_data: 1:5: parse error");
  EXPECT_EQ(fail(wrong.error()), 1);
  const auto busy = parse_answer(
      {503, R"({"status":"error","errorType":"unavailable","error":"queue"})"}, "here");
  ASSERT_FALSE(busy.ok());
  EXPECT_EQ(fail(busy.error()), 3);
  for (const char* body : {"", "<html>", "[]", R"({"x":1})", "\xff", R"({"status":3})"}) {
    const auto other = parse_answer({200, body}, "here");
    ASSERT_FALSE(other.ok()) << body;
    EXPECT_EQ(fail(other.error()), 1);
  }
}

TEST(Commands, UsageAndAnUnreachableServerHaveTheirOwnExitCodes) {
  const Common nowhere{"http://127.0.0.1:1", Output::kTable};  // nothing may listen there
  QueryOptions query;
  query.expression = "1";
  EXPECT_EQ(run_query(nowhere, query), 3);
  EXPECT_EQ(run_status(nowhere), 3);
  EXPECT_EQ(run_anomalies(nowhere, {}), 3);
  EXPECT_EQ(run_flamegraph(nowhere, {}), 3);
  query.at = "soon";
  EXPECT_EQ(run_query(nowhere, query), 2);
  query.start = "yesterday";
  EXPECT_EQ(run_query(nowhere, query), 2);
  AnomalyOptions anomalies;
  anomalies.since = "long";
  EXPECT_EQ(run_anomalies(nowhere, anomalies), 2);
  ProfileOptions profile;
  profile.from = "now";
  profile.to = "now-1h";
  EXPECT_EQ(run_flamegraph(nowhere, profile), 2);
}

}  // namespace weir::cli
