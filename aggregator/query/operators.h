#pragma once
// Arithmetic and comparisons between numbers and vectors, one to one.
//
// Pure. Promise: Prometheus' rules for names, matching and filters; distributions take part only in
// "+" between equals and in nothing else, said by an error, never by a silent zero.

#include <cstdint>

#include "aggregator/query/ast.h"
#include "aggregator/query/value.h"

namespace weir::aggregator {

// Label rules of one binary node, remembered over the steps of a query.
struct BinaryMemo {
  LabelMemo left_key;
  LabelMemo right_key;
  LabelMemo result;
};

[[nodiscard]] double compute(BinaryOp op, double left, double right);
[[nodiscard]] bool compare(BinaryOp op, double left, double right);

enum class NumberSide : uint8_t { kLeft, kRight };

Result<Vector> vector_with_number(const BinaryNode& node, Vector vector, double number,
                                  NumberSide side, LabelSets& sets, BinaryMemo& memo);
Result<Vector> vector_with_vector(const BinaryNode& node, const Vector& left, const Vector& right,
                                  LabelSets& sets, BinaryMemo& memo);
Result<Vector> negated(Vector vector, LabelSets& sets, LabelMemo& memo);

// "{a="1", b="2"}" for messages.
[[nodiscard]] std::string labels_text(const Labels& labels);

}  // namespace weir::aggregator
