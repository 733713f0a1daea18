#pragma once
// Unnamed rows: what limits have folded together, and whose events they may be.
//
// A label set beyond a limit lands in its metric's overflow series, a value beyond one becomes
// "__other__". The same label set may be named on one host and not on another, so a named row's
// true value lies between what it holds and that plus every unnamed row that may be its own. Pure.

#include <optional>
#include <string_view>
#include <vector>

#include "aggregator/query/matcher.h"
#include "aggregator/query/value.h"
#include "common/metric.h"

namespace weir::aggregator {

[[nodiscard]] bool is_unnamed(const Labels& labels);

// Whether some of an unnamed row's events may be what the matchers ask for.
[[nodiscard]] bool may_match(const std::vector<LabelMatcher>& matchers, std::string_view metric,
                             const Labels& unnamed);

// Whether some of an unnamed row's events may be those of a named series: no label that both have
// says otherwise.
[[nodiscard]] bool may_belong(const Labels& unnamed, const Labels& named);

// Quanta of the parts that a value does not hold.
[[nodiscard]] Int128 outside(const Unnamed& unnamed);

// The most a sample's value can be, when it may be more: value + all of its unnamed events. None
// for distributions.
[[nodiscard]] std::optional<double> upper_of(const Sample& sample);

// Of a distribution's events and those unnamed, the share of the latter.
[[nodiscard]] double share_of(const Unnamed& unnamed, uint64_t count);

}  // namespace weir::aggregator
