#include "aggregator/query/parser.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "aggregator/query/check.h"
#include "aggregator/query/lexer.h"

namespace weir::aggregator {
namespace {

using Node = std::unique_ptr<Expr>;

// Binding powers, weakest first; unary minus sits between kProduct and kPower.
enum Power : int { kWeakest = 0, kCompare = 3, kSum = 4, kProduct = 5, kPower = 6 };

struct Operator {
  BinaryOp op;
  int power;
};

std::optional<Operator> operator_of(TokenKind kind) {
  struct Entry {
    TokenKind kind;
    Operator op;
  };

  static constexpr std::array kOperators = std::to_array<Entry>({
      {TokenKind::kEqual, {BinaryOp::kEq, kCompare}},
      {TokenKind::kNotEqual, {BinaryOp::kNe, kCompare}},
      {TokenKind::kLess, {BinaryOp::kLt, kCompare}},
      {TokenKind::kLessEqual, {BinaryOp::kLe, kCompare}},
      {TokenKind::kGreater, {BinaryOp::kGt, kCompare}},
      {TokenKind::kGreaterEqual, {BinaryOp::kGe, kCompare}},
      {TokenKind::kAdd, {BinaryOp::kAdd, kSum}},
      {TokenKind::kSub, {BinaryOp::kSub, kSum}},
      {TokenKind::kMul, {BinaryOp::kMul, kProduct}},
      {TokenKind::kDiv, {BinaryOp::kDiv, kProduct}},
      {TokenKind::kMod, {BinaryOp::kMod, kProduct}},
      {TokenKind::kPow, {BinaryOp::kPow, kPower}},
  });
  const auto* const found = std::ranges::find(kOperators, kind, &Entry::kind);
  if (found == kOperators.end()) return std::nullopt;
  return found->op;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return out;
}

std::optional<AggregateOp> aggregate_of(std::string_view name) {
  for (const auto op : {AggregateOp::kSum, AggregateOp::kAvg, AggregateOp::kMin, AggregateOp::kMax,
                        AggregateOp::kCount, AggregateOp::kTopk, AggregateOp::kBottomk}) {
    if (aggregate_text(op) == name) return op;
  }
  return std::nullopt;
}

bool takes_parameter(AggregateOp op) {
  return op == AggregateOp::kTopk || op == AggregateOp::kBottomk;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text), lexer_(text), token_(lexer_.next()) {}

  Result<Node> whole() {
    if (token_.kind == TokenKind::kEnd) return fail(token_, "no expression found in input");
    WEIR_TRY_ASSIGN(auto root, expression(kWeakest));
    if (token_.kind == TokenKind::kRightParen) {
      return fail(token_, "unexpected right parenthesis ')'");
    }
    if (token_.kind != TokenKind::kEnd) return unexpected();
    return root;
  }

 private:
  // --- tokens
  Token advance() { return std::exchange(token_, lexer_.next()); }

  bool accept(TokenKind kind) {
    if (token_.kind != kind) return false;
    advance();
    return true;
  }

  [[nodiscard]] bool at_word(std::string_view word) const {
    return token_.kind == TokenKind::kIdentifier && lower(token_.text) == word;
  }

  [[nodiscard]] Error fail(const Token& where, std::string_view why) const {
    return parse_error(text_, where.offset, why);
  }

  [[nodiscard]] Error not_yet(const Token& where, std::string_view what) const {
    return fail(where, fmt::format("not supported yet by Weir: {}", what));
  }

  [[nodiscard]] Error unexpected(std::string_view place = "") const {
    if (token_.kind == TokenKind::kError) return fail(token_, token_.text);
    if (token_.kind == TokenKind::kEnd) {
      if (in_braces_) return fail(token_, "unexpected end of input inside braces");
      if (parens_ > 0) return fail(token_, "unclosed left parenthesis");
      return fail(token_, "unexpected end of input");
    }
    const auto what = token_.kind == TokenKind::kIdentifier ? "identifier "
                      : token_.kind == TokenKind::kString   ? "string "
                      : token_.kind == TokenKind::kNumber   ? "number "
                      : token_.kind == TokenKind::kDuration ? "duration "
                                                            : "";
    return fail(token_, fmt::format("unexpected {}\"{}\"{}", what, token_.text, place));
  }

  [[nodiscard]] Error too_deep(size_t offset) const {
    const auto why = fmt::format("expression is nested deeper than {}", kMaxExpressionDepth);
    return {Errc::kLimit, parse_error(text_, offset, why).message};
  }

