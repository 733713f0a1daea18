// weir query: one expression, now or over a range, as a table, CSV or the API's JSON.

#include <fmt/core.h>

#include <map>
#include <set>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/time_text.h"
#include "common/clock.h"

namespace weir::cli {
namespace {

using nlohmann::json;

// One printed line: the labels, when, what, and the interval that holds the truth.
struct Row {
  std::map<std::string, std::string> labels;
  std::string time;
  std::string value;
  std::string interval;
};

std::string time_of(const json& point) {
  return point.is_array() && !point.empty() && point[0].is_number()
             ? rfc3339(static_cast<int64_t>(point[0].get<double>()))
             : std::string();
}

// A histogram prints as its count and sum; its buckets are for --output json.
std::string value_of(const json& point) {
  if (!point.is_array() || point.size() != 2) return {};
  if (!point[1].is_object()) return text_of(point[1]);
  return fmt::format("count {}, sum {}", text_field(point[1], "count"), text_field(point[1], "sum"));
}

std::string interval_of(const json& lo, const json& hi) {
  return fmt::format("[{}, {}]", text_of(lo), text_of(hi));
}

std::map<std::string, std::string> labels_of(const json& metric) {
  std::map<std::string, std::string> labels;
  if (!metric.is_object()) return labels;
  for (const auto& [name, value] : metric.items()) labels[name] = text_of(value);
  return labels;
}

std::vector<Row> rows_of(const json& data, const json& notes) {
  std::vector<Row> rows;
  const json& result = field(data, "result");
  const json& samples = field(notes, "samples");
  if (!result.is_array()) return rows;
  if (field(data, "resultType") == "scalar" || field(data, "resultType") == "string") {
    rows.push_back({{}, time_of(result), value_of(result), {}});
    return rows;
  }
  for (size_t i = 0; i < result.size(); ++i) {
    const auto labels = labels_of(field(result[i], "metric"));
    const json note = samples.is_array() && i < samples.size() ? samples[i] : json();
    for (const char* key : {"value", "histogram"}) {
      if (const json& point = field(result[i], key); point.is_array()) {
        const bool bounded = !field(note, "lo").is_null();
        rows.push_back({labels, time_of(point), value_of(point),
                        bounded ? interval_of(field(note, "lo"), field(note, "hi")) : ""});
      }
    }
    std::map<std::string, std::string> intervals;  // by time
    if (const json& points = field(note, "points"); points.is_array()) {
      for (const auto& point : points) {
        if (point.is_array() && point.size() == 3) {
          intervals[time_of(point)] = interval_of(point[1], point[2]);
        }
      }
    }
    for (const char* key : {"values", "histograms"}) {
      if (const json& points = field(result[i], key); points.is_array()) {
        for (const auto& point : points) {
          rows.push_back({labels, time_of(point), value_of(point), intervals[time_of(point)]});
        }
      }
    }
  }
  return rows;
}

std::string csv_cell(const std::string& raw) {
  const std::string text = printable(raw);
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

void print_rows(const std::vector<Row>& rows, Output output, bool with_time) {
  std::set<std::string> names;
  bool any_interval = false;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.labels) names.insert(name);
    any_interval = any_interval || !row.interval.empty();
  }
  std::vector<std::string> header(names.begin(), names.end());
  if (with_time || output == Output::kCsv) header.emplace_back("time");
  header.emplace_back("value");
  if (any_interval) header.emplace_back("interval");

  Table table(header);
  std::string csv;
  const auto csv_line = [&](const std::vector<std::string>& cells) {
    for (size_t i = 0; i < cells.size(); ++i) csv += (i > 0 ? "," : "") + csv_cell(cells[i]);
    csv += '\n';
  };
  csv_line(header);
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& name : names) {
      const auto it = row.labels.find(name);
      cells.push_back(it == row.labels.end() ? "" : it->second);
    }
    if (with_time || output == Output::kCsv) cells.push_back(row.time);
    cells.push_back(row.value);
    if (any_interval) cells.push_back(row.interval);
    csv_line(cells);
    table.add(std::move(cells));
  }
  print(output == Output::kCsv ? csv : table.text());
}

void print_notes(const json& body) {
  for (const char* key : {"warnings", "infos"}) {
    if (const json& notes = field(body, key); notes.is_array()) {
      for (const auto& note : notes) {
        std::fprintf(stderr, "%s: %s\n", key[0] == 'w' ? "warning" : "info",
                     printable(text_of(note)).c_str());
      }
    }
  }
}

}  // namespace

int run_query(const Common& common, const QueryOptions& options) {
  const int64_t now_s = unix_seconds(SystemClock().now());
  Parameters parameters{{"query", options.expression}, {"weir", "1"}};
  const bool range = !options.start.empty();
  if (range) {
    const auto start = parse_time(options.start, now_s);
    const auto end = parse_time(options.end, now_s);
    const auto step = parse_duration(options.step);
    if (!start.ok()) return usage(Error(start.error()).with("--start"));
    if (!end.ok()) return usage(Error(end.error()).with("--end"));
    if (!step.ok()) return usage(Error(step.error()).with("--step"));
    parameters.emplace_back("start", std::to_string(*start));
    parameters.emplace_back("end", std::to_string(*end));
    parameters.emplace_back("step", std::to_string(*step));
  } else if (options.at != "now") {
    const auto at = parse_time(options.at, now_s);
    if (!at.ok()) return usage(Error(at.error()).with("--at"));
    parameters.emplace_back("time", std::to_string(*at));
  }
  const auto body = call_api(HttpClient(common.server),
                             range ? "/api/v1/query_range" : "/api/v1/query", parameters);
  if (!body.ok()) return fail(body.error());
  if (common.output == Output::kJson) {
    print(body->dump() + "\n");
    return kAnswered;
  }
  const std::vector<Row> rows = rows_of(field(*body, "data"), field(*body, "weir"));
  if (rows.empty()) {
    std::fprintf(stderr, "no series match\n");
  } else {
    print_rows(rows, common.output, range);
  }
  print_notes(*body);
  return kAnswered;
}

}  // namespace weir::cli
