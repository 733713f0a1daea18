#pragma once
// SimTier: an aggregator without threads and sockets: Intake and StoreDriver of the real one, over
// the simulated network and disk.
//
// Owner: the World; one thread. What the real one's two threads hand to each other waits a moment
// here: batches up to kDrainAfter; answers go at once, so that one given before its COMMIT shows.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregator/intake.h"
#include "aggregator/store_driver.h"
#include "tests/sim/oracle.h"
#include "tests/sim/process.h"

namespace weir::sim {

struct TierConfig {
  aggregator::Tier tier;  // its upstream is an endpoint of the network
  std::string endpoint;
  Nanos store_tick = std::chrono::seconds(1);
  Nanos ping_every = std::chrono::seconds(1);
  Nanos fence_after = std::chrono::minutes(15);
  uint64_t seed = 1;
};

class SimTier final : public Process {
 public:
  static constexpr Nanos kDrainAfter = std::chrono::milliseconds(20);

  SimTier(Scheduler& scheduler, Network& network, TierConfig config);
  ~SimTier() override;

  [[nodiscard]] const TierConfig& config() const { return config_; }

  [[nodiscard]] std::optional<uint64_t> verdicts()
      const;  // every message that is neither control nor new

  [[nodiscard]] bool is_drained();
  // Whether it would still hold all of these, at the level that the acknowledgement means, after a
  // death right now.
  [[nodiscard]] bool holds(FrameType acknowledgement, const SourceId& source, const SeqSpan& span);
  // Of the last tier: whether it would still take nothing of that epoch after a death right now.
  [[nodiscard]] bool has_fenced(const SourceId& tier, uint64_t epoch);
  // Of the last tier: which batches of whom it has.
  void tell_accounts(Oracle& oracle);
  // All counters, of intake and store.
  [[nodiscard]] std::map<std::string, uint64_t> counters();

 protected:
  Status open() override;
  void close() override;
  Status tick() override;
  Status health() override;

 private:
  Status drain();

  [[nodiscard]] aggregator::Instant instant() { return {clock().now(), clock().mono()}; }

  TierConfig config_;
  Random random_;
  MonoTime next_store_tick_{};
  std::unique_ptr<Link> link_;
  std::unique_ptr<Door> door_;
  std::unique_ptr<aggregator::StoreDriver> driver_;
  std::optional<aggregator::Intake> intake_;
  std::vector<aggregator::StoreRequest> queue_;
};

}  // namespace weir::sim
