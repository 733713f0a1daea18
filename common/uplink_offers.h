#pragma once
// Offers: the rows of one target on their way to one upstream. Sends within the credit, again when
// the peer has read on and not answered, and slowly again what the next tier holds already.
//
// Owner: an Uplink, on its thread; part of it. Pure of time. Promise: offers only rows that are
// assigned to the target; a row in flight is bounded by credit; no retry is the last.

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/control.h"
#include "common/metric.h"
#include "common/outbox.h"
#include "common/session.h"

namespace weir {

struct OfferOptions {
  FrameType type = FrameType::kData;  // kOut from an aggregator
  bool compress = true;               // zstd level 1
  Labels labels{};                    // of tombstones: what all batches have in common
  std::string crash_prefix = "edge";
};

struct OfferStats {
  uint64_t sent = 0;    // rows offered, the first time
  uint64_t resent = 0;  // and again
  uint64_t acked_r = 0;
  uint64_t acked_g = 0;
  uint64_t nacked = 0;           // refused for now or for good
  uint64_t quarantined = 0;      // refused for good
  uint64_t rollups_refused = 0;  // for good, of a tier: they wait, and are offered again slowly
};

// splitmix64: enough to keep peers out of step.
class Jitter {
 public:
  explicit Jitter(uint64_t seed) : state_(seed) {}

  std::chrono::nanoseconds between(std::chrono::nanoseconds low, std::chrono::nanoseconds high);

 private:
  uint64_t state_;
};

// Doubles `times` times, up to the limit.
[[nodiscard]] std::chrono::nanoseconds doubled(std::chrono::nanoseconds base, unsigned times,
                                               std::chrono::nanoseconds limit);

class Offers {
 public:
  Offers(Outbox& outbox, Session& session, const OfferOptions& options, OfferStats& totals,
         uint64_t seed);

  // Begins anew: all rows of the target are offered but those that the peer says it holds.
  void begin(const Target& target, std::vector<SeqSpan> held);
  // The same peer says again what it holds: what is under way stays so, and its timers run.
  void go_on(MonoTime now, std::vector<SeqSpan> held);
  // Nothing is offered until begin().
  void stop();

  // These are the target's now. Rows that were nobody's again may be older than what was offered.
  void expect(const std::vector<uint64_t>& ids);
  // What is overdue, and what has been assigned and never offered. False: no room for all of it.
  Result<bool> offer(MonoTime now);
  // Credit that rows not yet assigned may use.
  [[nodiscard]] size_t room() const;

  [[nodiscard]] bool fits(const OutboxEntry& entry) const { return has_credit(size_of(entry)); }

  // By the last WELCOME.
  [[nodiscard]] const std::vector<SeqSpan>& held_by_peer() const { return held_by_peer_; }

  void waits_at_peer(MonoTime now, const SeqSpan& span);
  void at_next_tier(MonoTime now, const SeqSpan& span);
  Status at_last_tier(const std::vector<SeqSpan>& spans);
  Status refused(MonoTime now, const Nack& nack);

  // At the last tier since the previous call.
  std::vector<SeqSpan> take_released() { return std::exchange(released_, {}); }

  // Of a tier: a row cannot be sent, for this disk has damaged it. Since the previous call.
  bool take_damage() { return std::exchange(found_damage_, false); }

  [[nodiscard]] uint64_t in_flight_bytes() const { return in_flight_; }

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // epoch, seq
  enum class Stage : uint8_t { kWaiting, kInFlight, kHere };

  struct Tracked {
    uint64_t id = 0;
    Stage stage = Stage::kWaiting;
    size_t bytes = 0;
    unsigned attempts = 0;
    bool answered = false;  // the last copy: refused for now
    MonoTime sent{};
    MonoTime known{};  // to be at the peer, sent or waiting there
    MonoTime due{};
  };

  using TrackedMap = std::map<Key, Tracked>;

  // A queue of seconds at the peer is no reason for a copy: that would only make it longer.
  [[nodiscard]] bool may_be_unread(const Tracked& tracked) const;
  void look_at_unread(MonoTime now);
  Result<bool> offer_overdue(MonoTime now);
  Result<bool> offer_new(MonoTime now);
  Result<bool> offer_first(MonoTime now, const OutboxEntry& entry);
  // False: no credit, the pipe is full, or damage was found.
  Result<bool> send(MonoTime now, const OutboxEntry& entry, Tracked& tracked);
  Result<bool> send_data(FrameHeader& header, const OutboxEntry& entry);
  [[nodiscard]] Bytes tombstone(const OutboxEntry& entry) const;
  [[nodiscard]] size_t size_of(const OutboxEntry& entry) const;
  [[nodiscard]] bool has_credit(size_t bytes) const;
  void set_stage(Tracked& tracked, Stage stage);
  void schedule(TrackedMap::iterator it, MonoTime due);
  void forget(TrackedMap::iterator it);
  std::chrono::nanoseconds retry_delay(const Tracked& tracked);

  Outbox& outbox_;
  Session& session_;
  const OfferOptions& options_;
  OfferStats& totals_;
  Target target_;
  bool running_ = false;
  TrackedMap tracked_;                      // offered or held, not at the last tier
  std::set<std::pair<MonoTime, Key>> due_;  // of all tracked
  std::vector<Key> unread_;                 // overdue, and perhaps not read yet
  MonoTime read_to_ = MonoTime::min();      // of the peer, when they were looked at
  uint64_t cursor_ = 0;                     // rows up to this id are tracked or gone
  uint64_t all_read_at_ = 0;                // a revision of the outbox with no row behind it
  std::vector<SeqSpan> held_by_peer_;       // by the last WELCOME
  std::deque<uint64_t> late_;               // of the target, below the cursor, not offered yet
  std::vector<SeqSpan> released_;
  uint64_t in_flight_ = 0;
  bool found_damage_ = false;
  Jitter jitter_;
};

}  // namespace weir
