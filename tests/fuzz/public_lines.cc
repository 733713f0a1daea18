// Any bytes as a file of an allow-list: an error with its line, or lines that read back as written.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto lines = weir::parse_public_lines("f", text);
  if (!lines) {
    if (!lines.error().message.starts_with("f:")) __builtin_trap();
    return 0;
  }
  for (const auto& line : *lines) {
    const auto again = weir::parse_public_lines("f", weir::public_line_text(line));
    if (!again || again->size() != 1 || again->front() != line) __builtin_trap();
  }
  return 0;
}
