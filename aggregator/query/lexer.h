#pragma once
// Cuts a PromQL text into tokens. Pure; never reads past the text, never allocates but for the
// contents of strings. A fault is a token of kind kError whose text says what is wrong.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace weir::aggregator {

enum class TokenKind : uint8_t {
  kEnd,
  kError,
  kNumber,      // 1, .5, 1e3, 0x1f
  kDuration,    // 5m, 1h30m
  kIdentifier,  // metric and label names, keywords, inf, nan
  kString,      // contents unquoted in `text`
  kLeftParen,
  kRightParen,
  kLeftBrace,
  kRightBrace,
  kLeftBracket,
  kRightBracket,
  kComma,
  kColon,
  kAt,
  kAssign,    // =
  kRegex,     // =~
  kNotRegex,  // !~
  kEqual,     // ==
  kNotEqual,  // !=
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMod,
  kPow,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  size_t offset = 0;  // of its first byte
  std::string text;   // as written; unquoted for strings; the reason for errors
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  [[nodiscard]] Token next();  // kEnd for ever after the last; kError may repeat

 private:
  [[nodiscard]] char peek(size_t ahead = 0) const;
  void skip_blanks_and_comments();
  Token take(TokenKind kind, size_t length);
  Token number_or_duration();
  Token quoted();
  Token symbol();
  Token error(std::string why) const;

  std::string_view text_;
  size_t at_ = 0;
};

// "5m", "1h30m", "1d": milliseconds. kInvalid: not a duration, units out of order, or too long.
[[nodiscard]] Result<int64_t> parse_duration_ms(std::string_view text);

// "1:5: parse error: " + why, with line and column (from 1, in bytes) of `offset` in `text`.
[[nodiscard]] Error parse_error(std::string_view text, size_t offset, std::string_view why);

}  // namespace weir::aggregator