  // --- nodes
  template <class T>
  Result<Node> make(size_t offset, Result<ExprType> type, size_t depth, T node) const {
    if (!type) return parse_error(text_, offset, type.error().message);
    if (depth > kMaxExpressionDepth) return too_deep(offset);
    auto expr = std::make_unique<Expr>();
    expr->type = *type;
    expr->offset = offset;
    expr->depth = depth;
    expr->node = std::move(node);
    return expr;
  }

  // --- grammar
  Result<Node> expression(int weakest) {
    if (++nesting_ > kMaxExpressionDepth) return too_deep(token_.offset);
    WEIR_TRY_ASSIGN(auto left, operand());
    while (true) {
      if (at_word("and") || at_word("or") || at_word("unless") || at_word("atan2")) {
        return not_yet(token_, lower(token_.text));
      }
      const auto op = operator_of(token_.kind);
      if (!op || op->power <= weakest) break;
      const size_t offset = advance().offset;
      BinaryNode binary{.op = op->op, .labels = {}, .left = nullptr, .right = nullptr};
      WEIR_TRY(modifiers(binary));
      // '^' binds to the right: its right side may hold another one.
      const int right_power = op->op == BinaryOp::kPow ? op->power - 1 : op->power;
      WEIR_TRY_ASSIGN(auto right, expression(right_power));
      const size_t depth = 1 + std::max(left->depth, right->depth);
      binary.left = std::move(left);
      binary.right = std::move(right);
      const auto type = check_binary(binary);
      WEIR_TRY_ASSIGN(left, make(offset, type, depth, std::move(binary)));
    }
    --nesting_;
    return left;
  }

  Status modifiers(BinaryNode& binary) {
    if (at_word("bool")) {
      advance();
      binary.compare = CompareMode::kBool;
    }
    const bool on = at_word("on");
    if (on || at_word("ignoring")) {
      advance();
      binary.matching = on ? LabelSelection::kOnly : LabelSelection::kAllBut;
      WEIR_TRY_ASSIGN(binary.labels, label_list());
    }
    if (at_word("group_left") || at_word("group_right")) return not_yet(token_, lower(token_.text));
    return {};
  }

  Result<Node> operand() {
    WEIR_TRY_ASSIGN(auto node, primary());
    while (true) {
      if (token_.kind == TokenKind::kLeftBracket) {
        WEIR_TRY(range(*node));
      } else if (at_word("offset")) {
        WEIR_TRY(offset(*node));
      } else if (token_.kind == TokenKind::kAt) {
        return not_yet(token_, "the @ modifier");
      } else {
        return node;
      }
    }
  }

  Result<Node> primary() {
    const size_t offset = token_.offset;
    if (token_.kind == TokenKind::kNumber) return number();
    if (token_.kind == TokenKind::kString) {
      return make(offset, ExprType::kString, 1, StringNode{advance().text});
    }
    if (accept(TokenKind::kLeftParen)) {
      ++parens_;
      WEIR_TRY_ASSIGN(auto inner, expression(kWeakest));
      if (!accept(TokenKind::kRightParen)) return unexpected();
      --parens_;
      return inner;
    }
    if (token_.kind == TokenKind::kAdd || token_.kind == TokenKind::kSub) {
      const auto sign = advance().kind;
      WEIR_TRY_ASSIGN(auto argument, expression(kPower - 1));
      const auto type = check_negate(argument->type);
      if (sign == TokenKind::kAdd && type) return argument;  // a plus changes nothing
      const size_t depth = argument->depth + 1;
      return make(offset, type, depth, NegateNode{std::move(argument)});
    }
    if (token_.kind == TokenKind::kLeftBrace) return selector("");
    if (token_.kind != TokenKind::kIdentifier) return unexpected();
    return named();
  }

  Result<Node> named() {
    const Token name = advance();
    const auto word = lower(name.text);
    if (word == "inf" || word == "nan") {
      const double value = word == "inf" ? std::numeric_limits<double>::infinity()
                                         : std::numeric_limits<double>::quiet_NaN();
      return make(name.offset, ExprType::kScalar, 1, NumberNode{value});
    }
    const bool called = token_.kind == TokenKind::kLeftParen;
    const bool grouped = called || at_word("by") || at_word("without");
    if (const auto op = aggregate_of(word); op && grouped) return aggregate(name.offset, *op);
    if (!called && !(grouped && known_elsewhere(word))) return selector(name.text, name.offset);
    if (const auto* function = find_function(name.text)) return call(name.offset, *function);
    if (known_elsewhere(word)) return not_yet(name, word);
    return fail(name, fmt::format("unknown function with name \"{}\"", name.text));
  }

