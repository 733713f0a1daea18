#pragma once
// SimEdge: an edge's delivering half (outbox and the way up) with a source of small batches, whose
// totals the oracle is told.
//
// Owner: the World; one thread.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/outbox.h"
#include "common/uplink.h"
#include "tests/sim/oracle.h"
#include "tests/sim/process.h"

namespace weir::sim {

struct EdgeConfig {
  std::string name;
  std::vector<std::string> upstreams;
  uint32_t window_s = 60;
  uint64_t outbox_bytes = uint64_t{1} << 30;
  Nanos tick_every = std::chrono::milliseconds(500);
  Nanos ping_every = std::chrono::seconds(1);
  Nanos fence_after = std::chrono::minutes(15);
  uint64_t seed = 1;
};

class SimEdge final : public Process {
 public:
  SimEdge(Scheduler& scheduler, Network& network, Oracle& oracle, EdgeConfig config);
  ~SimEdge() override;

  // A batch of the window that ended `ago` windows before this one of its wall clock.
  void push(unsigned ago);
  // Its disk is empty, or as it was at the copy: while it is not running.
  void lose_disk();
  void restore_copy();

  [[nodiscard]] std::optional<uint64_t> verdicts() const;  // on messages it could not use

  [[nodiscard]] bool is_drained();
  // Pushed, acknowledged, waiting, as committed; pushed must be the sum of the others. And nothing
  // was given up for its age: no world lasts so long.
  void check_books();

 protected:
  Status open() override;
  void close() override;
  Status tick() override;
  Status health() override;

 private:
  // Tells the oracle what a crash left in the outbox without an answer to append().
  void adopt();
  void rows_may_vanish();

  Oracle& oracle_;
  EdgeConfig config_;
  Random random_;
  std::optional<Outbox> outbox_;
  std::vector<std::unique_ptr<Link>> links_;
  std::optional<Uplink> uplink_;
  Status last_;  // of a message
  Nanos next_look_{};
};

}  // namespace weir::sim
