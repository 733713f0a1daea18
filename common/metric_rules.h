#pragma once
// MetricRules: what the configuration says about single metrics: limits and the scale of their
// distributions. Plain values, any thread. Cost: of() looks at every rule; ask when a metric is
// new, not per event.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

struct MetricRule {
  std::string name;  // a metric, or with '*' at its end every metric that begins so
  std::optional<size_t> series{};
  std::optional<size_t> values_per_label{};
  std::optional<uint8_t> scale{};
  std::optional<bool> dry_run{};

  [[nodiscard]] bool is_prefix() const { return name.ends_with('*'); }

  [[nodiscard]] bool matches(std::string_view metric) const;
  friend bool operator==(const MetricRule&, const MetricRule&) = default;
};

using MetricRules = std::vector<MetricRule>;

// All that the rules say of `metric`, under its own name. Each field comes from the closest rule
// that sets it: the exact name, then the longest prefix, then the one written first.
[[nodiscard]] MetricRule rule_of(const MetricRules& rules, std::string_view metric);

}  // namespace weir
