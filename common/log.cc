#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace weir::log {
namespace {

spdlog::level::level_enum native(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

// The logger lives until exit: destructors of other statics may still want to say something.
spdlog::logger& logger() {
  static auto& instance = *[] {
    auto* made = new spdlog::logger("weir", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return instance;
}

void append_escaped(std::string& out, std::string_view text, std::string_view also) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      if (also.find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
}

}  // namespace

void set_level(Level level) { logger().set_level(native(level)); }

bool enabled(Level level) { return logger().should_log(native(level)); }

void write(Level level, std::string_view message) {
  std::string line;
  line.reserve(message.size());
  append_escaped(line, message, "");
  logger().log(native(level), line);
}

std::string quoted(std::string_view text, size_t max) {
  std::string out = "\"";
  append_escaped(out, text.substr(0, max), "\"\\");
  out += text.size() > max ? "\"..." : "\"";
  return out;
}

bool Limited::due(MonoTime now) {
  if (last_ && now < *last_ + interval_) {
    ++held_back_;
    return false;
  }
  last_ = now;
  return true;
}

std::string Limited::more() {
  const uint64_t held_back = std::exchange(held_back_, 0);
  return held_back == 0 ? std::string() : fmt::format(" (+{} more)", held_back);
}

}  // namespace weir::log
