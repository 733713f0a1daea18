#pragma once
// Times and durations as people type and read them. Pure, any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace weir::cli {

// "90s", "5m", "1h30m", "2d": seconds, positive. kInvalid says what is accepted.
[[nodiscard]] Result<int64_t> parse_duration(std::string_view text);

// "now", "now-1h", Unix seconds ("1795158000"), or RFC 3339 in UTC ("2026-11-20T09:00:00Z").
[[nodiscard]] Result<int64_t> parse_time(std::string_view text, int64_t now_s);

[[nodiscard]] std::string ago(int64_t seconds);  // "3 s", "5 m", "2 h", "4 d"

}  // namespace weir::cli
