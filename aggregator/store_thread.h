#pragma once
// StoreThread: the thread that owns the store, the uplink and the detectors. Batches come in by one
// mailbox; what is durable goes out as acknowledgements by another.
//
// Owner: the Aggregator. Thread: start, status and the destructor from the loop thread. Promise: an
// acknowledgement is pushed only after its COMMIT; one that finds the mailbox full is pushed again;
// each coarse window is judged once. A store that cannot write calls on_fatal once and stops: what
// reached the disk is then unknown, so the process must exit and start anew. Stops within one
// transaction. Cost: one fsync per drain of up to 64 batches or 8 MiB.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "aggregator/intake.h"
#include "aggregator/status.h"
#include "aggregator/store/store.h"
#include "aggregator/tier.h"
#include "common/clock.h"
#include "common/mailbox.h"
#include "common/result.h"
#include "common/transport.h"

namespace weir::aggregator {

struct StoreThreadConfig {
  std::string path;  // of the database
  Tier tier;
  StoreOptions store;
};

// One moment of the store, for TierStatus.
struct StoreStatus {
  SenderStats upstream;
  OutboxStats outbox;
  std::vector<WindowStatus> widths;
  uint64_t inbox_rows = 0;
  uint64_t inbox_bytes = 0;
  std::map<std::string, uint64_t> counters;
};

using Answers = std::vector<Acknowledgement>;

class StoreThread {
 public:
  using OnFatal = std::function<void(const Error&)>;

  // Returns when the store is open. Everything referred to outlives it; on_fatal runs on its
  // thread.
  static Result<std::unique_ptr<StoreThread>> start(const StoreThreadConfig& config,
                                                    const Clock& clock, TransportContext& transport,
                                                    Mailbox<AcceptedBatch>& in,
                                                    Mailbox<Answers>& out, OnFatal on_fatal);
  ~StoreThread();
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  // What the ledger held at the start, for Intake::restore.
  [[nodiscard]] const std::vector<SeqRange>& held_here() const;
  [[nodiscard]] const std::vector<SeqRange>& held_at_last_tier() const;
  [[nodiscard]] StoreStatus status() const;

 private:
  struct Shared;
  class Body;
  explicit StoreThread(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace weir::aggregator
