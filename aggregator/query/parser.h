#pragma once
// PromQL text to a checked tree: a Pratt parser over Lexer.
//
// Pure. Promise: any bytes give a tree or one Error that begins with line:column; never a crash.
// kInvalid: not PromQL, or a part Weir has not yet (it is named). kLimit: longer than 16 KiB or
// nested deeper than 64. Cost: linear in the text.

#include <string_view>
#include <vector>

#include "aggregator/query/ast.h"
#include "common/result.h"

namespace weir::aggregator {

inline constexpr size_t kMaxExpressionBytes = size_t{16} << 10;
inline constexpr size_t kMaxExpressionDepth = 64;

Result<ExprPtr> parse_query(std::string_view text);
// One instant selector without offset, for match[] parameters.
Result<SelectorNode> parse_selector(std::string_view text);

}  // namespace weir::aggregator
