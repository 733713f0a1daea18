#pragma once
// Intake: the downward half of the delivery protocol on the aggregator's loop thread. Checks every
// message, cheapest check first, a counter for each check; hands good batches to the store; sends
// acknowledgements when the store has committed. Grants credit, keeps score of bad messages, and
// relays questions about fenced tiers.
//
// Owner and thread: the loop thread. Promise: nothing is acknowledged here before the store says it
// is committed; a bad message is counted in exactly one counter, answered with NACK where the
// sender can be known, and nothing else is lost; bytes accepted but not committed never pass
// max_bytes (beyond it, batches are left unanswered and the sender retries).

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aggregator/interval_set.h"
#include "aggregator/store_messages.h"
#include "aggregator/window_placement.h"
#include "common/batch.h"
#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/transport.h"

namespace weir::aggregator {

// Both clocks, of the moment a message is taken.
struct Instant {
  UnixTime wall;
  MonoTime mono;
};

struct SeenSource {
  SourceId id{};
  uint64_t epoch = 0;
  UnixTime last_seen{};  // zero: known from the ledger, not seen since the start
  uint64_t batches = 0;  // committed since the start
  uint64_t mass = 0;     // of these
  SourceReport report;
  int64_t clock_offset_ns = 0;  // our clock minus its own, as it measured
  uint64_t score = 0;           // of bad messages; 100: sent away
};

struct IntakeLimits {
  std::string kind = "region";    // this tier's; names its crash points
  SourceId source{};              // who this tier is
  uint64_t epoch = 0;             // what batches for it are assigned to; 0: none yet, no WELCOME
  uint32_t window_width_s = 60;   // batches of another width are refused (NACK, permanent)
  int64_t max_age_s = 72 * 3600;  // data whose window ended before is refused
  int64_t max_ahead_s = 120;      // no window is later than this
  size_t max_bytes = size_t{256} << 20;
  size_t max_sources = 10'000;
  BatchLimits batch;
};

class Intake {
 public:
  // Returns false when the store's queue is full; the request is then dropped unanswered.
  using Store = std::function<bool(StoreRequest&&)>;
  Intake(Door& door, const IntakeLimits& limits, Store store);

  // What the ledger holds at start, so WELCOME and early acknowledgements are right after a
  // restart.
  void restore(const std::vector<SeqRange>& here, const std::vector<SeqRange>& last_tier);

  void on_message(const Instant& now, const PeerId& peer, const std::optional<Identity>& identity,
                  ByteView header, ByteView body);
  // Sends each answer to the source's current peer and remembers it for WELCOME. Every request the
  // store took must come back here once, duplicates included: until then a second copy is ignored.
  void committed(const Answers& answers);
  void tick(const Instant& now);  // every 100 ms
  // This process stops: everybody may send elsewhere, and comes back not all at once.
  void say_goodbye();

  // weir_intake_*; what was refused as weir_intake_rejected_total{reason="..."}.
  [[nodiscard]] const std::map<std::string, uint64_t>& counters() const { return counters_; }

  [[nodiscard]] std::vector<SeenSource> sources() const;

  [[nodiscard]] size_t bytes_at_store() const { return bytes_at_store_; }

  [[nodiscard]] uint64_t epoch() const { return limits_.epoch; }

 private:
  struct Waiting {
    size_t bytes = 0;  // as held
    size_t raw_len = 0;
    uint64_t mass = 0;
  };

  struct BodyCrc {
    uint32_t travelled = 0;
    uint32_t raw = 0;
  };

  // One life of a source's outbox. The sets only save work: the ledger decides what is new.
  struct Epoch {
    IntervalSet here;
    IntervalSet last_tier;
    std::map<uint64_t, Waiting> at_store;  // by seq: passed on, not answered yet
    std::map<uint64_t, BodyCrc> body_crc;  // of those not at the last tier yet
    uint64_t last_use = 0;
  };

  // A tier's HELLO, until its epoch is on disk.
  struct Greeter {
    PeerId peer;
    Hello hello;
    MonoTime since{};
  };

  struct Source {
    PeerId peer;  // empty: no HELLO since the start
    SeenSource seen;
    bool is_tier = false;
    std::optional<Greeter> greeter;
    MonoTime heard{};
    size_t raw_at_store = 0;  // of its credit
    uint64_t granted = 0;     // the most that it was ever told
    unsigned pings = 0;       // since either clock may have been set
    int64_t apart_s = 0;      // at its last HELLO, roughly
    MonoTime unsure_since{};  // of its clock
    int64_t demerits = 0;     // 60 a point
    MonoTime demerits_at{};
    MonoTime away_until{};
    std::map<uint64_t, Epoch> epochs;
  };

  struct Message {
    const Instant& now;
    const PeerId& peer;
    const std::optional<Identity>& identity;
    FrameHeader header;
    ByteView body;
  };

  void hello(const Message& message);
  void welcome(Source& source, const PeerId& peer, const Hello& hello, uint64_t your_epoch);
  void ping(const Message& message);
  void ask(const Message& message);
  void batch(const Message& message);
  void pass_on(const Message& message, Source& source, Epoch& epoch);
  // The reason it is refused for, or null and `out` is filled in.
  const char* read_batch(const Message& message, const Source& source, AcceptedBatch& out,
                         uint32_t& raw_crc);
  const char* read_tombstone(const Message& message, const Source& source, AcceptedBatch& out);
  [[nodiscard]] ClockView clock_view(const Message& message, const Source& source) const;
  void watch_clock(const Instant& now);
  static void unsure(const Instant& now, Source& source);
  void acknowledge_held(const Message& message, Source& source, const Epoch& epoch);
  // Counts, and answers with a NACK about this batch.
  void reject(const Message& message, std::string_view reason, Refusal refusal);
  void count_rejected(std::string_view reason);
  static void forgive(const Instant& now, Source& source);
  void blame(const Message& message, Source& source);
  bool send_away(const Message& message, const Source& source);  // true: it is to stay away
  void say_away(const Message& message, const Source& source);
  Source* greeted(const Message& message);  // null, and answered: no HELLO on this connection
  Source* find_or_add(const SourceId& id, UnixTime now);  // null: too many
  Epoch& epoch_of(Source& source, uint64_t epoch);
  void forget(Source& source, Epoch& epoch);
  void take_answers(const std::vector<Acknowledgement>& answers);
  void refused(Source& source, Epoch& epoch, const Acknowledgement& answer);
  void begin_epoch(uint64_t epoch);
  void take_turn(const Instant& now);
  [[nodiscard]] int64_t silence_s(const Instant& now, const SourceId& id) const;
  uint64_t grant(Source& source);
  [[nodiscard]] bool starves(const Source& source) const;
  void feed();
  void send(const PeerId& peer, FrameType type, const SourceId& source,
            const ControlMessage& message);
  void crash_at(const char* point) const;

  Door& door_;
  IntakeLimits limits_;
  Store store_;
  std::map<SourceId, Source> sources_;
  std::set<SourceId> starved_;  // told a credit of 0
  // Questions at the store or above, by who asks and of whom.
  std::map<std::pair<SourceId, SourceId>, MonoTime> asked_;
  std::map<std::string, uint64_t> counters_;
  size_t bytes_at_store_ = 0;
  size_t greeted_sources_ = 0;
  uint64_t uses_ = 0;
  MonoTime awake_since_{};  // since then, silence is theirs
  MonoTime last_turn_{};
  std::optional<std::chrono::nanoseconds> wall_ahead_;  // of the monotonic clock
};

}  // namespace weir::aggregator
