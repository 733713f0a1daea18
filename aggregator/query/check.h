#pragma once
// The rules of types: which operands an operator, a function and an aggregation take, and the type
// of what they answer. Pure; the messages are Prometheus' own, without a position.

#include "aggregator/query/ast.h"
#include "common/result.h"

namespace weir::aggregator {

Result<ExprType> check_call(const CallNode& call);
Result<ExprType> check_aggregate(const AggregateNode& aggregate);
Result<ExprType> check_negate(ExprType argument);
Result<ExprType> check_binary(const BinaryNode& binary);
// Names a metric, and not every series by matching only the empty string.
Status check_selector(const SelectorNode& selector);

}  // namespace weir::aggregator