  Result<Node> number() {
    const Token token = advance();
    double value = 0;
    if (token.text.starts_with("0x") || token.text.starts_with("0X")) {
      uint64_t hex = 0;
      const auto* const begin = token.text.data() + 2;
      const auto [end, fault] =
          std::from_chars(begin, token.text.data() + token.text.size(), hex, 16);
      if (fault != std::errc{}) return fail(token, "number is too large: " + token.text);
      value = static_cast<double>(hex);
    } else {
      const auto [end, fault] =
          std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
      if (fault != std::errc{}) return fail(token, "number is too large: " + token.text);
    }
    return make(token.offset, ExprType::kScalar, 1, NumberNode{value});
  }

  // A label's name, quoted if it is more than letters, digits and '_': "otel.metric.overflow".
  [[nodiscard]] bool at_label() const {
    return token_.kind == TokenKind::kIdentifier ||
           (token_.kind == TokenKind::kString && !token_.text.empty());
  }

  // name, name, ... in parentheses; a comma may trail.
  Result<std::vector<std::string>> label_list() {
    if (!accept(TokenKind::kLeftParen)) return unexpected(" where a list of labels begins");
    ++parens_;
    std::vector<std::string> labels;
    while (at_label()) {
      labels.push_back(advance().text);
      if (!accept(TokenKind::kComma)) break;
    }
    if (!accept(TokenKind::kRightParen)) return unexpected(" in a list of labels");
    --parens_;
    return labels;
  }

  Result<std::vector<ExprPtr>> arguments() {
    std::vector<ExprPtr> list;
    if (!accept(TokenKind::kLeftParen)) return unexpected();
    ++parens_;
    while (token_.kind != TokenKind::kRightParen) {
      WEIR_TRY_ASSIGN(auto argument, expression(kWeakest));
      list.push_back(std::move(argument));
      if (!accept(TokenKind::kComma)) break;
    }
    if (!accept(TokenKind::kRightParen)) return unexpected();
    --parens_;
    return list;
  }

  Result<Node> call(size_t offset, const Function& function) {
    CallNode call{.function = &function, .arguments = {}};
    WEIR_TRY_ASSIGN(call.arguments, arguments());
    size_t depth = 0;
    for (const auto& argument : call.arguments) depth = std::max(depth, argument->depth);
    const auto type = check_call(call);
    return make(offset, type, depth + 1, std::move(call));
  }

  Status grouping(AggregateNode& node) {
    const bool by = at_word("by");
    if (!by && !at_word("without")) return {};
    if (node.grouping != LabelSelection::kNone) return unexpected();
    advance();
    node.grouping = by ? LabelSelection::kOnly : LabelSelection::kAllBut;
    WEIR_TRY_ASSIGN(node.labels, label_list());
    return {};
  }

  Result<Node> aggregate(size_t offset, AggregateOp op) {
    AggregateNode node{.op = op, .labels = {}, .parameter = nullptr, .argument = nullptr};
    WEIR_TRY(grouping(node));
    WEIR_TRY_ASSIGN(auto list, arguments());
    WEIR_TRY(grouping(node));
    const size_t wanted = takes_parameter(op) ? 2 : 1;
    if (list.size() != wanted) {
      return parse_error(
          text_, offset,
          fmt::format("wrong number of arguments for aggregate expression provided, expected {}, "
                      "got {}",
                      wanted, list.size()));
    }
    size_t depth = 0;
    for (const auto& argument : list) depth = std::max(depth, argument->depth);
    node.argument = std::move(list.back());
    if (wanted == 2) node.parameter = std::move(list.front());
    const auto type = check_aggregate(node);
    return make(offset, type, depth + 1, std::move(node));
  }

  Result<Node> selector(std::string metric, std::optional<size_t> named_at = std::nullopt) {
    const size_t offset = named_at.value_or(token_.offset);
    SelectorNode node{.metric = std::move(metric), .matchers = {}};
    if (accept(TokenKind::kLeftBrace)) {
      in_braces_ = true;
      while (token_.kind != TokenKind::kRightBrace) {
        WEIR_TRY(matcher(node));
        if (!accept(TokenKind::kComma)) break;
      }
      if (!accept(TokenKind::kRightBrace)) return unexpected(" in label matching");
      in_braces_ = false;
    }
    if (const auto good = check_selector(node); !good) {
      return parse_error(text_, offset, good.error().message);
    }
    return make(offset, ExprType::kVector, 1, std::move(node));
  }

