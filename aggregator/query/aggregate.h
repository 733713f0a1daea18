#pragma once
// sum, avg, min, max, count, topk, bottomk over the samples of one moment.
//
// Pure. Promise: sums of counters and of distributions are integer sums, so their order never
// matters; a group that mixes numbers and distributions, or an operation distributions do not
// have, is said in `warnings`, never answered with a silent zero.

#include <set>
#include <string>

#include "aggregator/query/ast.h"
#include "aggregator/query/value.h"

namespace weir::aggregator {

Result<Vector> aggregate(const AggregateNode& node, double parameter, Vector vector,
                         LabelSets& sets, LabelMemo& memo, std::set<std::string>& warnings);

}  // namespace weir::aggregator
