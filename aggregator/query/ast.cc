#include "aggregator/query/ast.h"

#include <algorithm>
#include <array>

namespace weir::aggregator {

std::string_view expr_type_text(ExprType type) {
  switch (type) {
    case ExprType::kScalar:
      return "scalar";
    case ExprType::kString:
      return "string";
    case ExprType::kVector:
      return "instant vector";
    case ExprType::kRange:
      return "range vector";
  }
  return "?";
}

const Function* find_function(std::string_view name) {
  using enum ExprType;
  static const std::array<Function, 7> kFunctions{{
      {FunctionId::kRate, "rate", {kRange}},
      {FunctionId::kIncrease, "increase", {kRange}},
      {FunctionId::kHistogramQuantile, "histogram_quantile", {kScalar, kVector}},
      {FunctionId::kHistogramCount, "histogram_count", {kVector}},
      {FunctionId::kHistogramSum, "histogram_sum", {kVector}},
      {FunctionId::kHistogramAvg, "histogram_avg", {kVector}},
      {FunctionId::kHeavyHitters, "heavy_hitters", {kScalar, kVector}},
  }};
  const auto* const found = std::ranges::find(kFunctions, name, &Function::name);
  return found == kFunctions.end() ? nullptr : found;
}

bool known_elsewhere(std::string_view name) {
  static constexpr std::array kNames = std::to_array<std::string_view>({"abs",
                                                                        "absent",
                                                                        "absent_over_time",
                                                                        "acos",
                                                                        "acosh",
                                                                        "asin",
                                                                        "asinh",
                                                                        "atan",
                                                                        "atanh",
                                                                        "avg_over_time",
                                                                        "ceil",
                                                                        "changes",
                                                                        "clamp",
                                                                        "clamp_max",
                                                                        "clamp_min",
                                                                        "cos",
                                                                        "cosh",
                                                                        "count_over_time",
                                                                        "count_values",
                                                                        "day_of_month",
                                                                        "day_of_week",
                                                                        "day_of_year",
                                                                        "days_in_month",
                                                                        "deg",
                                                                        "delta",
                                                                        "deriv",
                                                                        "exp",
                                                                        "floor",
                                                                        "group",
                                                                        "histogram_fraction",
                                                                        "histogram_stddev",
                                                                        "histogram_stdvar",
                                                                        "holt_winters",
                                                                        "hour",
                                                                        "idelta",
                                                                        "irate",
                                                                        "label_join",
                                                                        "label_replace",
                                                                        "last_over_time",
                                                                        "limitk",
                                                                        "ln",
                                                                        "log10",
                                                                        "log2",
                                                                        "mad_over_time",
                                                                        "max_over_time",
                                                                        "min_over_time",
                                                                        "minute",
                                                                        "month",
                                                                        "pi",
                                                                        "predict_linear",
                                                                        "present_over_time",
                                                                        "quantile",
                                                                        "quantile_over_time",
                                                                        "rad",
                                                                        "resets",
                                                                        "round",
                                                                        "scalar",
                                                                        "sgn",
                                                                        "sin",
                                                                        "sinh",
                                                                        "sort",
                                                                        "sort_by_label",
                                                                        "sort_by_label_desc",
                                                                        "sort_desc",
                                                                        "sqrt",
                                                                        "stddev",
                                                                        "stddev_over_time",
                                                                        "stdvar",
                                                                        "stdvar_over_time",
                                                                        "sum_over_time",
                                                                        "tan",
                                                                        "tanh",
                                                                        "time",
                                                                        "timestamp",
                                                                        "vector",
                                                                        "year"});
  static_assert(std::ranges::is_sorted(kNames));
  return std::ranges::binary_search(kNames, name);
}

std::string_view aggregate_text(AggregateOp op) {
  switch (op) {
    case AggregateOp::kSum:
      return "sum";
    case AggregateOp::kAvg:
      return "avg";
    case AggregateOp::kMin:
      return "min";
    case AggregateOp::kMax:
      return "max";
    case AggregateOp::kCount:
      return "count";
    case AggregateOp::kTopk:
      return "topk";
    case AggregateOp::kBottomk:
      return "bottomk";
  }
  return "?";
}

std::string_view binary_text(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSub:
      return "-";
    case BinaryOp::kMul:
      return "*";
    case BinaryOp::kDiv:
      return "/";
    case BinaryOp::kMod:
      return "%";
    case BinaryOp::kPow:
      return "^";
    case BinaryOp::kEq:
      return "==";
    case BinaryOp::kNe:
      return "!=";
    case BinaryOp::kLt:
      return "<";
    case BinaryOp::kLe:
      return "<=";
    case BinaryOp::kGt:
      return ">";
    case BinaryOp::kGe:
      return ">=";
  }
  return "?";
}

bool is_comparison(BinaryOp op) { return op >= BinaryOp::kEq; }

}  // namespace weir::aggregator