  Status matcher(SelectorNode& node) {
    if (!at_label()) return unexpected(" in label matching");
    const Token label = advance();
    MatchOp op = MatchOp::kEqual;
    if (token_.kind == TokenKind::kNotEqual) {
      op = MatchOp::kNotEqual;
    } else if (token_.kind == TokenKind::kRegex) {
      op = MatchOp::kRegex;
    } else if (token_.kind == TokenKind::kNotRegex) {
      op = MatchOp::kNotRegex;
    } else if (token_.kind != TokenKind::kAssign) {
      return unexpected(" in label matching");
    }
    advance();
    if (token_.kind != TokenKind::kString) return unexpected(" in label matching");
    Token value = advance();
    if (label.text == kNameLabel && op == MatchOp::kEqual) {
      if (!node.metric.empty()) {
        return fail(label, fmt::format("metric name must not be set twice: \"{}\" or \"{}\"",
                                       node.metric, value.text));
      }
      node.metric = std::move(value.text);
      return {};
    }
    node.matchers.push_back({label.text, op, std::move(value.text)});
    return {};
  }

  Result<int64_t> duration() {
    if (token_.kind != TokenKind::kDuration) {
      if (token_.kind == TokenKind::kNumber) {
        return fail(token_, fmt::format("missing unit character in duration \"{}\"", token_.text));
      }
      return unexpected(" where a duration is expected");
    }
    const Token token = advance();
    const auto ms = parse_duration_ms(token.text);
    if (!ms) return fail(token, ms.error().message);
    return ms;
  }

  Status range(Expr& expr) {
    const Token bracket = advance();
    auto* node = std::get_if<SelectorNode>(&expr.node);
    const bool plain = node != nullptr && node->range_ms == 0;
    if (token_.kind == TokenKind::kEnd) return fail(token_, "unclosed left bracket");
    const Token first = token_;
    WEIR_TRY_ASSIGN(const auto ms, duration());
    if (token_.kind == TokenKind::kColon) return not_yet(token_, "subqueries");
    if (token_.kind == TokenKind::kEnd) return fail(token_, "unclosed left bracket");
    if (!accept(TokenKind::kRightBracket)) return unexpected(" in a range");
    if (!plain) return fail(bracket, "ranges only allowed for vector selectors");
    if (node->offset_ms != 0) return fail(bracket, "no offset modifiers allowed before range");
    if (ms <= 0) return fail(first, "duration must be greater than 0");
    node->range_ms = ms;
    expr.type = ExprType::kRange;
    return {};
  }

  Status offset(Expr& expr) {
    const Token word = advance();
    const bool negative = accept(TokenKind::kSub);
    WEIR_TRY_ASSIGN(const auto ms, duration());
    auto* node = std::get_if<SelectorNode>(&expr.node);
    if (node == nullptr) {
      return fail(word,
                  "offset modifier must be preceded by an instant vector selector or range vector "
                  "selector");
    }
    if (node->offset_ms != 0) return fail(word, "offset may not be set multiple times");
    node->offset_ms = negative ? -ms : ms;
    return {};
  }

  std::string_view text_;
  Lexer lexer_;
  Token token_;
  size_t nesting_ = 0;
  size_t parens_ = 0;
  bool in_braces_ = false;
};

}  // namespace

Result<ExprPtr> parse_query(std::string_view text) {
  if (text.size() > kMaxExpressionBytes) {
    return Error{Errc::kLimit,
                 fmt::format("expression is longer than {} bytes", kMaxExpressionBytes)};
  }
  WEIR_TRY_ASSIGN(auto root, Parser(text).whole());
  return ExprPtr(std::move(root));
}

Result<SelectorNode> parse_selector(std::string_view text) {
  WEIR_TRY_ASSIGN(const auto root, parse_query(text));
  const auto* selector = std::get_if<SelectorNode>(&root->node);
  if (selector == nullptr || selector->range_ms != 0 || selector->offset_ms != 0) {
    return parse_error(text, root->offset, "expected an instant vector selector");
  }
  return *selector;
}

}  // namespace weir::aggregator
