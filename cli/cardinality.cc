// weir cardinality: which metrics have how many label sets, what the limits did about it, and who
// makes them. Everything comes from weir_series_* (docs/cardinality.md), at whichever tier is
// asked.

#include "cli/cardinality.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <map>

#include <fmt/core.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/json_fields.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/time_text.h"

namespace weir::cli {

namespace {

using nlohmann::json;

constexpr size_t kOffenders = 5;
constexpr size_t kColumns = 80;

// One sample of an instant query's answer.
struct Answer {
  std::map<std::string, std::string> labels;
  double value = 0;
  double lo = 0;  // the same as value unless the answer states an interval
  double hi = 0;
};

double number_of(const std::string& text, double otherwise) {
  double value = otherwise;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

std::vector<Answer> answers_of(const json& body) {
  std::vector<Answer> out;
  const json& result = field(field(body, "data"), "result");
  const json& samples = field(field(body, "weir"), "samples");
  if (!result.is_array()) return out;
  for (size_t i = 0; i < result.size(); ++i) {
    Answer answer;
    if (const json& labels = field(result[i], "metric"); labels.is_object()) {
      for (const auto& [name, value] : labels.items()) answer.labels[name] = text_of(value);
    }
    if (const json& point = field(result[i], "value"); point.is_array() && point.size() == 2) {
      answer.value = number_of(text_of(point[1]), 0);
    } else if (const json& h = field(result[i], "histogram"); h.is_array() && h.size() == 2) {
      answer.value = number_of(text_field(h[1], "count"), 0);
    }
    const json note = samples.is_array() && i < samples.size() ? samples[i] : json();
    answer.lo = number_of(text_field(note, "lo"), answer.value);
    answer.hi = number_of(text_field(note, "hi"), answer.value);
    out.push_back(std::move(answer));
  }
  return out;
}

Result<std::vector<Answer>> ask(const HttpClient& client, const std::string& expression) {
  WEIR_TRY_ASSIGN(const json body,
                  call_api(client, "/api/v1/query", {{"query", expression}, {"weir", "1"}}));
  return answers_of(body);
}

// A PromQL string.
std::string promql_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string label_of(const Answer& answer, const std::string& name) {
  const auto at = answer.labels.find(name);
  return at == answer.labels.end() ? std::string() : at->second;
}

// What of the metric's own events is in overflow series; nothing to say of kinds without a sum.
void add_share(const HttpClient& client, const std::string& range, MetricCardinality& metric) {
  const auto parts =
      ask(client, fmt::format(R"(sum by ("otel.metric.overflow") (increase({{__name__={}}}[{}])))",
                              promql_string(metric.name), range));
  if (!parts.ok()) return;
  double all = 0;
  double over = 0;
  for (const Answer& part : *parts) {
    all += part.value;
    if (!part.labels.empty()) over += part.value;
  }
  if (all > 0) metric.overflow_share = over / all;
}

Status add_details(const HttpClient& client, const std::string& range, MetricCardinality& metric) {
  const std::string selector = R"({tier="",metric=)" + promql_string(metric.name) + "}";
  WEIR_TRY_ASSIGN(const auto labels,
                  ask(client, fmt::format("sum by (label) (increase(weir_series_values{}[{}]))",
                                          selector, range)));
  for (const Answer& a : labels) metric.labels.emplace_back(label_of(a, "label"), a.value);
  std::ranges::sort(metric.labels, {}, [](const auto& label) { return -label.second; });
  WEIR_TRY_ASSIGN(const auto offenders,
                  ask(client, fmt::format("heavy_hitters({}, sum by (metric) "
                                          "(increase(weir_series_offenders{}[{}])))",
                                          kOffenders, selector, range)));
  for (const Answer& a : offenders) metric.offenders.emplace_back(label_of(a, "key"), a.value);
  std::ranges::sort(metric.offenders, {}, [](const auto& offender) { return -offender.second; });
  add_share(client, range, metric);
  return {};
}

// "1,234,567"; estimates are whole numbers to people.
std::string count_text(double value) {
  std::string out = fmt::format("{:.0f}", value);
  for (size_t at = out.size(); at > 3 && out[at - 4] != '-';) {
    at -= 3;
    out.insert(at, ",");
  }
  return out;
}

// "  labels      route 12,000, status 5" in lines of at most 80 columns.
std::string list_lines(const char* title,
                       const std::vector<std::pair<std::string, double>>& items) {
  const std::string margin(13, ' ');
  std::string out;
  std::string line = fmt::format("  {:<11}", title);
  bool first = true;
  for (const auto& [name, count] : items) {
    const std::string item = printable(name) + " " + count_text(count);
    if (!first && line.size() + 2 + item.size() > kColumns) {
      out += line + ",\n";
      line = margin;
    } else if (!first) {
      line += ", ";
    }
    line += item;
    first = false;
  }
  return first ? std::string() : out + line + "\n";
}

json counts_of(const std::vector<std::pair<std::string, double>>& items, const char* name) {
  json out = json::array();
  for (const auto& [text, count] : items) out.push_back({{name, text}, {"count", count}});
  return out;
}

}  // namespace

std::string cardinality_text(const std::vector<MetricCardinality>& metrics) {
  std::string out;
  for (const MetricCardinality& m : metrics) {
    if (!out.empty()) out += "\n";
    out += printable(m.name) + "\n";
    out += fmt::format("  label sets {}{}, {} named on a host\n", m.lo < m.hi ? "about " : "",
                       count_text(m.estimated), count_text(m.named));
    if (m.lo < m.hi) {
      out += fmt::format("             (between {} and {})\n", count_text(m.lo), count_text(m.hi));
    }
    out += fmt::format("  overflow   {} events", count_text(m.overflow_events));
    if (m.overflow_share) out += fmt::format(", {:.2f} % of the metric", 100 * *m.overflow_share);
    out += "\n";
    out += list_lines("values", m.labels);
    out += list_lines("offenders", m.offenders);
  }
  return out;
}

std::string cardinality_csv(const std::vector<MetricCardinality>& metrics) {
  Table table({"metric", "estimated", "estimated_lo", "estimated_hi", "named", "overflow_events",
               "overflow_share"});
  for (const MetricCardinality& m : metrics) {
    table.add({m.name, fmt::format("{:.0f}", m.estimated), fmt::format("{:.0f}", m.lo),
               fmt::format("{:.0f}", m.hi), fmt::format("{:.0f}", m.named),
               fmt::format("{:.0f}", m.overflow_events),
               m.overflow_share ? fmt::format("{:.6f}", *m.overflow_share) : std::string()});
  }
  return table.csv();
}

json cardinality_json(const std::vector<MetricCardinality>& metrics) {
  json out = json::array();
  for (const MetricCardinality& m : metrics) {
    out.push_back({{"metric", m.name},
                   {"estimated", m.estimated},
                   {"estimated_lo", m.lo},
                   {"estimated_hi", m.hi},
                   {"named", m.named},
                   {"overflow_events", m.overflow_events},
                   {"overflow_share", m.overflow_share ? json(*m.overflow_share) : json()},
                   {"labels", counts_of(m.labels, "label")},
                   {"offenders", counts_of(m.offenders, "value")}});
  }
  return {{"metrics", std::move(out)}};
}

Result<CardinalityReport> read_cardinality(const HttpClient& client,
                                           const CardinalityOptions& options) {
  const std::string selector = options.metric.empty()
                                   ? R"({tier=""})"
                                   : R"({tier="",metric=)" + promql_string(options.metric) + "}";
  const std::string& range = options.since;
  std::map<std::string, MetricCardinality> by_name;
  CardinalityReport out;
  const auto at = [&](const Answer& answer) -> MetricCardinality& {
    MetricCardinality& metric = by_name[label_of(answer, "metric")];
    metric.name = label_of(answer, "metric");
    return metric;
  };
  WEIR_TRY_ASSIGN(const auto estimated,
                  ask(client, fmt::format("sum by (metric) (increase(weir_series_estimated{}[{}]))",
                                          selector, range)));
  for (const Answer& a : estimated) {
    MetricCardinality& metric = at(a);
    metric.estimated = a.value;
    metric.lo = a.lo;
    metric.hi = a.hi;
  }
  WEIR_TRY_ASSIGN(const auto named,
                  ask(client, fmt::format("max by (metric) (weir_series_admitted{})", selector)));
  for (const Answer& a : named) at(a).named = a.value;
  WEIR_TRY_ASSIGN(
      const auto overflow,
      ask(client, fmt::format("sum by (metric) (increase(weir_series_overflow_events_total{}[{}]))",
                              selector, range)));
  for (const Answer& a : overflow) at(a).overflow_events = a.value;

  out.incomplete = by_name.erase("") > 0;
  for (auto& [name, metric] : by_name) out.metrics.push_back(std::move(metric));
  std::ranges::stable_sort(out.metrics, [](const MetricCardinality& a, const MetricCardinality& b) {
    return std::pair(a.overflow_events, a.estimated) > std::pair(b.overflow_events, b.estimated);
  });
  if (out.metrics.size() > options.top) out.metrics.resize(options.top);
  for (MetricCardinality& metric : out.metrics) WEIR_TRY(add_details(client, range, metric));
  return out;
}

int run_cardinality(const Common& common, const CardinalityOptions& options) {
  if (const auto since = parse_duration(options.since); !since.ok()) {
    return usage(Error(since.error()).with("--since"));
  }
  const auto report = read_cardinality(HttpClient(common.server), options);
  if (!report.ok()) return fail(report.error());
  const std::vector<MetricCardinality>* const metrics = &report->metrics;
  switch (common.output) {
    case Output::kJson:
      print(cardinality_json(*metrics).dump() + "\n");
      break;
    case Output::kCsv:
      print(cardinality_csv(*metrics));
      break;
    case Output::kTable:
      print(cardinality_text(*metrics));
      break;
  }
  if (metrics->empty()) {
    std::fprintf(stderr, "no metric has enough label sets to report in the last %s\n",
                 options.since.c_str());
  }
  if (report->incomplete) {
    std::fputs("incomplete: this tier's limits hold for weir_series_* too; ask a region\n", stderr);
  }
  return kAnswered;
}

}  // namespace weir::cli
