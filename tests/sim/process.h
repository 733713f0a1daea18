#pragma once
// Process: one simulated program: its clock, its disk, and a life that ends by kill -9 at any event
// or at a crash point inside one, and begins again on what the disk holds.
//
// Owner: the World; one thread. Promise: after a death nothing of it runs; what it held in memory
// is gone. Everything that enters a program's code goes through run(), where a crash point ends it.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/result.h"
#include "common/transport.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_network.h"

namespace weir::sim {

// Where a process that is told to dies: at the `passage`th time it comes by this crash point.
struct CrashPlan {
  std::string point;
  uint64_t passage = 1;
};

class Process {
 public:
  // What the world is told: an error that ends a process is a violation without disk faults.
  using OnFatal = std::function<void(const std::string& process, const Error& error)>;

  Process(Scheduler& scheduler, Network& network, std::string name, Nanos tick_every);
  virtual ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void on_fatal(OnFatal report) { on_fatal_ = std::move(report); }

  void start();
  void kill();
  // Dead, and start() does nothing, until come_back().
  void go_away();
  void come_back();

  [[nodiscard]] bool is_away() const { return away_; }

  void pause();
  void resume();

  void crash_at(CrashPlan plan) { plan_ = std::move(plan); }

  [[nodiscard]] bool is_running() const { return running_; }

  [[nodiscard]] bool is_paused() const { return paused_; }

  [[nodiscard]] uint64_t crashes() const { return crashes_; }

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] Disk& disk() { return disk_; }

  [[nodiscard]] SimClock& clock() { return clock_; }

  // Called by crash_point().
  void passes(const char* point);

 protected:
  // Makes everything of the program, on its disk; errors end it at once.
  virtual Status open() = 0;
  // Drops everything, writing nothing. Called also when open() did not come to its end.
  virtual void close() = 0;
  virtual Status tick() = 0;

  // What it has become unable to do, asked after each step.
  virtual Status health() { return {}; }

  // Its way out and in: what arrives runs in this process.
  std::unique_ptr<Link> connect(const std::string& endpoint);
  std::unique_ptr<Door> bind(const std::string& endpoint);

  // All that this program does is inside: nothing while it is dead or paused.
  void run(const std::function<Status()>& step);
  // The same, later, in this life.
  void run_after(Nanos delay, std::function<Status()> step);

  Scheduler& scheduler_;

 private:
  class GuardedLink;
  class GuardedDoor;

  void die();
  void plan_tick();

  Network& network_;
  std::string name_;
  Nanos tick_every_;
  SimClock clock_;
  Disk disk_;
  OnFatal on_fatal_;
  CrashPlan plan_;
  bool running_ = false;
  bool paused_ = false;
  bool away_ = false;
  bool open_ = false;
  uint64_t life_ = 0;
  uint64_t crashes_ = 0;
};

}  // namespace weir::sim
