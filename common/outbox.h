#pragma once
// Outbox: batches that are durable here and not yet at the last tier, in SQLite.
//
// Owner: the edge loop, or an aggregator's store thread; works on that thread's Database so that
// its rows join the caller's transaction. Promise: a row is there until acknowledged at the last
// tier (ACK_G, or a fenced tier's INCLUDED), also after kill -9. A row is assigned to at most one
// target, durably before its first send, and leaves it only by included(). What is given up becomes
// a tombstone, a row as any other without a body; nothing is dropped silently. seq is 1, 2, 3 ...
// per epoch, and no (epoch, seq) is ever used twice, not even by an old copy of the database.
// Invariant, always, in mass mod 2^64: pushed == acked_data + acked_lost + outbox (tombstones
// included) + discarded. No counter lives in memory, so a rolled back transaction leaves nothing
// behind. Bounded: max_bytes, a tombstone counted as kTombstoneBytes; the quarantine keeps the
// newest 64 bodies. Cost: a call is a handful of indexed statements; none reads more than the rows
// it returns or changes.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/batch.h"
#include "common/clock.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir {

struct SeqSpan {
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;  // inclusive
  friend bool operator==(const SeqSpan&, const SeqSpan&) = default;
};

// One life of the tier that a row is meant for.
struct Target {
  SourceId tier_source{};
  uint64_t tier_epoch = 0;
  friend auto operator<=>(const Target&, const Target&) = default;
};

enum class EpochRule : uint8_t {
  kOwn,        // random, a new one at the first append of each open()
  kHandedOut,  // 0, and no append, until begin_epoch(); survives open()
};

enum class WhenFull : uint8_t {
  kDropOldest,  // the oldest data becomes tombstones: new data is worth more
  kRefuse,      // append fails with kLimit
};

struct OutboxOptions {
  uint64_t max_bytes = uint64_t{1} << 30;
  EpochRule epoch_rule = EpochRule::kOwn;
  WhenFull when_full = WhenFull::kDropOldest;
  std::optional<SourceId> source{};    // from a key; otherwise random, made with the database
  std::function<uint64_t()> random{};  // of source and epochs; default: the kernel's
};

enum class RowKind : uint8_t { kData = 1, kTombstone = 2 };

struct OutboxEntry {
  uint64_t id = 0;  // in the order of appending, never used twice
  RowKind kind = RowKind::kData;
  uint64_t epoch = 0;
  uint64_t seq = 0;
  Window window;
  uint64_t mass = 0;      // of a tombstone: of the batch given up
  uint64_t cum_mass = 0;  // of the epoch, up to and with this row
  uint32_t raw_len = 0;
  uint32_t crc32c = 0;  // of body as stored
  std::string reason;   // of a tombstone
  Bytes body;           // as encode_batches made it, stamped; the sender compresses
};

struct OutboxStats {
  uint64_t rows = 0;  // tombstones included
  uint64_t bytes = 0;
  uint64_t tombstones = 0;
  uint64_t pushed_mass = 0;
  uint64_t acked_data_mass = 0;
  uint64_t acked_lost_mass = 0;  // as tombstones
  uint64_t outbox_mass = 0;
  uint64_t discarded_mass = 0;  // by begin_epoch(): never on an edge
  uint64_t quarantined = 0;     // rows ever refused for good or found damaged
  int64_t oldest_data_s = 0;    // start of the oldest window with data; 0: none

  [[nodiscard]] uint64_t acked_mass() const { return acked_data_mass + acked_lost_mass; }
};

// Of rows that have no target. No life of a tier has epoch 0.
inline constexpr Target kNobody{};

// What a target has: the numbers of its oldest row's epoch, from that row to the epoch's last.
struct AssignedRows {
  Target target;
  SeqSpan oldest;
};

// Given up since the database was made, by reason.
struct Loss {
  uint64_t rows = 0;
  uint64_t mass = 0;
};

class Outbox {
 public:
  static constexpr uint64_t kTombstoneBytes = 128;

  // Creates its tables and the source id if the database is new. kInvalid: it is another source's.
  static Result<Outbox> open(Database& db, OutboxOptions options);

  [[nodiscard]] const SourceId& source() const { return source_; }

  // Of the next append; 0: none has been handed out.
  [[nodiscard]] uint64_t epoch() const { return epoch_; }

  // Of the next append.
  Result<uint64_t> next_seq();

  // Grows before rows or their assignments change. The same as at an earlier read outside of any
  // transaction: what was read then is still so.
  [[nodiscard]] uint64_t revision() const { return revision_; }

  // Rows with a lower id were here before open().
  [[nodiscard]] uint64_t first_id() const { return first_id_; }

  // A tier's outbox begins a life that was handed out to it: seq starts at 1. Rows of an earlier
  // one are discarded: the caller takes back what they hold, in the same transaction.
  Status begin_epoch(uint64_t epoch);
  // The caller's transaction with it was rolled back.
  Status undo_begin_epoch();

  // Call inside the caller's transaction (or alone). Gives the batch the next seq and its cum_mass.
  // kLimit: no room even without all older data, or a full disk (the caller's transaction is then
  // over; in the next one it may drop_oldest() first); kUnavailable: no epoch.
  Result<uint64_t> append(const Window& window, const EncodedBatch& batch,
                          const std::optional<Target>& target = std::nullopt);

