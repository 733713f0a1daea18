#pragma once
// Outbox: batches that are durable here and not yet at the last tier, in SQLite.
//
// Owner: the edge loop, or an aggregator's store thread; works on that thread's Database so that
// its rows join the caller's transaction. Promise: a batch is returned by pending() until
// acknowledged at level 2 (ACK_G), also after kill -9; seq is 1, 2, 3 ... per epoch; the epoch is
// new for every new database. Invariant, always, in mass mod 2^64:
// pushed == acked + outbox + quarantined. No counter lives in memory, so a rolled back transaction
// leaves nothing behind. Bounded: max_bytes; append fails with kLimit when full and the caller
// counts it; the quarantine keeps the newest 64 bodies. Cost: a call is a handful of indexed
// statements; no call but open() reads more than the rows it returns or removes.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/batch.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir {

struct OutboxEntry {
  uint64_t epoch = 0;
  uint64_t seq = 0;
  Window window;
  uint64_t mass = 0;
  uint32_t raw_len = 0;
  uint32_t crc32c = 0;  // of body as stored
  Bytes body;           // as encode_batches made it; the sender compresses
};

struct OutboxStats {
  uint64_t rows = 0;
  uint64_t bytes = 0;
  uint64_t pushed_mass = 0;
  uint64_t acked_mass = 0;
  uint64_t outbox_mass = 0;
  uint64_t quarantined_mass = 0;
  uint64_t quarantined = 0;  // rows ever quarantined
};

struct SeqSpan {
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;  // inclusive
  friend bool operator==(const SeqSpan&, const SeqSpan&) = default;
};

class Outbox {
 public:
  // Creates its tables, the source id and the epoch if the database is new.
  static Result<Outbox> open(Database& db, uint64_t max_bytes);

  [[nodiscard]] const SourceId& source() const;
  [[nodiscard]] uint64_t epoch() const;

  // Whether append() of so many bytes stays within max_bytes: tells a full outbox from a full disk.
  Result<bool> has_room(size_t bytes);
  // Call inside the caller's transaction (or alone). Assigns the next seq.
  Result<uint64_t> append(const Window& window, const EncodedBatch& batch);
  // Up to max_bytes of entries with (epoch, seq) greater than the given one, in order. Rows whose
  // body fails its CRC are quarantined and counted, never sent. A first entry larger than max_bytes
  // is returned alone, so max_bytes 1 reads one entry.
  Result<std::vector<OutboxEntry>> pending(uint64_t after_epoch, uint64_t after_seq,
                                           size_t max_bytes);
  // Durable at the last tier: delete. Idempotent.
  Status acknowledged(const std::vector<SeqSpan>& spans);
  // Refused for good by the next tier: moves it to quarantine with the reason.
  Status quarantine(uint64_t epoch, uint64_t seq, const std::string& reason);
  [[nodiscard]] Result<OutboxStats> stats();

 private:
  struct Totals : OutboxStats {
    uint64_t next_seq = 1;
  };

  Outbox(Database& db, uint64_t max_bytes) : db_(&db), max_bytes_(max_bytes) {}

  Status prepare();
  Status load_identity();
  Result<Totals> load_totals();
  Status save_totals(const Totals& totals);
  // All of fn or nothing, inside the caller's transaction or alone.
  Status atomically(const std::function<Status()>& fn);

  Database* db_;
  uint64_t max_bytes_;
  SourceId source_{};
  uint64_t epoch_ = 0;
  Statement load_, save_, insert_, read_after_, read_masses_, erase_, copy_to_quarantine_,
      trim_quarantine_;
};

}  // namespace weir
