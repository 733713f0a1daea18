#pragma once
// Intake: the downward half of the delivery protocol on the aggregator's loop thread. Checks every
// message, cheapest check first, a counter for each check; hands good batches to the store; sends
// acknowledgements when the store has committed.
//
// Owner and thread: the loop thread. Promise: nothing is acknowledged here before the store says it
// is committed; a bad message is counted in exactly one counter, answered with NACK where the
// sender can be known, and nothing else is lost; bytes accepted but not committed never pass
// max_bytes (beyond it, batches are left unanswered and the sender retries).

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "aggregator/interval_set.h"
#include "common/batch.h"
#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/transport.h"

namespace weir::aggregator {

// A verified batch on its way to the store thread.
struct AcceptedBatch {
  FrameType type = FrameType::kData;  // kData from an edge, kOut from a tier
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t seq = 0;
  Window window;
  uint64_t mass = 0;
  uint64_t rows = 0;
  uint32_t crc32c = 0;  // of body
  Bytes body;           // decompressed, exactly what decode_batch accepted
};

// For now: the sender tries again. For good: it quarantines the batch.
enum class Refusal : uint8_t { kForNow, kForGood };

// From the store thread: durable (kAckR, kAckG; after COMMIT), or refused (kNack; also of a batch
// that was held and has been damaged since: the sender is to bring it again).
struct Acknowledgement {
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;
  FrameType level = FrameType::kAckR;
  Refusal refusal = Refusal::kForGood;  // of a kNack, with its reason
  std::string reason;
};

struct SeenSource {
  SourceId id{};
  uint64_t epoch = 0;
  UnixTime last_seen{};  // zero: known from the ledger, not seen since the start
  uint64_t batches = 0;  // committed since the start
  uint64_t mass = 0;     // of these
  SourceReport report;
};

struct IntakeLimits {
  uint32_t window_width_s = 60;   // batches of another width are refused (NACK, permanent)
  int64_t max_age_s = 72 * 3600;  // window end older than this is refused
  int64_t max_ahead_s = 120;      // window start later than this is refused
  size_t max_bytes = size_t{256} << 20;
  size_t max_sources = 10'000;
  BatchLimits batch;
};

class Intake {
 public:
  // Returns false when the store's queue is full; the batch is then dropped unacknowledged.
  using Store = std::function<bool(AcceptedBatch&&)>;
  Intake(Door& door, const IntakeLimits& limits, Store store);

  // What the ledger holds at start, so WELCOME and early acknowledgements are right after a
  // restart.
  void restore(const std::vector<SeqRange>& here, const std::vector<SeqRange>& last_tier);

  void on_message(UnixTime now, const PeerId& peer, const std::optional<Identity>& identity,
                  ByteView header, ByteView body);
  // Sends each answer to the source's current peer and remembers it for WELCOME. Every batch the
  // store took must come back here once, duplicates included: until then a second copy is ignored.
  void committed(const std::vector<Acknowledgement>& answers);

  // weir_intake_*; what was refused as weir_intake_rejected_total{reason="..."}.
  [[nodiscard]] const std::map<std::string, uint64_t>& counters() const { return counters_; }

  [[nodiscard]] std::vector<SeenSource> sources() const;

  [[nodiscard]] size_t bytes_at_store() const { return bytes_at_store_; }

 private:
  struct Waiting {
    size_t bytes = 0;
    uint64_t mass = 0;
  };

  // One life of a source's outbox. The sets only save work: the ledger decides what is new.
  struct Epoch {
    IntervalSet here;
    IntervalSet last_tier;
    std::map<uint64_t, Waiting> at_store;  // by seq: passed on, not answered yet
    uint64_t last_use = 0;
  };

  struct Source {
    PeerId peer;  // empty: no HELLO since the start
    SeenSource seen;
    std::map<uint64_t, Epoch> epochs;
  };

  struct Message {
    UnixTime now;
    const PeerId& peer;
    const std::optional<Identity>& identity;
    FrameHeader header;
    ByteView body;
  };

  void hello(const Message& message);
  void ping(const Message& message);
  void batch(const Message& message);
  void pass_on(const Message& message, Epoch& epoch);
  void acknowledge_held(const Message& message, const Epoch& epoch);
  // Counts, and answers with a NACK about this batch.
  void reject(const Message& message, std::string_view reason, Refusal refusal);
  void count_rejected(std::string_view reason);
  Source* greeted(const Message& message);  // null, and answered: no HELLO on this connection
  Source* find_or_add(const SourceId& id, UnixTime now);  // null: too many
  Epoch& epoch_of(Source& source, uint64_t epoch);
  void forget(Epoch& epoch);
  [[nodiscard]] uint64_t credit() const;
  void send(const PeerId& peer, FrameType type, const SourceId& source,
            const ControlMessage& message);

  Door& door_;
  IntakeLimits limits_;
  Store store_;
  std::map<SourceId, Source> sources_;
  std::map<std::string, uint64_t> counters_;
  size_t bytes_at_store_ = 0;
  size_t greeted_sources_ = 0;
  uint64_t uses_ = 0;
};

}  // namespace weir::aggregator
