#include "tests/sim/process.h"

#include <utility>

#include "common/crash_point.h"

namespace weir {
namespace {

struct Crash {};  // thrown by a crash point: only run() catches it

sim::Process* in_run = nullptr;

}  // namespace

// In place of common/crash_point.cc: the simulated process dies, not this one.
void crash_point(const char* name) {
  if (in_run != nullptr) in_run->passes(name);
}

namespace sim {
namespace {

constexpr Nanos kLook = std::chrono::milliseconds(500);

}  // namespace

class Process::GuardedLink final : public Link {
 public:
  GuardedLink(Process& process, std::unique_ptr<Link> link)
      : process_(process), link_(std::move(link)) {}

  bool send(ByteView header, ByteView body) override { return link_->send(header, body); }

  [[nodiscard]] bool writable() const override { return link_->writable(); }

  void on_receive(Receiver receiver) override {
    link_->on_receive([this, receiver = std::move(receiver)](ByteView header, ByteView body) {
      process_.run([&]() -> Status {
        receiver(header, body);
        return {};
      });
    });
  }

  [[nodiscard]] uint64_t bad_frame_count() const override { return link_->bad_frame_count(); }

  [[nodiscard]] std::string refusal() const override { return link_->refusal(); }

  void reopen() override { link_->reopen(); }

 private:
  Process& process_;
  std::unique_ptr<Link> link_;
};

class Process::GuardedDoor final : public Door {
 public:
  GuardedDoor(Process& process, std::unique_ptr<Door> door)
      : process_(process), door_(std::move(door)) {}

  bool send(const PeerId& peer, ByteView header, ByteView body) override {
    return door_->send(peer, header, body);
  }

  void on_receive(Receiver receiver) override {
    door_->on_receive([this, receiver = std::move(receiver)](
                          const PeerId& peer, const std::optional<Identity>& identity,
                          ByteView header, ByteView body) {
      process_.run([&]() -> Status {
        receiver(peer, identity, header, body);
        return {};
      });
    });
  }

  [[nodiscard]] std::string endpoint() const override { return door_->endpoint(); }

  [[nodiscard]] uint64_t bad_frame_count() const override { return door_->bad_frame_count(); }

 private:
  Process& process_;
  std::unique_ptr<Door> door_;
};

std::unique_ptr<Link> Process::connect(const std::string& endpoint) {
  return std::make_unique<GuardedLink>(*this, network_.connect(name_, endpoint));
}

std::unique_ptr<Door> Process::bind(const std::string& endpoint) {
  return std::make_unique<GuardedDoor>(*this, network_.bind(name_, endpoint));
}

Process::Process(Scheduler& scheduler, Network& network, std::string name, Nanos tick_every)
    : scheduler_(scheduler),
      network_(network),
      name_(std::move(name)),
      tick_every_(tick_every),
      clock_(scheduler),
      disk_(name_) {}

Process::~Process() = default;

void Process::passes(const char* point) {
  if (plan_.point != point || --plan_.passage > 0) return;
  plan_ = {};
  ++crashes_;
  throw Crash{};
}

void Process::start() {
  if (running_ || open_ || away_) return;
  running_ = true;
  ++life_;
  open_ = true;
  run([this] { return open(); });
  plan_tick();
}

void Process::kill() {
  if (running_) die();
}

void Process::go_away() {
  kill();
  away_ = true;
}

void Process::come_back() {
  away_ = false;
  start();
}

// Its objects may be on the stack, so they go with the next event; nothing of them runs before.
void Process::die() {
  running_ = false;
  paused_ = false;
  network_.stop(name_);
  scheduler_.after(Nanos(0), [this, life = life_] {
    if (life != life_ || !open_) return;
    close();
    open_ = false;
  });
}

void Process::pause() {
  if (!running_ || paused_) return;
  paused_ = true;
  network_.pause(name_);
}

void Process::resume() {
  if (!paused_) return;
  paused_ = false;
  network_.resume(name_);
}

void Process::run(const std::function<Status()>& step) {
  if (!running_ || paused_) return;
  Process* const outer = std::exchange(in_run, this);
  try {
    Status done = step();
    if (done.ok()) done = health();
    if (!done.ok()) {
      if (on_fatal_) on_fatal_(name_, done.error());
      die();
    }
  } catch (const Crash&) {
    die();
  }
  in_run = outer;
}

void Process::run_after(Nanos delay, std::function<Status()> step) {
  scheduler_.after(delay, [this, life = life_, step = std::move(step)] {
    if (life != life_) return;
    if (paused_) return run_after(kLook, step);  // due since; done when it goes on
    run(step);
  });
}

void Process::plan_tick() {
  scheduler_.after(tick_every_, [this, life = life_] {
    if (life != life_ || !running_) return;
    run([this] { return tick(); });
    plan_tick();
  });
}

}  // namespace sim
}  // namespace weir
