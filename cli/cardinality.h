#pragma once
// What `weir cardinality` knows of a metric, and how it is printed. Pure but for
// read_cardinality(), which asks the server; any thread.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/http_client.h"
#include "common/result.h"

namespace weir::cli {

struct MetricCardinality {
  std::string name;
  double estimated = 0;  // distinct label sets seen, named or not; true value in [lo, hi]
  double lo = 0;
  double hi = 0;
  double named = 0;            // label sets with series of their own, on the host with most
  double overflow_events = 0;  // that went to the overflow series
  std::optional<double> overflow_share;                   // of all of the metric's events; 0 to 1
  std::vector<std::pair<std::string, double>> labels;     // values of each label seen, most first
  std::vector<std::pair<std::string, double>> offenders;  // "label=value" and its events
};

struct CardinalityReport {
  std::vector<MetricCardinality> metrics;
  bool incomplete = false;  // some reports are themselves in overflow, without their metric's name
};

// Metrics by what overflowed, then by label sets; at most options.top.
Result<CardinalityReport> read_cardinality(const HttpClient& client,
                                           const CardinalityOptions& options);

[[nodiscard]] std::string cardinality_text(const std::vector<MetricCardinality>& metrics);
[[nodiscard]] std::string cardinality_csv(const std::vector<MetricCardinality>& metrics);
[[nodiscard]] nlohmann::json cardinality_json(const std::vector<MetricCardinality>& metrics);

}  // namespace weir::cli
