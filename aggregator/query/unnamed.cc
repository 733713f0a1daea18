#include "aggregator/query/unnamed.h"

#include <algorithm>

#include "common/limiter.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kOtherValue = "__other__";
constexpr std::string_view kNameLabel = "__name__";

}  // namespace

bool is_unnamed(const Labels& labels) {
  return std::ranges::any_of(labels, [](const Label& label) {
    return label.second == kOtherValue || label.first == kOverflowLabel;
  });
}

bool may_match(const std::vector<LabelMatcher>& matchers, std::string_view metric,
               const Labels& unnamed) {
  const bool overflow = !label_value(unnamed, kOverflowLabel).empty();
  return std::ranges::all_of(matchers, [&](const LabelMatcher& m) {
    const std::string& label = m.matcher().label;
    if (label == kNameLabel) return m.matches(metric);
    const std::string_view value = label_value(unnamed, label);
    if (value == kOtherValue || (value.empty() && overflow)) return true;
    return m.matches(value);
  });
}

bool may_belong(const Labels& unnamed, const Labels& named) {
  return std::ranges::all_of(unnamed, [&](const Label& label) {
    if (label.first == kOverflowLabel || label.second == kOtherValue) return true;
    const std::string_view value = label_value(named, label.first);
    return value.empty() || value == label.second;
  });
}

}  // namespace weir::aggregator
