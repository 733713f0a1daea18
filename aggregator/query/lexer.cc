#include "aggregator/query/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

namespace weir::aggregator {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

bool is_word(char c) { return is_letter(c) || is_digit(c); }

bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  return (c | 0x20) - 'a' + 10;
}

void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | (code >> 6));
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3f));
    put(0x80 | ((code >> 6) & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

}  // namespace

char Lexer::peek(size_t ahead) const {
  return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
}

void Lexer::skip_blanks_and_comments() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      ++at_;
    } else {
      return;
    }
  }
}

Token Lexer::take(TokenKind kind, size_t length) {
  Token token{kind, at_, std::string(text_.substr(at_, length))};
  at_ += length;
  return token;
}

Token Lexer::error(std::string why) const { return {TokenKind::kError, at_, std::move(why)}; }

Token Lexer::next() {
  skip_blanks_and_comments();
  if (at_ >= text_.size()) return {TokenKind::kEnd, text_.size(), ""};
  const char c = peek();
  if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number_or_duration();
  if (is_letter(c) || (c == ':' && is_letter(peek(1)))) {
    size_t length = 1;  // ':' is part of names made by recording rules
    while (is_word(peek(length)) || peek(length) == ':') ++length;
    return take(TokenKind::kIdentifier, length);
  }
  if (c == '"' || c == '\'' || c == '`') return quoted();
  return symbol();
}

Token Lexer::number_or_duration() {
  size_t length = 0;
  if (peek() == '0' && (peek(1) | 0x20) == 'x' && is_hex(peek(2))) {
    length = 2;
    while (is_hex(peek(length))) ++length;
  } else {
    while (is_digit(peek(length))) ++length;
    // Digits and then a unit are a duration; "1e3" is not, because of the digit after the e.
    const size_t digits = length;
    while (is_word(peek(length))) ++length;
    const auto word = text_.substr(at_, length);
    if (length > digits && parse_duration_ms(word).ok()) return take(TokenKind::kDuration, length);
    length = digits;
    if (peek(length) == '.') ++length;
    while (is_digit(peek(length))) ++length;
    if ((peek(length) | 0x20) == 'e') {
      const size_t sign = peek(length + 1) == '+' || peek(length + 1) == '-' ? 1 : 0;
      if (is_digit(peek(length + 1 + sign))) {
        length += 1 + sign;
        while (is_digit(peek(length))) ++length;
      }
    }
  }
  if (is_word(peek(length)) || peek(length) == '.') {
    while (is_word(peek(length)) || peek(length) == '.') ++length;
    return error(fmt::format("bad number or duration syntax: \"{}\"", text_.substr(at_, length)));
  }
  return take(TokenKind::kNumber, length);
}

