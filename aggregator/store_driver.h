#pragma once
// StoreDriver: what the store thread does, without the thread: drains, folds, settles, closes and
// maintains the store, runs the detectors, and drives the way up to the next tier.
//
// Owner and thread: whoever made it, on one thread (StoreThread's, or a simulator's only one).
// Promise: an answer is given only after its COMMIT, and given again while nobody takes it; each
// coarse window is judged once. On a full disk batches wait here and with their senders. A store
// that cannot write otherwise ends it: failed() says why, every later call does nothing, and the
// process must start anew, for what reached the disk is unknown. Cost: one fsync per drain of up to
// 64 batches or 8 MiB.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "aggregator/detect/monitor.h"
#include "aggregator/intake.h"
#include "aggregator/status.h"
#include "aggregator/store/reader.h"
#include "aggregator/store/store.h"
#include "aggregator/tier.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/result.h"
#include "common/transport.h"
#include "common/uplink.h"

namespace weir::aggregator {

enum class Detectors : uint8_t { kOn, kOff };

struct StoreThreadConfig {
  std::string path;  // of the database
  Tier tier;
  StoreOptions store;
  FencePolicy fences{};
  LinkOptions link{};  // to the next tier, for who connects
  Detectors detectors = Detectors::kOn;
  SessionOptions session{};        // of the way up; name and tier are filled in
  std::optional<uint64_t> seed{};  // of its jitter
};

// One way up, made by the owner of the driver.
struct UpwardLink {
  std::string endpoint;
  Link* link = nullptr;
};

// One moment of the store, for TierStatus.
struct StoreStatus {
  UplinkStats upstream;
  OutboxStats outbox;
  LedgerStatus ledger;
  std::vector<WindowStatus> widths;
  uint64_t inbox_rows = 0;
  uint64_t inbox_bytes = 0;
  std::map<std::string, uint64_t> counters;
};

class StoreDriver {
 public:
  // False: no room; what was not taken is given again.
  using OnAnswers = std::function<bool(const Answers&)>;

  // `links` lead to the next tier (none: this is the last one) and outlive the driver, like the
  // clock.
  static Result<std::unique_ptr<StoreDriver>> open(const StoreThreadConfig& config,
                                                   const Clock& clock,
                                                   const std::vector<UpwardLink>& links,
                                                   OnAnswers on_answers);
  StoreDriver(const StoreDriver&) = delete;
  StoreDriver& operator=(const StoreDriver&) = delete;

  void take(std::vector<StoreRequest> requests);
  void tick();  // every 100 ms
  // In force at once; names from the next closed window on.
  void set_policy(const Limits& limits, const FencePolicy& fences);

  [[nodiscard]] const std::optional<Error>& failed() const { return failed_; }

  // What the ledger held when it was opened, for Intake::restore.
  [[nodiscard]] const std::vector<SeqRange>& held_here() const { return here_; }

  [[nodiscard]] const std::vector<SeqRange>& held_at_last_tier() const { return last_tier_; }

  // As of the last tick.
  [[nodiscard]] const StoreStatus& status() const { return status_; }

  // As of now.
  [[nodiscard]] UplinkStats upstream() const { return uplink_ ? uplink_->stats() : UplinkStats{}; }

  // Who this tier is to those below, and the epoch of what they send to it; 0: none yet.
  [[nodiscard]] const SourceId& source() const { return store_->source(); }

  [[nodiscard]] uint64_t epoch() const { return store_->epoch(); }

  [[nodiscard]] Store& store() { return *store_; }

 private:
  StoreDriver(const StoreThreadConfig& config, const Clock& clock, OnAnswers on_answers)
      : config_(config), clock_(clock), on_answers_(std::move(on_answers)) {}

  Status prepare(const std::vector<UpwardLink>& links);
  Status read_what_a_start_reads();
  void connect(const std::vector<UpwardLink>& links);
  Status learn_again();
  template <class T>
  bool good(const Result<T>& result);
  // As good(); an error for want of room is not the end: false, and it is tried again.
  template <class T>
  bool stored(const Result<T>& result, const char* what);
  void answer(Answers&& answers);
  void acknowledge(Result<std::vector<Acknowledgement>> acks);
  void greet(const Greeting& greeting);
  void tell(const Question& question);
  void commit_waiting();
  void drained_in_full();
  [[nodiscard]] bool behind() const;
  void from_above(size_t upstream, ByteView header, ByteView body);
  void release_all();
  void release_taken();
  Status begin_epoch(uint64_t epoch);
  void wait_for_room();
  bool fold_before(int64_t before_s);
  void fold_if_due();
  void settle_windows();
  void close_windows();
  void maintain_if_due();
  void publish();
  void publish_ledger(LedgerStatus& ledger);

  [[nodiscard]] int64_t now_s() const { return unix_seconds(clock_.now()); }

  StoreThreadConfig config_;
  const Clock& clock_;
  OnAnswers on_answers_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Reader> reader_;  // of the detectors
  Monitor monitor_;
  std::optional<Uplink> uplink_;
  std::vector<SeqRange> here_;
  std::vector<SeqRange> last_tier_;
  StoreStatus status_;
  std::vector<AcceptedBatch> waiting_;
  Answers unsent_;
  MonoTime next_fold_{};
  MonoTime behind_until_{};
  MonoTime behind_since_{};
  MonoTime no_room_until_{};
  MonoTime next_maintenance_{};
  MonoTime next_ledger_{};
  std::vector<SeqSpan> to_release_;
  log::Limited warnings_;
  uint64_t detector_errors_ = 0;
  uint64_t questions_unasked_ = 0;
  std::map<SourceId, SourceId> askers_;  // by source: who passed its question on to this tier
  std::optional<Error> failed_;
  bool released_all_ = false;
  bool confirmed_ = false;  // the tier above: its epoch is ours
};

}  // namespace weir::aggregator
