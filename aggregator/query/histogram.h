#pragma once
// histogram_quantile, histogram_count, histogram_sum, histogram_avg over distributions.
//
// Pure. Promise: a quantile carries the interval its true value lies in; its value is the rule of
// Distribution::quantile, the same on every tier.

#include "aggregator/query/ast.h"
#include "aggregator/query/evaluator.h"
#include "aggregator/query/value.h"

namespace weir::aggregator {

// `phi` is used by histogram_quantile alone.
[[nodiscard]] Vector histogram_function(const Function& function, double phi, const Vector& vector,
                                        LabelSets& sets, LabelMemo& memo, QueryNotes& notes);

}  // namespace weir::aggregator
