#include "daemon/routes.h"

#include <algorithm>
#include <array>

#include "bpf/route_hash.h"

namespace weir::daemon {

namespace {

constexpr size_t kShortestHex = 8;       // with a digit
constexpr size_t kShortestHexWord = 16;  // without
constexpr size_t kShortestBase64 = 16;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

bool is_printable(char c) { return c > ' ' && c < 0x7f; }

bool is_hex(std::string_view word) {
  if (word.size() < kShortestHex) return false;
  const bool all = std::ranges::all_of(
      word, [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
  return all && (word.size() >= kShortestHexWord || std::ranges::any_of(word, is_digit));
}

// "-12.5,7": the kernel takes a number for an id unless it begins with a sign or a dot.
bool is_number(std::string_view word) {
  return std::ranges::any_of(word, is_digit) && std::ranges::all_of(word, [](char c) {
           return is_digit(c) || c == '-' || c == '+' || c == '.' || c == ',';
         });
}

// Random letters change their case at every second one, WordsLikeThese at every fifth.
bool is_base64(std::string_view word) {
  if (word.size() < kShortestBase64) return false;
  const bool all = std::ranges::all_of(word, [](char c) {
    return is_digit(c) || is_upper(c) || is_lower(c) || c == '-' || c == '_' || c == '=';
  });
  size_t changes = 0;
  for (size_t i = 1; i < word.size(); ++i) {
    changes += (is_upper(word[i - 1]) && is_lower(word[i])) ||
               (is_lower(word[i - 1]) && is_upper(word[i]));
  }
  return all && changes * 5 > word.size() * 2;
}

bool is_id(std::string_view segment) {
  if (segment.find_first_of("@%") != std::string_view::npos) return true;
  if (is_number(segment) || is_base64(segment)) return true;
  while (!segment.empty()) {  // "main.3fa94c1b.js"
    const auto part = segment.substr(0, segment.find('.'));
    if (is_hex(part)) return true;
    segment.remove_prefix(std::min(part.size() + 1, segment.size()));
  }
  return false;
}

std::string_view body_of(std::string_view segment) {
  return segment.substr(segment.starts_with('/') ? 1 : 0);
}

void append(std::string& out, std::string_view segment, std::string_view body) {
  if (segment.starts_with('/')) out += '/';
  out += body;
}

}  // namespace

std::string_view next_segment(std::string_view& rest) {
  const auto segment = rest.substr(0, rest.find('/', 1));
  rest.remove_prefix(segment.size());
  return segment;
}

bool collapses(std::string_view segment) {
  weir_id_state state = WEIR_ID_BEGIN;
  for (const char c : segment) weir_id_step(&state, static_cast<unsigned char>(c));
  return weir_is_id(&state) != 0;
}

std::string hashed_template(std::span<const unsigned char> path) {
  std::array<unsigned char, WEIR_PATH_BYTES> bytes{};
  const auto size = std::min(path.size(), bytes.size());
  std::copy_n(path.begin(), size, bytes.begin());
  const unsigned length = weir_hash_path(bytes.data(), static_cast<unsigned>(size)).length;
  const std::string text(bytes.begin(), bytes.begin() + length);
  std::string out;
  std::string_view rest = text;
  for (bool first = true; !rest.empty(); first = false) {
    const auto segment = next_segment(rest);
    const auto body = body_of(segment);
    if (rest.empty() && length == WEIR_PATH_BYTES) {
      append(out, segment, "*");
    } else if (collapses(body)) {
      append(out, segment, kIdSegment);
    } else if (first && body.ends_with(':') && rest.starts_with("//")) {
      // "http://host:80/x" -> "/x": proxies and absolute targets.
      next_segment(rest);
      next_segment(rest);
    } else {
      append(out, segment, body);
    }
  }
  std::ranges::replace_if(
      out, [](char c) { return !is_printable(c); }, '_');
  return out.empty() ? "/" : out;
}

std::string with_rules(std::string_view hashed_template) {
  std::string out;
  for (std::string_view rest = hashed_template; !rest.empty();) {
    const auto segment = next_segment(rest);
    const auto body = body_of(segment);
    append(out, segment, is_id(body) ? kIdSegment : body);
  }
  return out;
}

}  // namespace weir::daemon
