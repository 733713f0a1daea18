#pragma once
// Outbox: batches that are durable here and not yet at the last tier, in SQLite.
//
// Owner: the edge loop, or an aggregator's store thread; works on that thread's Database so that
// its rows join the caller's transaction. Promise: a batch is returned by pending() until
// acknowledged at level 2 (ACK_G), also after kill -9; seq is 1, 2, 3 ... per epoch; the epoch is
// new for every new database. Edge invariant, always: pushed == acked + outbox (in mass).
// Bounded: max_bytes; append fails with kLimit when full and the caller counts it.

#include <cstdint>
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
  Bytes body;           // as it travels
};

struct OutboxStats {
  uint64_t rows = 0;
  uint64_t bytes = 0;
  uint64_t pushed_mass = 0;
  uint64_t acked_mass = 0;
  uint64_t quarantined = 0;
};

struct SeqSpan {
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;  // inclusive
};

class Outbox {
 public:
  // Creates its tables, the source id and the epoch if the database is new.
  static Result<Outbox> open(Database& db, uint64_t max_bytes);

  [[nodiscard]] const SourceId& source() const;
  [[nodiscard]] uint64_t epoch() const;

  // Call inside the caller's transaction (or alone). Assigns the next seq.
  Result<uint64_t> append(const Window& window, const EncodedBatch& batch);
  // Up to max_bytes of entries with (epoch, seq) greater than the given one, in order. Rows whose
  // body fails its CRC are quarantined and counted, never sent.
  Result<std::vector<OutboxEntry>> pending(uint64_t after_epoch, uint64_t after_seq,
                                           size_t max_bytes);
  // Durable at the last tier: delete. Idempotent.
  Status acknowledged(const std::vector<SeqSpan>& spans);
  // Refused for good by the next tier: moves it to quarantine with the reason.
  Status quarantine(uint64_t epoch, uint64_t seq, const std::string& reason);
  [[nodiscard]] Result<OutboxStats> stats();
};

}  // namespace weir
