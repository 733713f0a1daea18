#pragma once
// Store: the writing half of an aggregator's database. Batches enter the inbox together with their
// dedup key, a fold turns the inbox into fine and coarse blocks and one group of batches per coarse
// window for the next tier, and the manifest of each group is released when all of it is at the
// last tier. The last tier hands out the epochs of those below, fences them and keeps the accounts
// (docs/wire.md "Failover", "Accounts").
//
// Owner and thread: the store thread, which opens it (or a test). Promise: every call is one
// transaction, all or nothing, also under kill -9; a batch is counted once however often it comes;
// nothing is acknowledged by what a failed call returns. kLimit: the disk is full, nothing was
// done, and the same call may pass later. After kIo the process must stop: SQLite cannot say what
// reached the disk. A damaged file is put aside by open(), and a new store begins: a lost disk; one
// damaged row does less (docs/disk.md).
// Cost: one fsync per call that writes.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/detect/anomaly.h"
#include "aggregator/ledger.h"
#include "aggregator/status.h"
#include "aggregator/store/accounts.h"
#include "aggregator/store/blocks.h"
#include "aggregator/store/body_file.h"
#include "aggregator/store/catalog.h"
#include "aggregator/store/coverage.h"
#include "aggregator/store/fence_policy.h"
#include "aggregator/store/groups.h"
#include "aggregator/store/names.h"
#include "aggregator/store/tier_epochs.h"
#include "aggregator/store_messages.h"
#include "aggregator/tier.h"
#include "common/clock.h"
#include "common/disk_budget.h"
#include "common/outbox.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

struct StoreOptions {
  DatabaseOptions database{};               // in_memory and vfs: of simulations and tests
  std::optional<DiskBudgetOptions> disk{};  // none: the files grow as they need to
  BodyFileOptions bodies{};                 // of its calls; its budget is `disk`
  std::optional<SourceId> source{};         // from a key; else of the tier's kind and name
  std::function<uint64_t()> random{};       // of the database's own epoch; default: the kernel's
  Limits limits = tier_limits();
  size_t catalog_rows = kCatalogRows;
  uint64_t outbox_max_bytes = uint64_t{4} << 30;
  uint64_t inbox_max_bytes = uint64_t{1} << 30;  // of what may be folded
  size_t lives = 4096;                           // epochs of one source until they are forgotten
  size_t fold_bytes = size_t{16} << 20;          // inbox bytes decoded in one transaction
};

[[nodiscard]] inline Acknowledgement answer(const SeqRange& range, FrameType level) {
  Acknowledgement out;
  out.source = range.source;
  out.epoch = range.epoch;
  out.lo = range.lo;
  out.hi = range.hi;
  out.level = level;
  return out;
}

// What a row of table `release` says beside its manifest.
[[nodiscard]] Bytes release_key(int64_t id, const SeqSpan& span);

// Joins acknowledgements of one (source, epoch, level) that touch.
[[nodiscard]] std::vector<Acknowledgement> joined(std::vector<Acknowledgement> acks);

struct FoldResult {
  size_t batches = 0;
  size_t quarantined = 0;  // of these: damaged; asked for again unless this is the last tier
  bool more = false;       // the inbox holds more than one fold takes
  std::string blocked_by;  // not empty: no room for the results, so the inbox keeps all of it
  std::vector<Acknowledgement> acks;
};

class Store {
 public:
  static Result<std::unique_ptr<Store>> open(const std::string& path, const Tier& tier,
                                             const StoreOptions& options, int64_t now_s);
  // kIo when it is damaged: for who reads more of it before it is trusted.
  static Result<std::unique_ptr<Store>> open_as_it_is(const std::string& path, const Tier& tier,
                                                      const StoreOptions& options, int64_t now_s);
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Who this tier is to those below, and the epoch that what they send must be assigned to; 0: none
  // has been handed out to it yet.
  [[nodiscard]] const SourceId& source() const { return outbox_->source(); }

  [[nodiscard]] uint64_t epoch() const { return tier_.last() ? own_epoch_ : outbox_->epoch(); }

  // Stores what is new; the answers cover every batch, duplicates as well.
  Result<std::vector<Acknowledgement>> drain(std::span<const AcceptedBatch> batches);

  // Epochs have been handed out to it.
  [[nodiscard]] bool knows_tier(const SourceId& tier) const { return epochs_->is_tier(tier); }

  // The epoch of a tier below that says HELLO.
  Result<Greeted> greet(const Greeting& greeting);
  // Of the last tier: fences if it may, and then tells what is included. Also what it discarded.
  Result<Answers> tell(const Question& question, int64_t lived_s);

  void set_fences(const FencePolicy& policy) { fences_ = policy; }

