#pragma once
// Scheduler: the simulator's time. Events run one by one, in order of time, then of being planned.
//
// Owner: the World; one thread. Promise: the same calls give the same order, on every machine.

#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace weir::sim {

using Nanos = std::chrono::nanoseconds;

// Numbers of one seed. Not std::distributions: those differ between libraries.
class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint64_t next() { return engine_(); }

  // Below `limit`, which is above 0.
  uint64_t below(uint64_t limit) { return engine_() % limit; }

  // low..high, both included.
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }

  bool percent(unsigned chance) { return chance > 0 && below(100) < chance; }

  bool permille(unsigned chance) { return chance > 0 && below(1000) < chance; }

  Nanos time(Nanos low, Nanos high) {
    const auto span = static_cast<uint64_t>((high - low).count());
    return low + Nanos(static_cast<int64_t>(below(span + 1)));
  }

 private:
  std::mt19937_64 engine_;
};

class Scheduler {
 public:
  using Event = std::function<void()>;

  [[nodiscard]] Nanos now() const { return now_; }

  void after(Nanos delay, Event event) { at(now_ + delay, std::move(event)); }

  void at(Nanos time, Event event) {
    events_.push(Planned{std::max(time, now_), planned_++, std::move(event)});
  }

  // Runs everything up to and including `end`; the time is `end` afterwards.
  void run_until(Nanos end) {
    while (!events_.empty() && events_.top().time <= end) {
      Event event = std::move(const_cast<Planned&>(events_.top()).event);  // NOLINT: popped next
      now_ = events_.top().time;
      events_.pop();
      ++run_;
      event();
    }
    now_ = end;
  }

  [[nodiscard]] uint64_t events_run() const { return run_; }

 private:
  struct Planned {
    Nanos time{};
    uint64_t order = 0;
    Event event;

    friend bool operator<(const Planned& a, const Planned& b) {  // the queue gives the greatest
      return std::pair(b.time, b.order) < std::pair(a.time, a.order);
    }
  };

  std::priority_queue<Planned> events_;
  Nanos now_{};
  uint64_t planned_ = 0;
  uint64_t run_ = 0;
};

// A process's two clocks over the simulator's time: the wall clock may be stepped.
class SimClock final : public Clock {
 public:
  static constexpr int64_t kStartS = 1'700'006'400;  // a whole hour

  explicit SimClock(const Scheduler& scheduler) : scheduler_(scheduler) {}

  [[nodiscard]] UnixTime now() const override {
    return UnixTime(std::chrono::seconds(kStartS) + scheduler_.now() + step_);
  }

  [[nodiscard]] MonoTime mono() const override {
    return MonoTime(std::chrono::hours(1) + scheduler_.now());
  }

  void step(Nanos by) { step_ += by; }

  [[nodiscard]] Nanos stepped() const { return step_; }

 private:
  const Scheduler& scheduler_;
  Nanos step_{};
};

}  // namespace weir::sim
