#pragma once
// Intake: the downward half of the delivery protocol on the aggregator's loop thread. Checks every
// message, cheapest check first, a counter for each check; hands good batches to the store; sends
// acknowledgements when the store has committed.
//
// Owner and thread: the loop thread. Promise: nothing is acknowledged here before the store says it
// is committed; a bad message is counted in exactly one counter, answered with NACK where the sender
// can be known, and nothing else is lost; bytes accepted but not committed never pass max_bytes
// (beyond it, batches are left unanswered and the sender retries).

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "common/batch.h"
#include "common/clock.h"
#include "common/frame.h"
#include "common/sender.h"
#include "common/transport.h"

namespace weir::aggregator {

// A verified batch on its way to the store thread.
struct AcceptedBatch {
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t seq = 0;
  Window window;
  uint64_t mass = 0;
  uint64_t rows = 0;
  uint32_t crc32c = 0;  // of body
  Bytes body;           // decompressed, exactly what decode_batch accepted
};

// From the store thread, after COMMIT.
struct Acknowledgement {
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;
  FrameType level = FrameType::kAckR;  // kAckR or kAckG
};

struct SeenSource {
  SourceId id{};
  uint64_t epoch = 0;
  UnixTime last_seen{};
  uint64_t batches = 0;
  SourceReport report;
};

struct IntakeLimits {
  uint32_t window_width_s = 60;    // batches of another width are refused (NACK, permanent)
  int64_t max_age_s = 72 * 3600;   // window start older than this is refused
  int64_t max_ahead_s = 120;
  size_t max_bytes = size_t{256} << 20;
  size_t max_sources = 10'000;
  BatchLimits batch;
};

class Intake {
 public:
  // Returns false when the store's queue is full; the batch is then dropped unacknowledged.
  using Store = std::function<bool(AcceptedBatch&&)>;
  Intake(Door& door, const IntakeLimits& limits, Store store);

  // What the ledger holds at start, so WELCOME and early acknowledgements are right after a restart.
  void restore(const std::vector<SeqRange>& here, const std::vector<SeqRange>& last_tier);

  void on_message(UnixTime now, const PeerId& peer, ByteView header, ByteView body);
  // Sends each acknowledgement to the source's current peer and remembers it for WELCOME.
  void committed(const std::vector<Acknowledgement>& acks, size_t bytes_freed);

  [[nodiscard]] const std::map<std::string, uint64_t>& counters() const;  // weir_intake_*
  [[nodiscard]] std::vector<SeenSource> sources() const;
};

}  // namespace weir::aggregator
