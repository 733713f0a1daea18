#pragma once
// Sender: the upward half of the delivery protocol. Offers every pending batch of an Outbox to the
// next tier until it is acknowledged at the last one (docs/wire.md "Acknowledgement").
//
// Owner: the edge loop, or an aggregator's store thread (the thread of the Outbox and the Link).
// Promise: a batch leaves the outbox only on ACK_G or a permanent NACK (then it is quarantined and
// counted); losing any message is harmless; no elapsed-time cap on retries; at most `credit` bytes
// sent and not ACK_R'd. Pure of time: everything is driven by tick(now) and on_message(now, ...).
// Cost: a tick without anything due is one indexed read; about 100 bytes of memory per batch known
// to be on its way, for at most 65,536 of them (the rest waits in the outbox).

#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/outbox.h"
#include "common/transport.h"

namespace weir {

struct SenderOptions {
  FrameType type = FrameType::kData;  // kOut from an aggregator
  bool compress = true;               // zstd level 1
  std::string name;
  std::string tier;
};

struct SenderStats {
  bool connected = false;  // WELCOME seen and PONGs arrive
  uint64_t sent = 0;       // batches offered, the first time
  uint64_t resent = 0;     // and again
  uint64_t acked_r = 0;    // batches
  uint64_t acked_g = 0;
  uint64_t nacked = 0;       // refused for now or for good
  uint64_t quarantined = 0;  // refused for good
  uint64_t bad_messages = 0;
  uint64_t in_flight_bytes = 0;
  uint64_t credit_bytes = 0;
  std::chrono::nanoseconds round_trip{};  // smoothed, of PINGs and acknowledgements
  std::string last_refusal;               // the newest NACK's reason, for people
};

class Sender {
 public:
  Sender(Outbox& outbox, Link& link, SenderOptions options);

  // Sends HELLO, PINGs (1 s), new and overdue batches. Call every 100 ms and after append.
  Status tick(MonoTime now, UnixTime wall);
  // To join the outbox's change with the caller's own, call it inside the caller's transaction. If
  // that fails, the acknowledgement is repeated by the next WELCOME.
  Status on_message(MonoTime now, ByteView header, ByteView body);
  void set_report(SourceReport report);

  [[nodiscard]] const SenderStats& stats() const { return stats_; }

  // Batches said to be at the last tier, or put in quarantine, since the previous call; an
  // aggregator releases the manifests of these to the tier below (again, if it is told again).
  // Empty on an edge.
  std::vector<SeqSpan> take_released();

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // epoch, seq
  enum class Stage : uint8_t { kWaiting, kInFlight, kHere };

  struct Tracked {
    Stage stage = Stage::kWaiting;
    size_t bytes = 0;
    unsigned attempts = 0;
    MonoTime sent{};
    MonoTime due{};
  };

  using TrackedMap = std::map<Key, Tracked>;

  Status greet(MonoTime now, UnixTime wall);
  void ping(MonoTime now, UnixTime wall);
  Status offer_overdue(MonoTime now);
  Status offer_new(MonoTime now);
  // False: no credit, or the pipe is full.
  Result<bool> offer(MonoTime now, const OutboxEntry& entry, Tracked& tracked);
  Status welcomed(MonoTime now, const Welcome& welcome);
  void at_next_tier(MonoTime now, const SeqSpan& span);
  Status at_last_tier(const std::vector<SeqSpan>& spans);
  Status refused(MonoTime now, const Nack& nack);
  void left_outbox(uint64_t epoch, uint64_t seq);
  bool send_control(FrameType type, const ControlMessage& message);
  [[nodiscard]] bool has_credit(size_t bytes) const;
  void set_stage(Tracked& tracked, Stage stage);
  void schedule(TrackedMap::iterator it, MonoTime due);
  void forget(TrackedMap::iterator it);
  void observe_round_trip(std::chrono::nanoseconds sample);
  std::chrono::nanoseconds retry_delay(const Tracked& tracked);
  std::chrono::nanoseconds jitter(std::chrono::nanoseconds low, std::chrono::nanoseconds high);

  Outbox& outbox_;
  Link& link_;
  SenderOptions options_;
  SourceReport report_;
  SenderStats stats_;
  TrackedMap tracked_;                      // offered or known, not at the last tier
  std::set<std::pair<MonoTime, Key>> due_;  // of all tracked
  Key cursor_{0, 0};                        // everything up to here is tracked or gone
  std::vector<SeqSpan> held_by_peer_;       // by the last WELCOME
  std::vector<SeqSpan> released_;
  MonoTime next_hello_{};
  MonoTime next_ping_{};
  MonoTime last_heard_{};
  uint64_t random_state_;
};

}  // namespace weir