  // Those of these rows that are not assigned yet; the others stay what they are.
  Status assign(const Target& target, const std::vector<uint64_t>& ids);
  // The same by number: the target says that it holds these. Returns their ids.
  Result<std::vector<uint64_t>> claim(const Target& target, const std::vector<SeqSpan>& spans);
  // Up to max_bytes of the target's rows (nullopt: not assigned) with an id greater than the given
  // one, in order. A row whose body fails its CRC comes as the tombstone that it becomes. A first
  // entry larger than max_bytes is returned alone, so max_bytes 1 reads one entry.
  Result<std::vector<OutboxEntry>> pending(const std::optional<Target>& target, uint64_t after_id,
                                           size_t max_bytes);
  // Nothing: it has left the outbox.
  Result<std::optional<OutboxEntry>> entry(uint64_t id);
  // Whether one of these is still here.
  Result<bool> holds(const SeqSpan& span);
  // Targets that have rows.
  Result<std::vector<AssignedRows>> assigned();
  // Nobody's rows that were here before open() and have an id greater than the given one: the
  // numbers of the oldest one's epoch, from that row to the epoch's last. None: no such row.
  Result<std::optional<SeqSpan>> inherited(uint64_t after_id);
  // Of these rows, or 0.
  Result<uint64_t> newest_id(const SeqSpan& span);
  // Epochs that have rows, the newest first.
  Result<std::vector<uint64_t>> epochs(size_t limit);

  // Durable at the last tier: those assigned to this target are deleted. Idempotent. Returns how
  // many were.
  Result<uint64_t> acknowledged(const Target& target, const std::vector<SeqSpan>& spans);
  // The last tier takes nothing of the target (or it is kNobody) any more, and has only `spans` of
  // lo..complete_to: these are acknowledged, the others of lo..complete_to are not assigned any
  // more. Rows of other targets stay. Idempotent.
  Status included(const Target& target, uint64_t epoch, uint64_t lo, uint64_t complete_to,
                  const std::vector<SeqSpan>& spans);

  // Give up; see outbox_limits.cc. Oldest windows first, until so many bytes are free or no data is
  // left; returns the bytes.
  Result<uint64_t> drop_oldest(uint64_t bytes, const std::string& reason);
  // Appended so long ago, in time that processes lived through with this outbox: no wall clock is
  // asked, for it may be set, and while none runs nothing ages. At most `limit` rows; call it each
  // second or so. Returns how many.
  Result<uint64_t> drop_older_than(std::chrono::seconds age, MonoTime now,
                                   const std::string& reason, size_t limit = 256);
  // Refused for good: the body moves to the quarantine, a tombstone stays. Nothing when the row is
  // not this target's data.
  Status quarantine(const Target& target, uint64_t epoch, uint64_t seq, const std::string& reason);

  Result<OutboxStats> stats();
  Result<std::map<std::string, Loss>> losses();

 private:
  static constexpr uint64_t kLargestKey = INT64_MAX;  // SQLite's integers are signed
  static constexpr uint64_t kUnassigned = 0;          // a target's number

  static uint64_t key(uint64_t number) { return number < kLargestKey ? number : kLargestKey; }

  struct Totals : OutboxStats {
    uint64_t next_id = 1;
    uint64_t epoch = 0;
    uint64_t next_seq = 1;
    uint64_t cum_mass = 0;
  };

  struct RowSize {
    uint64_t id = 0;
    RowKind kind = RowKind::kData;
    uint64_t seq = 0;
    uint64_t mass = 0;
    uint64_t bytes = 0;
  };

  Outbox(Database& db, OutboxOptions options) : db_(&db), options_(std::move(options)) {}

  Status prepare();
  Status prepare_statements();
  Status load_identity();
  Result<Totals> load_totals();
  Status save_totals(const Totals& totals);
  // All of fn or nothing, inside the caller's transaction or alone.
  Status atomically(const std::function<Status()>& fn);
  Status insert(const OutboxEntry& entry);
  // 0: it has no rows and no number; made when `create`.
  Result<uint64_t> target_number(const Target& target, bool create);
  Result<std::vector<RowSize>> rows_of(uint64_t target, const SeqSpan& span);
  Status erase(Totals& totals, uint64_t target, const RowSize& row);
  OutboxEntry entry_at(const Statement& row);
  Result<std::vector<OutboxEntry>> checked(std::vector<OutboxEntry> entries);
  Status put_aside(uint64_t id, const std::string& reason);
  Status bury_refused(uint64_t id, const std::string& reason);
  Status bury(Totals& totals, const RowSize& row, const std::string& reason);
  static Result<std::vector<RowSize>> sizes(Statement& read);
  Status mark_age(int64_t lived_s);

  Database* db_;
  OutboxOptions options_;
  SourceId source_{};
  uint64_t epoch_ = 0;
  uint64_t first_id_ = 1;
  uint64_t revision_ = 0;
  std::optional<std::pair<Target, uint64_t>> known_target_;  // the newest asked for, as committed
  int64_t lived_before_s_ = 0;  // by earlier processes, as far as it was written down
  int64_t marked_s_ = -1;       // the newest mark
  std::optional<MonoTime> began_;
  Statement load_, save_, insert_, insert_assign_, erase_assign_, erase_, read_pending_, read_one_,
      read_span_, any_of_span_, find_target_, add_target_, read_head_, oldest_, count_loss_,
      copy_to_quarantine_, trim_quarantine_, assigned_, mark_before_;
};

}  // namespace weir
