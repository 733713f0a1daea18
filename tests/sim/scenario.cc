#include "tests/sim/scenario.h"

namespace weir::sim {

using std::chrono::minutes;
using std::chrono::seconds;

const std::vector<std::pair<Fault, const char*>>& fault_names() {
  static const std::vector<std::pair<Fault, const char*>> kNames{
      {Fault::kDrop, "drop"},
      {Fault::kDuplicate, "duplicate"},
      {Fault::kOvertake, "overtake"},
      {Fault::kDamage, "damage"},
      {Fault::kDelay, "delay"},
      {Fault::kCrash, "crash"},
      {Fault::kPoint, "point"},
      {Fault::kPause, "pause"},
      {Fault::kCut, "cut"},
      {Fault::kEdgeDisk, "edge_disk"},
      {Fault::kRegionDisk, "region_disk"},
      {Fault::kClock, "clock"},
      {Fault::kFlip, "flip"},
      {Fault::kBurst, "burst"},
      {Fault::kStranger, "stranger"},
      {Fault::kSmall, "small"},
      {Fault::kRegionDown, "region_down"},
      {Fault::kGone, "gone"},
  };
  return kNames;
}

Scenario make_scenario(uint64_t seed, const Options& options) {
  Random random(seed * 2 + 1);
  Scenario out;
  out.seed = seed;
  const auto choose = [&](unsigned given, uint64_t low, uint64_t high) {
    const auto drawn = static_cast<unsigned>(random.between(low, high));
    return given != 0 ? given : drawn;
  };
  out.edges = choose(options.edges, 1, 6);
  out.regions = choose(options.regions, 1, 2);
  out.aggregators = choose(options.aggregators, 1, 2);
  out.duration = minutes(choose(options.minutes, 8, 25));
  out.fence_after = seconds(random.between(60, 300));
  out.window_s = options.window_s;
  out.coarse_s = 5 * options.window_s;
  out.edge_tick = seconds(options.coarse ? 10 : 3);
  out.store_tick = seconds(options.coarse ? 20 : 8);
  out.ping_every = options.coarse ? seconds(60) : seconds(random.between(2, 10));
  out.fault_min = options.coarse ? Nanos(seconds(20)) : Nanos(seconds(5));
  out.fault_max = options.coarse ? minutes(3) : minutes(2);
  for (const auto& [fault, name] : fault_names()) {
    const bool drawn = random.percent(40);
    if (options.faults.contains(fault) && (options.all_faults || drawn)) out.faults.insert(fault);
  }
  // Only then can a window be so far ahead that its fold waits.
  out.fold_by_window = out.has(Fault::kClock) && seed % 2 == 1;
  return out;
}

}  // namespace weir::sim
