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
    if (free_.empty()) {
      free_.push_back(events_.size());
      events_.emplace_back();
    }
    const size_t slot = free_.back();
    free_.pop_back();
    events_[slot] = std::move(event);
    due_.push({std::max(time, now_), planned_++, slot});
  }

  // Runs everything up to and including `end`; the time is `end` afterwards.
  void run_until(Nanos end) {
    while (!due_.empty() && due_.top().time <= end) {
      const Due next = due_.top();
      due_.pop();
      now_ = next.time;
      const Event event = std::exchange(events_[next.slot], nullptr);
      free_.push_back(next.slot);
      ++run_;
      event();
    }
    now_ = end;
  }

  [[nodiscard]] uint64_t events_run() const { return run_; }

 private:
  struct Due {
    Nanos time{};
    uint64_t order = 0;
    size_t slot = 0;  // of events_

    friend bool operator<(const Due& a, const Due& b) {  // the queue gives the greatest
      return a.time != b.time ? b.time < a.time : b.order < a.order;
    }
  };

  std::priority_queue<Due> due_;  // small: it is what is moved about
  std::vector<Event> events_;
  std::vector<size_t> free_;  // slots of events_
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
