#pragma once
// UTF-8 as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
// Pure functions, any thread.

#include <cstddef>
#include <string>
#include <string_view>

namespace weir {

// Length of the valid sequence at the front of `text`; 0 if there is none.
[[nodiscard]] size_t utf8_sequence(std::string_view text);
[[nodiscard]] bool is_utf8(std::string_view text);

// Bytes that are not UTF-8 become '?'; then at most max_bytes, cut between characters.
[[nodiscard]] std::string to_utf8(std::string_view text, size_t max_bytes);

// to_utf8() that keeps texts apart: one that is too long ends in 8 hexadecimal digits of its hash,
// the same on every host. max_bytes > 8.
[[nodiscard]] std::string fit_text(std::string_view text, size_t max_bytes);

}  // namespace weir
