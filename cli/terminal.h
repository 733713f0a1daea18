#pragma once
// What may be shown how: colour only on a terminal and never with NO_COLOR; strings from outside
// are made safe before they reach a terminal. Any thread.

#include <string>
#include <string_view>

namespace weir::cli {

[[nodiscard]] bool use_colour(int fd);

// Control characters, escapes and invalid UTF-8 become "\xNN"; the result is safe to print.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace weir::cli
