// weir query: one expression, now or over a range, as a table, CSV or the API's JSON.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include <fmt/core.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/render.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/time_text.h"
#include "common/clock.h"
#include "common/time_text.h"

namespace weir::cli {
namespace {

using nlohmann::json;

// One printed line: the labels, when, what, and the interval that holds the truth.
struct Row {
  std::map<std::string, std::string> labels;
  std::string time;
  std::string value;
  std::string lo;
  std::string hi;
  std::string upper{};  // the most it can be, when some of what is unnamed may be its own
};

constexpr size_t kColumns = 80;

std::string time_of(const json& point) {
  if (!point.is_array() || point.empty() || !point[0].is_number()) return {};
  const auto seconds = point[0].get<double>();
  return std::abs(seconds) < 1e15 ? rfc3339(static_cast<int64_t>(seconds)) : text_of(point[0]);
}

// A histogram prints as its count and sum; its buckets are for --output json.
std::string value_of(const json& point) {
  if (!point.is_array() || point.size() != 2) return {};
  if (!point[1].is_object()) return text_of(point[1]);
  return fmt::format("count {}, sum {}", text_field(point[1], "count"),
                     text_field(point[1], "sum"));
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
    rows.push_back({{}, time_of(result), value_of(result), {}, {}});
    return rows;
  }
  for (size_t i = 0; i < result.size(); ++i) {
    const auto labels = labels_of(field(result[i], "metric"));
    const json note = samples.is_array() && i < samples.size() ? samples[i] : json();
    for (const char* key : {"value", "histogram"}) {
      if (const json& point = field(result[i], key); point.is_array()) {
        rows.push_back({labels, time_of(point), value_of(point), text_field(note, "lo"),
                        text_field(note, "hi"), text_field(note, "overflow_upper")});
      }
    }
    std::map<std::string, std::pair<std::string, std::string>> intervals;  // by time
    if (const json& points = field(note, "points"); points.is_array()) {
      for (const auto& point : points) {
        if (point.is_array() && point.size() == 3) {
          intervals[time_of(point)] = {text_of(point[1]), text_of(point[2])};
        }
      }
    }
    for (const char* key : {"values", "histograms"}) {
      if (const json& points = field(result[i], key); points.is_array()) {
        for (const auto& point : points) {
          const auto& [lo, hi] = intervals[time_of(point)];
          rows.push_back({labels, time_of(point), value_of(point), lo, hi});
        }
      }
    }
  }
  return rows;
}

// "0.418215" of "0.41821507316": people compare, programs take CSV or JSON.
std::string rounded(const std::string& number) {
  if (number.size() <= 9 || number.find('.') == std::string::npos) return number;
  double value = 0;
  const char* const end = number.data() + number.size();
  if (const auto [at, error] = std::from_chars(number.data(), end, value);
      error != std::errc() || at != end || !std::isfinite(value)) {
    return number;
  }
  return std::abs(value) >= 1e6 ? fmt::format("{:.1f}", value) : fmt::format("{:.6g}", value);
}

std::string interval_text(const Row& row) {
  return row.lo.empty() ? "" : fmt::format("[{}, {}]", rounded(row.lo), rounded(row.hi));
}

using Names = std::set<std::string>;

std::string label_of(const Row& row, const std::string& name) {
  const auto at = row.labels.find(name);
  return at == row.labels.end() ? std::string() : at->second;
}

std::string label_list(const Row& row, const Names& names) {
  std::string out;
  for (const auto& name : names) {
    if (!row.labels.contains(name)) continue;
    out += fmt::format("{}{}={}", out.empty() ? "" : ", ", name, label_of(row, name));
  }
  return printable(out.empty() ? "{}" : out);
}

Names all_names(const std::vector<Row>& rows) {
  Names names;
  for (const auto& row : rows) {
    for (const auto& [name, value] : row.labels) names.insert(name);
  }
  return names;
}

Table table_of(const std::vector<Row>& rows, const Names& names, bool with_time) {
  const bool bounded = std::ranges::any_of(rows, [](const Row& row) { return !row.lo.empty(); });
  const bool open = std::ranges::any_of(rows, [](const Row& row) { return !row.upper.empty(); });
  std::vector<std::string> header(names.begin(), names.end());
  if (with_time) header.emplace_back("time");
  header.emplace_back("value");
  if (bounded) header.emplace_back("interval");
  if (open) header.emplace_back("up to");
  Table table(header);
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& name : names) cells.push_back(label_of(row, name));
    if (with_time) cells.push_back(row.time);
    cells.push_back(rounded(row.value));
    if (bounded) cells.push_back(interval_text(row));
    if (open) cells.push_back(rounded(row.upper));
    table.add(std::move(cells));
  }
  return table;
}

std::string csv_of(const std::vector<Row>& rows) {
  const Names names = all_names(rows);
  std::vector<std::string> header(names.begin(), names.end());
  for (const char* more : {"time", "value", "lo", "hi"}) header.emplace_back(more);
  Table table(header);
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& name : names) cells.push_back(label_of(row, name));
    for (const auto& more : {row.time, row.value, row.lo, row.hi}) cells.push_back(more);
    table.add(std::move(cells));
  }
  return table.csv();
}

