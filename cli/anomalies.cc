// weir anomalies: what the detectors flagged, newest first. For ranking and looking; never paging.

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/time_text.h"
#include "common/clock.h"

namespace weir::cli {
namespace {

std::string text(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return {};
  const auto it = object.find(key);
  if (it == object.end()) return {};
  return it->is_string() ? it->get<std::string>() : it->dump();
}

}  // namespace

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
  Table table({"time", "service", "region", "signal", "score", "what"});
  const auto data = body->find("data");
  const auto alerts = data != body->end() ? data->find("alerts") : body->end();
  if (data != body->end() && alerts != data->end() && alerts->is_array()) {
    for (const auto& alert : *alerts) {
      if (!alert.is_object()) continue;
      const nlohmann::json labels = alert.value("labels", nlohmann::json::object());
      const nlohmann::json notes = alert.value("annotations", nlohmann::json::object());
      table.add({text(alert, "activeAt"), text(labels, "service"), text(labels, "region"),
                 text(labels, "signal"), text(alert, "value"), text(notes, "summary")});
    }
  }
  if (table.empty()) {
    std::fprintf(stderr, "no anomalies in the last %s\n", options.since.c_str());
  } else {
    print(table.text());
  }
  return kAnswered;
}

}  // namespace weir::cli
