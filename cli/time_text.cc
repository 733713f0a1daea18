#include "cli/time_text.h"

#include <charconv>
#include <chrono>

#include <fmt/core.h>

namespace weir::cli {
namespace {

constexpr int64_t kMaxSeconds = int64_t{100} * 366 * 86400;

Error bad_duration(std::string_view text) {
  return invalid(fmt::format("'{}' is no duration; write for example 90s, 5m, 1h30m or 2d", text));
}

// Exactly `width` digits at `at`.
bool digits(std::string_view text, size_t at, size_t width, int& value) {
  if (text.size() < at + width) return false;
  const char* begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + width, value);
  return error == std::errc() && end == begin + width && *begin != '-';
}

}  // namespace

Result<int64_t> parse_duration(std::string_view text) {
  int64_t total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    int64_t amount = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), amount);
    const auto used = static_cast<size_t>(end - rest.data());
    if (error != std::errc() || amount < 0 || amount > kMaxSeconds || used >= rest.size()) {
      return bad_duration(text);
    }
    const char unit = rest[used];
    const int64_t scale = unit == 's'   ? 1
                          : unit == 'm' ? 60
                          : unit == 'h' ? 3600
                          : unit == 'd' ? 86400
                                        : 0;
    if (scale == 0) return bad_duration(text);
    total += amount * scale;
    if (total > kMaxSeconds) return bad_duration(text);
    rest.remove_prefix(used + 1);
  }
  if (total <= 0) return bad_duration(text);
  return total;
}

Result<int64_t> parse_time(std::string_view text, int64_t now_s) {
  if (text == "now") return now_s;
  if (text.starts_with("now-")) {
    WEIR_TRY_ASSIGN(const int64_t back, parse_duration(text.substr(4)));
    return now_s - back;
  }
  int64_t unix_s = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), unix_s);
  if (error == std::errc() && end == text.data() + text.size()) return unix_s;

  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  const bool shaped = text.size() == 20 && text[4] == '-' && text[7] == '-' && text[10] == 'T' &&
                      text[13] == ':' && text[16] == ':' && text[19] == 'Z' &&
                      digits(text, 0, 4, year) && digits(text, 5, 2, month) &&
                      digits(text, 8, 2, day) && digits(text, 11, 2, hour) &&
                      digits(text, 14, 2, minute) && digits(text, 17, 2, second);
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!shaped || !date.ok() || hour > 23 || minute > 59 || second > 59) {
    return invalid(fmt::format(
        "'{}' is no time; write now, now-1h, Unix seconds or 2026-11-20T09:00:00Z", text));
  }
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  return days * 86400 + hour * 3600 + minute * 60 + second;
}

std::string ago(int64_t seconds) {
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} m", seconds / 60);
  if (seconds < 172800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86400);
}

}  // namespace weir::cli
