#include "common/metric_rules.h"

#include <algorithm>

namespace weir {

bool MetricRule::matches(std::string_view metric) const {
  if (!is_prefix()) return metric == name;
  return metric.starts_with(std::string_view(name).substr(0, name.size() - 1));
}

MetricRule rule_of(const MetricRules& rules, std::string_view metric) {
  std::vector<const MetricRule*> matching;
  for (const MetricRule& rule : rules) {
    if (rule.matches(metric)) matching.push_back(&rule);
  }
  std::stable_sort(matching.begin(), matching.end(), [](const auto* a, const auto* b) {
    if (a->is_prefix() != b->is_prefix()) return b->is_prefix();
    return a->name.size() > b->name.size();
  });
  MetricRule out;
  out.name = metric;
  const auto take = [](auto& field, const auto& of_rule) {
    if (!field) field = of_rule;
  };
  for (const MetricRule* rule : matching) {
    take(out.series, rule->series);
    take(out.values_per_label, rule->values_per_label);
    take(out.scale, rule->scale);
    take(out.dry_run, rule->dry_run);
  }
  return out;
}

}  // namespace weir
