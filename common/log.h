#pragma once
// log: one line per state change, on standard error, synchronously. Events are counted, not logged.
//   error  someone must act          warn  we go on degraded, and how
//   info   start, stop, connect, configuration
//
// Thread: any. Promise: a message is always exactly one line: control characters in it are escaped,
// so nothing a client sends can forge a line; wrap hostile strings in log::quoted() to show where
// they begin and end. Cost: a disabled level is one atomic load; a line is a write(2).
//
//   log::info("listening on {}", endpoint);
//   log::warn("statsd: bad line {}", log::quoted(line));
//   limited_.warn(clock.mono(), "upstream {}: {}", endpoint, error);   // once per 10 s "(+N more)"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "common/clock.h"

namespace weir::log {

enum class Level : uint8_t { kDebug, kInfo, kWarn, kError, kOff };

void set_level(Level level);  // kInfo at start
[[nodiscard]] bool enabled(Level level);
void write(Level level, std::string_view message);

// "\"...\"" with quotes, backslashes and control characters escaped, cut after `max` bytes.
[[nodiscard]] std::string quoted(std::string_view text, size_t max = 120);

template <class... Args>
void write_formatted(Level level, fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(level)) write(level, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::kDebug, format, std::forward<Args>(args)...);
}

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::kInfo, format, std::forward<Args>(args)...);
}

template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::kWarn, format, std::forward<Args>(args)...);
}

template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write_formatted(Level::kError, format, std::forward<Args>(args)...);
}

// One place that may repeat itself: at most one line per interval, the rest is counted and told
// with the next line. Owner: whoever logs; one thread. Time is an argument.
class Limited {
 public:
  explicit Limited(std::chrono::seconds interval = std::chrono::seconds(10))
      : interval_(interval) {}

  template <class... Args>
  void warn(MonoTime now, fmt::format_string<Args...> format, Args&&... args) {
    if (due(now)) write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...) + more());
  }

  template <class... Args>
  void error(MonoTime now, fmt::format_string<Args...> format, Args&&... args) {
    if (due(now)) write(Level::kError, fmt::format(format, std::forward<Args>(args)...) + more());
  }

 private:
  bool due(MonoTime now);
  std::string more();  // " (+N more)" when N lines were held back

  std::chrono::seconds interval_;
  std::optional<MonoTime> last_;
  uint64_t held_back_ = 0;
};

}  // namespace weir::log
