#include "aggregator/query/check.h"

#include <algorithm>

#include <fmt/format.h>

#include "aggregator/query/matcher.h"

namespace weir::aggregator {
namespace {

bool is_arithmetic_operand(ExprType type) {
  return type == ExprType::kScalar || type == ExprType::kVector;
}

}  // namespace

Result<ExprType> check_call(const CallNode& call) {
  const Function& function = *call.function;
  if (call.arguments.size() != function.arguments.size()) {
    return invalid(fmt::format("expected {} argument(s) in call to \"{}\", got {}",
                               function.arguments.size(), function.name, call.arguments.size()));
  }
  for (size_t i = 0; i < call.arguments.size(); ++i) {
    const auto got = call.arguments[i]->type;
    const bool summed =
        function.id == FunctionId::kHeavyHitters && got == ExprType::kRange && i > 0;
    if (got != function.arguments[i] && !summed) {
      return invalid(fmt::format("expected type {} in call to function \"{}\", got {}",
                                 expr_type_text(function.arguments[i]), function.name,
                                 expr_type_text(got)));
    }
  }
  return ExprType::kVector;
}

Result<ExprType> check_aggregate(const AggregateNode& aggregate) {
  if (aggregate.parameter && aggregate.parameter->type != ExprType::kScalar) {
    return invalid(fmt::format("expected type scalar in aggregation parameter, got {}",
                               expr_type_text(aggregate.parameter->type)));
  }
  if (aggregate.argument->type != ExprType::kVector) {
    return invalid(fmt::format("expected type instant vector in aggregation expression, got {}",
                               expr_type_text(aggregate.argument->type)));
  }
  return ExprType::kVector;
}

Result<ExprType> check_negate(ExprType argument) {
  if (is_arithmetic_operand(argument)) return argument;
  return invalid(fmt::format(
      "unary expression only allowed on expressions of type scalar or instant vector, got \"{}\"",
      expr_type_text(argument)));
}

Result<ExprType> check_binary(const BinaryNode& binary) {
  const auto left = binary.left->type;
  const auto right = binary.right->type;
  if (!is_arithmetic_operand(left) || !is_arithmetic_operand(right)) {
    return invalid("binary expression must contain only scalar and instant vector types");
  }
  const bool scalars = left == ExprType::kScalar && right == ExprType::kScalar;
  if (binary.compare == CompareMode::kBool && !is_comparison(binary.op)) {
    return invalid("bool modifier can only be used on comparison operators");
  }
  if (scalars && is_comparison(binary.op) && binary.compare != CompareMode::kBool) {
    return invalid("comparisons between scalars must use BOOL modifier");
  }
  if (binary.matching != LabelSelection::kNone &&
      (left == ExprType::kScalar || right == ExprType::kScalar)) {
    return invalid("vector matching only allowed between instant vectors");
  }
  return scalars ? ExprType::kScalar : ExprType::kVector;
}

Status check_selector(const SelectorNode& selector) {
  WEIR_TRY_ASSIGN(const auto compiled, compile_matchers(selector.matchers));
  const bool narrows =
      !selector.metric.empty() ||
      std::ranges::any_of(compiled, [](const LabelMatcher& m) { return !m.matches(""); });
  if (!narrows) return invalid("vector selector must contain at least one non-empty matcher");
  return {};
}

}  // namespace weir::aggregator
