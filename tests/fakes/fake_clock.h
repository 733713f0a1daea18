#pragma once
// FakeClock: time that moves only when a test says so. Both clocks move together; set_unix() alone
// is a step of the wall clock.

#include <chrono>
#include <cstdint>

#include "common/clock.h"

namespace weir {

class FakeClock final : public Clock {
 public:
  explicit FakeClock(int64_t unix_s = 1'700'000'040) { set_unix(unix_s); }

  [[nodiscard]] UnixTime now() const override { return now_; }

  [[nodiscard]] MonoTime mono() const override { return mono_; }

  void advance(std::chrono::nanoseconds by) {
    now_ += by;
    mono_ += by;
  }

  void set_unix(int64_t unix_s) { now_ = UnixTime(std::chrono::seconds(unix_s)); }

 private:
  UnixTime now_;
  MonoTime mono_{std::chrono::seconds(1000)};
};

}  // namespace weir
