#include "cli/terminal.h"

#include <unistd.h>

#include <cstdlib>

#include "common/utf8.h"

namespace weir::cli {
bool use_colour(int fd) {
  return std::getenv("NO_COLOR") == nullptr && ::isatty(fd) == 1;  // NOLINT(concurrency-mt-unsafe)
}

std::string printable(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const size_t length = utf8_sequence(text);
    // C1 controls (U+0080..U+009F) start with 0xc2 and steer terminals too.
    const bool control =
        byte < 0x20 || byte == 0x7f ||
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
