#pragma once
// StoreThread: the thread that owns a StoreDriver. Batches come in by one mailbox; what is durable
// goes out as acknowledgements by another.
//
// Owner: the Aggregator. Thread: start, status and the destructor from the loop thread. Promise: as
// StoreDriver; a store that cannot write calls on_fatal once and stops. Stops within one
// transaction.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "aggregator/store_driver.h"
#include "common/clock.h"
#include "common/mailbox.h"
#include "common/result.h"
#include "common/transport.h"

namespace weir::aggregator {

class StoreThread {
 public:
  using OnFatal = std::function<void(const Error&)>;

  // Returns when the store is open. Everything referred to outlives it; on_fatal runs on its
  // thread.
  static Result<std::unique_ptr<StoreThread>> start(const StoreThreadConfig& config,
                                                    const Clock& clock, TransportContext& transport,
                                                    Mailbox<StoreRequest>& in,
                                                    Mailbox<Answers>& out, OnFatal on_fatal);
  ~StoreThread();
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  // In force soon.
  void set_policy(const Limits& limits, const FencePolicy& fences);

  // As of the start: who this tier is to those below, and the epoch of what they send to it.
  [[nodiscard]] const SourceId& source() const;
  [[nodiscard]] uint64_t epoch() const;
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