// The narrowest change that makes it fit: labels that all rows share move above the table, and if
// that is not enough each series gets a line for its labels and a small table of its own.
std::string table_text(const std::vector<Row>& rows, bool with_time) {
  Names names = all_names(rows);
  if (const Table table = table_of(rows, names, with_time); table.width() <= kColumns) {
    return table.text();
  }
  Names shared;
  for (const auto& name : names) {
    const std::string value = label_of(rows.front(), name);
    if (std::ranges::all_of(rows, [&](const Row& row) { return label_of(row, name) == value; })) {
      shared.insert(name);
    }
  }
  std::string out;
  if (!shared.empty()) out = label_list(rows.front(), shared) + "\n";
  for (const auto& name : shared) names.erase(name);
  if (const Table table = table_of(rows, names, with_time); table.width() <= kColumns) {
    return out + table.text();
  }
  for (size_t from = 0; from < rows.size();) {
    size_t to = from;
    while (to < rows.size() && rows[to].labels == rows[from].labels) ++to;
    const std::vector<Row> series(rows.begin() + static_cast<std::ptrdiff_t>(from),
                                  rows.begin() + static_cast<std::ptrdiff_t>(to));
    out += (out.empty() ? "" : "\n") + label_list(rows[from], names) + "\n" +
           table_of(series, {}, with_time).text();
    from = to;
  }
  return out;
}

// "1,234" of "1234".
std::string grouped(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string coverage_text(const json& coverage) {
  const uint64_t merged = natural_field(coverage, "merged");
  const uint64_t expected = natural_field(coverage, "expected");
  const uint64_t missing = natural_field(coverage, "windows_missing");
  const uint64_t lost = natural_field(coverage, "lost");
  if (expected == 0 && lost == 0) return {};
  const std::string events = fmt::format("{} events lost", grouped(lost));
  if (expected == 0) return fmt::format("coverage: not known, {}\n", events);
  const double share = static_cast<double>(merged) / static_cast<double>(expected);
  const std::string windows =
      fmt::format("coverage: {} of {} source-windows ({:.1f} %),", grouped(merged),
                  grouped(expected), std::floor(share * 1000) / 10);
  const std::string rest =
      fmt::format("{} window{} missing, {}", grouped(missing), missing == 1 ? "" : "s", events);
  const bool fits = windows.size() + 1 + rest.size() <= kColumns;
  return windows + (fits ? " " : "\n  ") + rest + "\n";
}

// Of the last tier: whether all it was sent is there once.
std::string ledger_text(const json& ledger) {
  if (!ledger.is_object()) return {};
  const uint64_t sources = natural_field(ledger, "sources");
  if (natural_field(ledger, "unbalanced") == 0) {
    return fmt::format("ledger: balanced over {} sources\n", grouped(sources));
  }
  return fmt::format("ledger: OFF by {} in {} of {} sources\n",
                     grouped(natural_field(ledger, "imbalance")),
                     grouped(natural_field(ledger, "unbalanced")), grouped(sources));
}

std::string overflow_text(const json& overflow) {
  std::string out;
  if (!overflow.is_array()) return out;
  for (const auto& one : overflow) {
    const json& share = field(one, "share");
    out += fmt::format("overflow: up to {} more ({:.1f} %) in series beyond the limits{}\n",
                       grouped(natural_field(one, "events")),
                       share.is_number() ? 100 * share.get<double>() : 0.0,
                       overflow.size() > 1 ? " of " + printable(text_field(one, "metric")) : "");
  }
  return out;
}

// What the server says of it in words; the lines under a table say the same.
bool is_about_coverage(const std::string& note) {
  return note.starts_with("coverage: ") || note.starts_with("lost: ") ||
         note.starts_with("overflow: ");
}

}  // namespace

std::string query_text(const json& body, Output output) {
  const json& data = field(body, "data");
  const std::vector<Row> rows = rows_of(data, field(body, "weir"));
  if (rows.empty()) return {};
  if (output == Output::kCsv) return csv_of(rows);
  return table_text(rows, field(data, "resultType") == "matrix") +
         coverage_text(field(field(body, "weir"), "coverage")) +
         ledger_text(field(field(body, "weir"), "ledger")) +
         overflow_text(field(field(body, "weir"), "overflow"));
}

std::string notes_text(const json& body, Said said) {
  std::string out;
  for (const char* key : {"warnings", "infos"}) {
    const json& notes = field(body, key);
    if (!notes.is_array()) continue;
    for (const auto& note : notes) {
      if (said == Said::kCoverage && is_about_coverage(text_of(note))) continue;
      out += fmt::format("{}: {}\n", key[0] == 'w' ? "warning" : "info", printable(text_of(note)));
    }
  }
  return out;
}

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
  const std::string text = query_text(*body, common.output);
  if (text.empty()) std::fputs("no series match\n", stderr);
  print(text);
  const bool said = common.output == Output::kTable && !text.empty();
  std::fputs(notes_text(*body, said ? Said::kCoverage : Said::kNothing).c_str(), stderr);
  return kAnswered;
}

}  // namespace weir::cli
