#include "cli/terminal.h"

#include <unistd.h>

#include <cstdlib>

namespace weir::cli {
namespace {

// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if (byte(i) >> 6 != 2) return 0;
  }
  if (length == 2 && lead < 0xc2) return 0;                              // overlong
  if (length == 3 && lead == 0xe0 && byte(1) < 0xa0) return 0;           // overlong
  if (length == 3 && lead == 0xed && byte(1) > 0x9f) return 0;           // surrogate
  if (length == 4 && ((lead == 0xf0 && byte(1) < 0x90) || lead > 0xf4)) return 0;
  if (length == 4 && lead == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

}  // namespace

bool use_colour(int fd) {
  return std::getenv("NO_COLOR") == nullptr && ::isatty(fd) == 1;  // NOLINT(concurrency-mt-unsafe)
}

std::string printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const size_t length = utf8_length(text);
    // C1 controls (U+0080..U+009F) start with 0xc2 and steer terminals too.
    const bool control = byte < 0x20 || byte == 0x7f ||
                         (length == 2 && byte == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
    if (length == 0 || control) {
      const size_t escaped = length == 0 ? 1 : length;
      for (size_t i = 0; i < escaped; ++i) {
        const auto raw = static_cast<unsigned char>(text[i]);
        out += "\\x";
        out += kHex[raw >> 4];
        out += kHex[raw & 15];
      }
      text.remove_prefix(escaped);
      continue;
    }
    out.append(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace weir::cli
