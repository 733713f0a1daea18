#pragma once
// Times as text. Pure, any thread.

#include <cstdint>
#include <string>

namespace weir {

// "2026-11-20T09:00:00Z"; beyond the years 0 to 9999 the Unix seconds, as "99999999999999 s".
[[nodiscard]] std::string rfc3339(int64_t unix_s);

}  // namespace weir
