#pragma once
// World: one seed from start to verdict: edges, regions of aggregators and one global tier, over
// one network; faults for a while; then none, until all is drained; then the oracle judges.
//
// Owner: main(), or a test; one thread. Promise: the same scenario gives the same trace.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/oracle.h"
#include "tests/sim/scenario.h"
#include "tests/sim/scheduler.h"
#include "tests/sim/sim_edge.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_tier.h"

namespace weir::sim {

struct Outcome {
  std::vector<std::string> violations;
  uint64_t trace = 0;
  uint64_t batches = 0;
  uint64_t lost_mass = 0;  // as tombstones, all accounted for
  uint64_t mass = 0;
  uint64_t vanished = 0;  // batches of lost disks
  uint64_t messages = 0;
  uint64_t damaged = 0;
  uint64_t faults = 0;
  uint64_t crashes = 0;  // at crash points
  Nanos simulated{};
};

class World {
 public:
  World(const Scenario& scenario, const Options& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Outcome run();

 private:
  void build();
  void plan_batches(SimEdge& edge);
  void plan_faults(Process& process);
  void plan_region_down(unsigned region);
  void plan_gone(unsigned region);
  void plan_strangers();
  void fault(Process& process);
  void clean_up();
  bool drain();
  void judge();
  void check_sent(const std::string& process, ByteView header, ByteView body);
  void say(const std::string& process, const std::string& what);
  [[nodiscard]] std::optional<uint64_t> verdicts(const std::string& process);

  [[nodiscard]] bool is_over() const { return over_; }

  SimEdge* edge_of(Process& process);

  Nanos a_while() { return random_.time(std::chrono::milliseconds(50), std::chrono::minutes(3)); }

  Scenario scenario_;
  Options options_;
  Scheduler scheduler_;
  Random random_;
  Network network_;
  Oracle oracle_;
  std::map<std::string, std::unique_ptr<SimEdge>> edges_;
  std::map<std::string, std::unique_ptr<SimTier>> tiers_;
  SimTier* global_ = nullptr;
  bool over_ = false;  // no more faults and batches
  uint64_t faults_ = 0;
};

}  // namespace weir::sim
