#pragma once
// Time, as an argument. Windows and events use Unix time; timeouts use monotonic time.
//
// Owner: main() owns the SystemClock and passes it down; the pure core takes plain `now` values
// instead. Tests use tests/fakes/fake_clock.h. Thread: SystemClock is stateless, any thread.

#include <chrono>
#include <cstdint>

namespace weir {

using UnixTime = std::chrono::sys_time<std::chrono::nanoseconds>;
using MonoTime = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

inline int64_t unix_seconds(UnixTime t) {
  return std::chrono::floor<std::chrono::seconds>(t).time_since_epoch().count();
}

class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;
  [[nodiscard]] virtual UnixTime now() const = 0;
  [[nodiscard]] virtual MonoTime mono() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] UnixTime now() const override {
    return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
  }

  [[nodiscard]] MonoTime mono() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace weir
