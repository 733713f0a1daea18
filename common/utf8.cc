#include "common/utf8.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "common/check.h"
#include "common/hash.h"

namespace weir {

size_t utf8_sequence(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint8_t low = 0x80;   // bounds of the second byte; they exclude overlong forms, surrogates
  uint8_t high = 0xbf;  // and what is above U+10FFFF
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  }
  if (length == 0 || text.size() < length || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    if (uint64_t eight = 0; text.size() >= sizeof eight) {  // most texts are ASCII
      std::memcpy(&eight, text.data(), sizeof eight);
      if ((eight & 0x8080808080808080) == 0) {
        text.remove_prefix(sizeof eight);
        continue;
      }
    }
    const size_t length = utf8_sequence(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string to_utf8(std::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const size_t length = utf8_sequence(text);
    const std::string_view next = length == 0 ? std::string_view("?") : text.substr(0, length);
    if (out.size() + next.size() > max_bytes) break;
    out += next;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string fit_text(std::string_view text, size_t max_bytes) {
  constexpr size_t kDigits = 8;
  constexpr uint64_t kSeed = 0x7765697263757473;  // for ever: hosts must agree
  WEIR_CHECK(max_bytes > kDigits);
  if (text.size() <= max_bytes) return to_utf8(text, max_bytes);
  std::array<char, kDigits + 1> digits{};
  const auto hash = static_cast<uint32_t>(hash64(as_bytes(text), kSeed));
  std::snprintf(digits.data(), digits.size(), "%08x", hash);
  return to_utf8(text, max_bytes - kDigits) + digits.data();
}

}  // namespace weir
