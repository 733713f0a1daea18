#include "common/limits_config.h"

#include <algorithm>

#include <fmt/core.h>

#include "common/series.h"

namespace weir {

namespace {

constexpr size_t kMostLabels = 32;  // batches have room for twice that, for the labels of tiers
constexpr size_t kShortestText = 16;
constexpr size_t kMostSeries = 1'000'000;
constexpr size_t kMostRules = 1'000;

template <class T>
void read_optional(YamlSection& section, std::string_view key, std::optional<T>& out, T min,
                   T max) {
  T value = min;
  section.read(key, value, min, max);
  if (section.has(key)) out = value;
}

MetricRule read_rule(YamlSection& section) {
  MetricRule rule;
  section.require("name");
  section.read("name", rule.name);
  if (section.has("name") && (rule.name.empty() || rule.name.find('*') < rule.name.size() - 1)) {
    section.fail("name", "expected a metric's name, or the beginning of one and '*'");
  }
  read_optional<size_t>(section, "series", rule.series, 1, kMostSeries);
  read_optional<size_t>(section, "values_per_label", rule.values_per_label, 1, kMostSeries);
  read_optional<uint8_t>(section, "scale", rule.scale, 5, 7);
  bool dry_run = false;
  section.read("dry_run", dry_run);
  if (section.has("dry_run")) rule.dry_run = dry_run;
  return rule;
}

}  // namespace

void read_limits(YamlSection& section, Limits& limits) {
  section.read("labels", limits.labels.count, 1, kMostLabels);
  section.read("label_name", limits.labels.name, kShortestText, kMaxLabelText);
  section.read("label_value", limits.labels.value, kShortestText, kMaxLabelText);
  section.read("values_per_label", limits.values_per_label, 1, kMostSeries);
  section.read("series_per_metric", limits.series_per_metric, 1, kMostSeries);
  section.read("dry_run", limits.dry_run);
}

void read_disk_limits(YamlSection& section, DiskBudgetOptions& disk) {
  section.read_size("disk_reserve", disk.reserve_bytes, 0, uint64_t{1} << 50);
  section.read_size("disk_step", disk.step_bytes, uint64_t{1} << 20, uint64_t{1} << 30);
}

void read_metric_rules(YamlSection& root, MetricRules& rules) {
  auto sections = root.sections("metrics");
  if (sections.size() > kMostRules) {
    root.fail("metrics", fmt::format("more than {} rules", kMostRules));
    sections.erase(sections.begin() + kMostRules, sections.end());
  }
  for (YamlSection& section : sections) {
    MetricRule rule = read_rule(section);
    if (std::ranges::find(rules, rule.name, &MetricRule::name) != rules.end()) {
      section.fail("name", fmt::format("'{}' has a rule already", rule.name));
    }
    rules.push_back(std::move(rule));
  }
}

}  // namespace weir
