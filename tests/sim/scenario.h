#pragma once
// Scenario: what one seed makes happen, as plain data: who is there, for how long, which faults.
//
// Pure: the same seed and options give the same scenario, on every machine.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/scheduler.h"

namespace weir::sim {

enum class Fault : uint8_t {
  kDrop,  // messages: lost, doubled, overtaken, damaged, late
  kDuplicate,
  kOvertake,
  kDamage,
  kDelay,
  kCrash,       // kill -9 between two events
  kPoint,       // kill -9 at a crash point
  kPause,       // SIGSTOP, up to beyond the fence's time
  kCut,         // silent, both ways or one, or a reset
  kEdgeDisk,    // an edge's disk is lost, or an old copy comes back
  kRegionDisk,  // the same of a region's
  kClock,       // wall clocks step by up to a day
  kFlip,        // a bit of a body on a disk
  kBurst,       // ten times the batches, and late ones
  kStranger,    // frames of nobody we know
  kSmall,       // outboxes so small that they drop
  kRegionDown,  // all aggregators of a region at once
  kGone,        // one of a region's aggregators dies and comes back when all else is drained
};

[[nodiscard]] const std::vector<std::pair<Fault, const char*>>& fault_names();

struct Options {
  unsigned edges = 0;  // 0: by the seed
  unsigned regions = 0;
  unsigned aggregators = 0;
  unsigned minutes = 0;
  uint32_t window_s = 60;
  bool coarse = false;      // long runs: pings and ticks are rare
  std::set<Fault> faults;   // allowed; which of them a seed has is its own choice
  bool all_faults = false;  // every allowed one
  std::string verbose;      // a process's name, or "all"
};

struct Scenario {
  uint64_t seed = 1;
  unsigned edges = 4;
  unsigned regions = 1;
  unsigned aggregators = 1;
  Nanos duration{};
  Nanos fence_after{};
  Nanos edge_tick{};
  Nanos store_tick{};
  Nanos ping_every{};
  Nanos fault_min{};  // between two of the faults that happen to one process
  Nanos fault_max{};
  uint32_t window_s = 60;
  uint32_t coarse_s = 300;
  bool fold_by_window = false;  // aggregators fold windows that are over, not each 10 s
  std::set<Fault> faults;

  [[nodiscard]] bool has(Fault fault) const { return faults.contains(fault); }
};

[[nodiscard]] Scenario make_scenario(uint64_t seed, const Options& options);

}  // namespace weir::sim