  // The tier above has another epoch for us: what it did not take is dropped, for those below still
  // have it.
  Status begin_epoch(uint64_t epoch);

  // Of the last tier: sources whose account does not balance; and those it cannot be said of. What
  // a tier did not deliver of a fenced epoch comes again from below.
  Result<std::vector<Accounts::Off>> unbalanced() { return accounts_->off(); }

  Result<std::vector<Accounts::Gaps>> gaps() {
    return accounts_->gaps([this](const SourceId& source, uint64_t epoch) {
      return epochs_->is_tier(source) && epochs_->refuses(source, epoch);
    });
  }

  Result<uint64_t> accounted_sources() { return accounts_->sources(); }

  // Do not drain now: batches stay with their senders until folds have made room. Groups that are
  // not whole have limits of their own: what one sender does not finish is not to stop all.
  [[nodiscard]] bool inbox_full() const {
    return inbox_bytes_ - unfinished_bytes() >= options_.inbox_max_bytes;
  }

  // Of the inbox: parts of groups that are not whole.
  [[nodiscard]] uint64_t unfinished_bytes() const;

  // Folds inbox rows of windows that start before `before_s`.
  Result<FoldResult> fold(int64_t before_s);

  // Call when outgoing batches may have reached the last tier: the manifests of the folds that
  // are done. Without spans: looks at every fold (after a start).
  Result<std::vector<Acknowledgement>> release(const std::vector<SeqSpan>& spans);
  Result<std::vector<Acknowledgement>> release_all();

  // A manifest that was to be released is damaged: nobody here can tell which batches are above.
  // Since the previous call or begin_epoch(), which is the cure.
  bool take_damage() { return std::exchange(found_damage_, false); }

  // Windows that end at or before this are closed; none before the first fold.
  [[nodiscard]] std::optional<int64_t> closed_to_s() const { return closed_to_s_; }

  // The oldest coarse window that is over, folded and not closed yet.
  [[nodiscard]] Result<std::optional<Window>> closable(int64_t now_s);
  // Inbox rows that still belong to it: fold first.
  [[nodiscard]] Result<bool> has_inbox(const Window& coarse);
  // Stores what was detected and marks the window closed, in one transaction.
  Status close(const Window& window, const std::vector<Anomaly>& anomalies);

  // In force from the next close() on.
  void set_limits(const Limits& limits);

  // The oldest fine window that is over for close_after and not settled: fold what the inbox has of
  // it, then settle().
  [[nodiscard]] std::optional<Window> unsettled(int64_t now_s) const;
  // Records, as data of that window, which sources it lacks (store/coverage.h). False: there is no
  // room for it; try later.
  Result<bool> settle();

  // None: it has no disk, or no budget.
  Result<std::optional<DiskUsage>> disk_usage();

  // One slice of sealing, retention and forgetting. True: there is more to do. A wall clock that is
  // set destroys nothing by it: retention goes on at twice the pace of `mono` at most, and what is
  // forgotten has not been used for so long by `mono` alone.
  Result<bool> maintain(int64_t now_s, MonoTime mono);

  // Seconds that processes lived through with this database, from no particular beginning: the time
  // of fences and of what will be forgotten.
  [[nodiscard]] int64_t lived_s() const { return lived_s_; }

  [[nodiscard]] Outbox& outbox() { return *outbox_; }

  [[nodiscard]] Ledger& ledger() { return *ledger_; }

  [[nodiscard]] const Tier& tier() const { return tier_; }

  [[nodiscard]] uint64_t inbox_rows() const { return inbox_rows_; }

  [[nodiscard]] uint64_t inbox_bytes() const { return inbox_bytes_; }

  Result<std::vector<WindowStatus>> widths(int64_t now_s);
  [[nodiscard]] std::map<std::string, uint64_t> counters() const;  // weir_store_*

 private:
  struct Folding;  // of fold.cc

  struct Counts {
    uint64_t batches = 0, duplicates = 0, ledger_full = 0;
    uint64_t folds = 0, folded_batches = 0, folded_rows = 0, blocked = 0, bad_batches = 0;
    uint64_t lost_batches = 0;
    uint64_t refused_rows = 0, unmerged = 0, out_batches = 0, imbalance = 0;
    uint64_t missing = 0;
    uint64_t fences = 0, fenced_batches = 0, discarded_parts = 0, dropped_states = 0;
    uint64_t wrong_target = 0, overlaps = 0, lives_refused = 0, parts_refused = 0;
    uint64_t damaged = 0, sealed = 0,
             merged_open = 0;  // of blocks before a reload
  };

  Store(Database db, const Tier& tier, const StoreOptions& options, const std::string& path)
      : db_(std::move(db)), tier_(tier), options_(options), reader_(body_file(path)) {}

