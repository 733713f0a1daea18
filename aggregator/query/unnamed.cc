#include "aggregator/query/unnamed.h"

#include <algorithm>

#include "common/limiter.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kNameLabel = "__name__";

// Edges keep overflow of different scales apart by a label of theirs, which says nothing of the
// label of that name that a series may have.
bool is_edges_own(std::string_view label, bool overflow) { return overflow && label == "scale"; }

}  // namespace

bool is_unnamed(const Labels& labels) {
  return std::ranges::any_of(labels, [](const Label& label) {
    return label.second == kOther || label.first == kOverflowLabel;
  });
}

bool may_match(const std::vector<LabelMatcher>& matchers, std::string_view metric,
               const Labels& unnamed) {
  const bool overflow = !label_value(unnamed, kOverflowLabel).empty();
  return std::ranges::all_of(matchers, [&](const LabelMatcher& m) {
    const std::string& label = m.matcher().label;
    if (label == kNameLabel) return m.matches(metric);
    const std::string_view value = label_value(unnamed, label);
    if (value == kOther || (value.empty() && overflow) || is_edges_own(label, overflow))
      return true;
    return m.matches(value);
  });
}

bool may_belong(const Labels& unnamed, const Labels& named) {
  const bool overflow = !label_value(unnamed, kOverflowLabel).empty();
  return std::ranges::all_of(unnamed, [&](const Label& label) {
    if (label.first == kOverflowLabel || label.second == kOther) return true;
    if (is_edges_own(label.first, overflow)) return true;
    const std::string_view value = label_value(named, label.first);
    return value.empty() || value == label.second;
  });
}

Int128 outside(const Unnamed& unnamed) {
  Int128 sum = 0;
  for (const UnnamedPart& part : unnamed.parts) sum += part.included ? 0 : part.quanta;
  return sum;
}

std::optional<double> upper_of(const Sample& sample) {
  if (sample.unnamed.upper) return sample.unnamed.upper;
  const auto* exact = std::get_if<Exact>(&sample.number);
  const Int128 more = outside(sample.unnamed);
  if (exact == nullptr || more <= 0) return std::nullopt;
  Exact upper = *exact;
  upper.quanta += more;
  return upper.value();
}

double share_of(const Unnamed& unnamed, uint64_t count) {
  const auto more = static_cast<double>(outside(unnamed));
  return more > 0 ? more / (more + static_cast<double>(count)) : unnamed.share;
}

}  // namespace weir::aggregator
