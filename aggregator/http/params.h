#pragma once
// Reading the fields of a request: texts, times, durations, counts. Pure; every fault is kInvalid
// with Prometheus' wording.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aggregator/http/api.h"

namespace weir::aggregator {

// The first of that name; null: absent.
[[nodiscard]] const std::string* find_field(const FormFields& fields, std::string_view name);
[[nodiscard]] std::vector<std::string> all_fields(const FormFields& fields, std::string_view name);

// Seconds since 1970 ("1700000000.5") or RFC 3339, as milliseconds. `fallback` when absent.
Result<int64_t> time_field(const FormFields& fields, std::string_view name, int64_t fallback_ms);
// Seconds ("30", "0.5") or a duration ("5m"), as milliseconds, > 0.
Result<int64_t> duration_field(const FormFields& fields, std::string_view name);
// A count >= 1; `fallback` when absent or 0 (which Prometheus reads as no limit).
Result<size_t> limit_field(const FormFields& fields, size_t fallback);

// What the client's `timeout` field leaves of the server's own limit.
[[nodiscard]] std::chrono::milliseconds timeout_of(const FormFields& fields,
                                                   std::chrono::milliseconds limit);

// The times an API call may name: year 1 to year 9999.
inline constexpr int64_t kMinTimeMs = -62'135'596'800'000;
inline constexpr int64_t kMaxTimeMs = 253'402'300'799'000;

Result<int64_t> parse_time_ms(std::string_view text);

}  // namespace weir::aggregator
