#pragma once
// The tree of a PromQL expression, as the parser leaves it: typed, checked, no names unresolved.
//
// Thread: immutable after parse(); share freely. Cost: a node per operator, depth at most 64.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "aggregator/query/data_source.h"

namespace weir::aggregator {

inline constexpr std::string_view kNameLabel = "__name__";

enum class ExprType : uint8_t { kScalar, kString, kVector, kRange };
[[nodiscard]] std::string_view expr_type_text(ExprType type);  // "instant vector", ...

enum class FunctionId : uint8_t {
  kRate,
  kIncrease,
  kHistogramQuantile,
  kHistogramCount,
  kHistogramSum,
  kHistogramAvg,
  kHeavyHitters,
};

struct Function {
  FunctionId id;
  std::string_view name;
  std::vector<ExprType> arguments;
};

// Null: no such function here. known_elsewhere() is true for what Prometheus has and Weir has not.
[[nodiscard]] const Function* find_function(std::string_view name);
[[nodiscard]] bool known_elsewhere(std::string_view name);

enum class AggregateOp : uint8_t { kSum, kAvg, kMin, kMax, kCount, kTopk, kBottomk };
[[nodiscard]] std::string_view aggregate_text(AggregateOp op);

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kMod, kPow, kEq, kNe, kLt, kLe, kGt, kGe };
[[nodiscard]] std::string_view binary_text(BinaryOp op);
[[nodiscard]] bool is_comparison(BinaryOp op);

// What a comparison answers: the left value where it holds, or 1 and 0 (`bool`).
enum class CompareMode : uint8_t { kFilter, kBool };

// by (labels), without (labels), on (labels), ignoring (labels).
enum class LabelSelection : uint8_t { kNone, kOnly, kAllBut };

struct Expr;
using ExprPtr = std::unique_ptr<const Expr>;

struct NumberNode {
  double value = 0;
};

struct StringNode {
  std::string value;
};

struct SelectorNode {
  std::string metric;             // empty: only matchers
  std::vector<Matcher> matchers;  // without __name__ equality when metric is set
  int64_t range_ms = 0;           // 0: an instant selector
  int64_t offset_ms = 0;
};

struct CallNode {
  const Function* function = nullptr;
  std::vector<ExprPtr> arguments;
};

struct AggregateNode {
  AggregateOp op = AggregateOp::kSum;
  LabelSelection grouping = LabelSelection::kNone;
  std::vector<std::string> labels;
  ExprPtr parameter;  // topk, bottomk
  ExprPtr argument;
};

struct NegateNode {
  ExprPtr argument;
};

struct BinaryNode {
  BinaryOp op = BinaryOp::kAdd;
  CompareMode compare = CompareMode::kFilter;
  LabelSelection matching = LabelSelection::kNone;
  std::vector<std::string> labels;
  ExprPtr left;
  ExprPtr right;
};

struct Expr {
  ExprType type = ExprType::kScalar;
  size_t offset = 0;  // byte of the query where it begins
  size_t depth = 1;
  std::variant<NumberNode, StringNode, SelectorNode, CallNode, AggregateNode, NegateNode,
               BinaryNode>
      node;
};

}  // namespace weir::aggregator