  Status prepare(const std::string& path, int64_t now_s);
  Status open_inbox(const std::string& path);
  Status discard_damaged_groups();
  Status make_room(uint64_t bytes);
  Status load_catalog(const Names::Counts& names);
  Status restore_names();
  Status read_inbox(int64_t before_s, Folding& folding);
  Status read_batch(Folding& folding, DecodedBatch&& batch, int64_t start_s);
  Status quarantine(Folding& folding, size_t index);
  Status add_row(Folding& folding, int64_t start_s, uint32_t metric, const Labels& labels,
                 Value&& value);
  Status take_coverage(Folding& folding);
  Status add_reports(Folding& folding, const Window& window);
  // Of a transaction that failed: back to what is committed. False: there was no room for it.
  Result<bool> undo(Status failed, const char* what, const Counts& counts,
                    const Names::Counts& names);
  // What limits did to a window, as data of it. Left out if there is no room.
  Status publish_reports(const Window& window);
  Status add_tombstone(Folding& folding, const SourceId& source, const Tombstone& tombstone,
                       int64_t start_s);
  Status add_own(Folding& folding, const Metric& metric, int64_t start_s, const Labels& labels,
                 uint64_t delta);
  Status write_blocks(Folding& folding);
  Status write_outbox(Folding& folding);
  void check_masses(const Folding& folding);
  Status begin_closing_at(int64_t coarse_start_s);
  using EpochKey = std::pair<SourceId, uint64_t>;
  enum class Verdict : uint8_t { kHeld, kNew, kRefused };
  // Why nothing new of it is taken for now; null: it is.
  Result<const char*> limit_met(const AcceptedBatch& batch);
  Result<bool> may_live(const SourceId& source, uint64_t epoch);
  [[nodiscard]] bool is_part(const AcceptedBatch& batch) const;  // of a group that must be whole
  Result<bool> part_fits(const AcceptedBatch& batch);
  Status make_whole(const SeqRange& group);
  Result<Verdict> claim(const AcceptedBatch& batch, std::vector<Acknowledgement>& acks);
  Status insert(const AcceptedBatch& batch);
  Status account_for(const AcceptedBatch& batch);
  Status enter(const ManifestEntry& entry);
  Status touch(const SourceId& source, uint64_t epoch);
  Result<bool> may_fence(const Question& question);
  Result<std::vector<SeqRange>> fence(const SourceId& tier, uint64_t epoch, int64_t lived_s,
                                      const std::string& why);
  Result<std::vector<Acknowledgement>> release_where(std::string_view where, const SeqSpan& span);
  Status forget_old();
  Result<std::set<EpochKey>> named_here();
  void live_on(int64_t now_s, MonoTime mono);
  void crash_at(const char* point) const;
  int64_t retention_cut(Grain grain) const;

  Database db_;
  Tier tier_;
  StoreOptions options_;
  WindowNumbers numbers_;
  std::optional<DiskBudget> disk_;
  std::optional<BodyFile> bodies_;  // none: no disk, so they are in their rows
  BodyReader reader_;
  std::optional<Catalog> catalog_;
  SeriesReports reports_{SeriesReport("in fine windows"), SeriesReport("in coarse windows")};
  std::optional<Names> names_;
  std::optional<Blocks> blocks_;
  std::optional<Coverage> coverage_;
  std::optional<Outbox> outbox_;
  std::optional<Ledger> ledger_;
  std::optional<TierEpochs> epochs_;
  std::optional<Groups> groups_;
  std::optional<Accounts> accounts_;
  FencePolicy fences_;
  Statement insert_inbox_, inbox_of_window_, whole_, size_of_parts_, touch_, lives_;
  std::map<EpochKey, int64_t> touched_;         // as table `used`, an hour late
  std::map<EpochKey, uint64_t> unfinished_;     // bytes of parts of groups that are not whole
  std::map<std::string, uint64_t> tombstones_;  // folded, by reason
  bool found_damage_ = false;                   // in a manifest to be released
  uint64_t own_epoch_ = 0;
  int64_t last_group_ = 0;
  std::optional<MonoTime> began_;
  int64_t lived_before_s_ = 0;       // earlier processes, as far as it was written down
  int64_t lived_s_ = 0;              // as of the last maintenance
  int64_t next_forget_s_ = 0;        // lived
  int64_t retain_to_s_ = INT64_MIN;  // what retention believes is now; INT64_MIN: no data yet
  int64_t retained_s_ = INT64_MIN;   // the most it ever believed
  std::optional<int64_t> closed_to_s_;
  int64_t newest_end_s_ = INT64_MIN;  // of folded windows: retention never runs ahead of the data
  uint64_t inbox_rows_ = 0;
  uint64_t inbox_bytes_ = 0;

  Counts counts_;
};

}  // namespace weir::aggregator