Token Lexer::quoted() {
  const char quote = peek();
  Token token{TokenKind::kString, at_, ""};
  size_t i = at_ + 1;
  for (; i < text_.size() && text_[i] != quote; ++i) {
    if (quote == '`') {  // raw
      token.text.push_back(text_[i]);
      continue;
    }
    if (text_[i] == '\n') break;
    if (text_[i] != '\\') {
      token.text.push_back(text_[i]);
      continue;
    }
    if (++i >= text_.size()) break;
    static constexpr std::string_view kPlain = "abfnrtv\\'\"";
    static constexpr std::string_view kMeaning = "\a\b\f\n\r\t\v\\'\"";
    const char c = text_[i];
    if (const auto at = kPlain.find(c); at != std::string_view::npos) {
      token.text.push_back(kMeaning[at]);
      continue;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    bool good = digits > 0 && i + digits < text_.size();
    for (size_t d = 1; good && d <= digits; ++d) {
      good = is_hex(text_[i + d]);
      if (good) code = code * 16 + static_cast<uint32_t>(hex_value(text_[i + d]));
    }
    if (!good || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      at_ = i - 1;
      return error("unknown escape sequence in quoted string");
    }
    if (c == 'x') {
      token.text.push_back(static_cast<char>(code));
    } else {
      append_utf8(token.text, code);
    }
    i += digits;
  }
  if (i >= text_.size() || text_[i] != quote) return error("unterminated quoted string");
  at_ = i + 1;
  return token;
}

Token Lexer::symbol() {
  struct Symbol {
    std::string_view text;
    TokenKind kind;
  };

  static constexpr std::array kSymbols = std::to_array<Symbol>({
      // longest first
      {"=~", TokenKind::kRegex},       {"!~", TokenKind::kNotRegex},
      {"==", TokenKind::kEqual},       {"!=", TokenKind::kNotEqual},
      {"<=", TokenKind::kLessEqual},   {">=", TokenKind::kGreaterEqual},
      {"=", TokenKind::kAssign},       {"<", TokenKind::kLess},
      {">", TokenKind::kGreater},      {"(", TokenKind::kLeftParen},
      {")", TokenKind::kRightParen},   {"{", TokenKind::kLeftBrace},
      {"}", TokenKind::kRightBrace},   {"[", TokenKind::kLeftBracket},
      {"]", TokenKind::kRightBracket}, {",", TokenKind::kComma},
      {":", TokenKind::kColon},        {"@", TokenKind::kAt},
      {"+", TokenKind::kAdd},          {"-", TokenKind::kSub},
      {"*", TokenKind::kMul},          {"/", TokenKind::kDiv},
      {"%", TokenKind::kMod},          {"^", TokenKind::kPow},
  });
  const auto rest = text_.substr(at_);
  for (const auto& symbol : kSymbols) {
    if (rest.starts_with(symbol.text)) return take(symbol.kind, symbol.text.size());
  }
  const auto byte = static_cast<unsigned char>(peek());
  if (byte >= 0x20 && byte < 0x7f) return error(fmt::format("unexpected character: '{}'", peek()));
  return error(fmt::format("unexpected byte: 0x{:02x}", byte));
}

Result<int64_t> parse_duration_ms(std::string_view text) {
  struct Unit {
    std::string_view name;
    int64_t ms;
  };

  static constexpr std::array kUnits = std::to_array<Unit>({{"y", 365 * 86'400'000LL},
                                                            {"w", 7 * 86'400'000LL},
                                                            {"d", 86'400'000},
                                                            {"h", 3'600'000},
                                                            {"m", 60'000},
                                                            {"s", 1000},
                                                            {"ms", 1}});
  const auto bad = [&] { return invalid(fmt::format("not a valid duration: \"{}\"", text)); };
  if (text.empty()) return bad();
  int64_t total = 0;
  const auto* next_unit = kUnits.begin();  // units come in this order, each at most once
  auto rest = text;
  while (!rest.empty()) {
    int64_t n = 0;
    const auto [end, fault] = std::from_chars(rest.data(), rest.data() + rest.size(), n);
    if (fault != std::errc{} || !is_digit(rest.front())) return bad();
    rest.remove_prefix(static_cast<size_t>(end - rest.data()));
    size_t length = 0;
    while (length < rest.size() && is_letter(rest[length])) ++length;
    const auto* const unit = std::find_if(
        next_unit, kUnits.end(), [&](const Unit& u) { return u.name == rest.substr(0, length); });
    if (unit == kUnits.end()) return bad();
    next_unit = unit + 1;
    // 1,000 years is more than anybody keeps and far from overflow.
    static constexpr int64_t kMaxMs = 1000 * kUnits.front().ms;
    if (n > (kMaxMs - total) / unit->ms) return bad();
    total += n * unit->ms;
    rest.remove_prefix(length);
  }
  return total;
}

Error parse_error(std::string_view text, size_t offset, std::string_view why) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::ranges::count(before, '\n');
  const auto last_break = before.rfind('\n');
  const auto column =
      last_break == std::string_view::npos ? before.size() + 1 : before.size() - last_break;
  return invalid(fmt::format("{}:{}: parse error: {}", line, column, why));
}

}  // namespace weir::aggregator
