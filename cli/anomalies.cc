// weir anomalies: what the detectors flagged, newest first. For ranking and looking; never paging.

#include <cstdio>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/render.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/time_text.h"
#include "common/clock.h"

namespace weir::cli {

namespace {

std::string score_of(const nlohmann::json& alert) {
  const std::string text = text_field(field(alert, "weir"), "score");
  return text.substr(0, text.find('.') == std::string::npos ? text.npos : text.find('.') + 2);
}

}  // namespace

std::string anomalies_text(const nlohmann::json& body, Output output) {
  Table table({"time", "service", "region", "signal", "score", "what"});
  for (const auto& alert : field(field(body, "data"), "alerts")) {
    const nlohmann::json& labels = field(alert, "labels");
    table.add({text_field(alert, "activeAt"), text_field(labels, "service"),
               text_field(labels, "region"), text_field(labels, "signal"), score_of(alert),
               text_field(field(alert, "annotations"), "summary")});
  }
  if (table.empty()) return {};
  return output == Output::kCsv ? table.csv() : table.text();
}

int run_anomalies(const Common& common, const AnomalyOptions& options) {
  const int64_t now_s = unix_seconds(SystemClock().now());
  const auto since = parse_duration(options.since);
  if (!since.ok()) return usage(Error(since.error()).with("--since"));
  Parameters parameters{{"start", std::to_string(now_s - *since)}, {"end", std::to_string(now_s)}};
  if (!options.service.empty()) parameters.emplace_back("service", options.service);
  const auto body = call_api(HttpClient(common.server), "/api/v1/alerts", parameters);
  if (!body.ok()) return fail(body.error());
  if (common.output == Output::kJson) {
    print(body->dump() + "\n");
    return kAnswered;
  }
  const std::string text = anomalies_text(*body, common.output);
  if (text.empty()) std::fprintf(stderr, "no anomalies in the last %s\n", options.since.c_str());
  print(text);
  std::fputs(notes_text(*body, Said::kNothing).c_str(), stderr);
  return kAnswered;
}

}  // namespace weir::cli
