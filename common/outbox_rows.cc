// The rows of an outbox: how they are read, and how they leave.

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/outbox.h"

namespace weir {

// ---- what is there ----

OutboxEntry Outbox::entry_at(const Statement& row) {
  OutboxEntry entry;
  entry.id = row.unsigned_integer(0);
  entry.kind = static_cast<RowKind>(row.integer(1));
  entry.epoch = row.unsigned_integer(2);
  entry.seq = row.unsigned_integer(3);
  entry.window = {row.integer(4), static_cast<uint32_t>(row.integer(5))};
  entry.mass = row.unsigned_integer(6);
  entry.cum_mass = row.unsigned_integer(7);
  entry.raw_len = static_cast<uint32_t>(row.integer(8));
  entry.crc32c = static_cast<uint32_t>(row.integer(9));
  entry.reason = row.text(10);
  const ByteView body = row.blob(11);
  entry.body.assign(body.begin(), body.end());
  return entry;
}

Result<std::vector<OutboxEntry>> Outbox::pending(const std::optional<Target>& target,
                                                 uint64_t after_id, size_t max_bytes) {
  std::vector<OutboxEntry> entries;
  uint64_t number = kUnassigned;
  if (target) {
    WEIR_TRY_ASSIGN(number, target_number(*target, false));
    if (number == 0) return entries;
  }
  size_t bytes = 0;
  read_pending_.bind(1, number).bind(2, key(after_id));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_pending_.step());
    if (!row) break;
    bytes += std::max<size_t>(read_pending_.blob(11).size(), kTombstoneBytes);
    if (!entries.empty() && bytes > max_bytes) break;
    entries.push_back(entry_at(read_pending_));
  }
  read_pending_.reset();
  return checked(std::move(entries));
}

Result<std::vector<OutboxEntry>> Outbox::checked(std::vector<OutboxEntry> entries) {
  for (OutboxEntry& entry : entries) {
    if (entry.kind != RowKind::kData) continue;
    if (entry.body.size() == entry.raw_len && crc32c(entry.body) == entry.crc32c) continue;
    WEIR_TRY(put_aside(entry.id, "damaged"));
    WEIR_TRY_ASSIGN(auto now, this->entry(entry.id));
    WEIR_CHECK(now.has_value());
    entry = *std::move(now);
  }
  return entries;
}

Result<std::optional<OutboxEntry>> Outbox::entry(uint64_t id) {
  WEIR_TRY_ASSIGN(const bool row, read_one_.bind(1, key(id)).step());
  if (!row) return std::optional<OutboxEntry>{};
  std::vector<OutboxEntry> one;
  one.push_back(entry_at(read_one_));
  read_one_.reset();
  WEIR_TRY_ASSIGN(one, checked(std::move(one)));
  return std::optional(std::move(one.front()));
}

Result<bool> Outbox::holds(const SeqSpan& span) {
  any_of_span_.bind(1, key(span.epoch)).bind(2, key(span.lo)).bind(3, key(span.hi));
  WEIR_TRY_ASSIGN(const bool row, any_of_span_.step());
  any_of_span_.reset();
  return row;
}

Result<std::vector<AssignedRows>> Outbox::assigned() {
  std::vector<AssignedRows> out;
  Statement& read = assigned_;
  read.reset();
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return out;
    AssignedRows& rows = out.emplace_back();
    const ByteView source = read.blob(0);
    if (source.size() != rows.target.tier_source.size()) {
      return Error{Errc::kIo, "a stored target is damaged"};
    }
    std::copy(source.begin(), source.end(), rows.target.tier_source.begin());
    rows.target.tier_epoch = read.unsigned_integer(1);
    rows.oldest = {read.unsigned_integer(2), read.unsigned_integer(3), read.unsigned_integer(4)};
  }
}

Result<std::optional<SeqSpan>> Outbox::inherited(uint64_t after_id) {
  WEIR_TRY_ASSIGN(auto read,
                  db_->prepare("SELECT o.epoch, o.seq, (SELECT max(seq) FROM outbox WHERE "
                               "epoch = o.epoch) FROM outbox_assign a CROSS JOIN outbox o "
                               "USING(id) WHERE a.target = 0 AND a.id > ? AND a.id < ? "
                               "ORDER BY a.id LIMIT 1"));
  WEIR_TRY_ASSIGN(const bool row, read.bind(1, key(after_id)).bind(2, key(first_id_)).step());
  if (!row) return std::optional<SeqSpan>{};
  return std::optional(
      SeqSpan{read.unsigned_integer(0), read.unsigned_integer(1), read.unsigned_integer(2)});
}

Result<uint64_t> Outbox::newest_id(const SeqSpan& span) {
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT coalesce(max(id), 0) FROM outbox WHERE epoch = ? "
                                          "AND seq BETWEEN ? AND ?"));
  WEIR_TRY(read.bind(1, key(span.epoch)).bind(2, key(span.lo)).bind(3, key(span.hi)).step());
  return read.unsigned_integer(0);
}

Result<std::vector<uint64_t>> Outbox::epochs(size_t limit) {
  // From one epoch to the next by the index; the newest row of each tells their order.
  WEIR_TRY_ASSIGN(
      auto read,
      db_->prepare("WITH RECURSIVE e(epoch) AS (SELECT min(epoch) FROM outbox UNION ALL "
                   "SELECT (SELECT min(epoch) FROM outbox WHERE epoch > e.epoch) FROM e WHERE "
                   "epoch NOT NULL) "
                   "SELECT epoch FROM e WHERE epoch NOT NULL ORDER BY (SELECT id FROM outbox "
                   "WHERE outbox.epoch = e.epoch ORDER BY seq DESC LIMIT 1) DESC LIMIT ?"));
  read.bind(1, uint64_t{limit});
  std::vector<uint64_t> out;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return out;
    out.push_back(read.unsigned_integer(0));
  }
}

// ---- out ----

Result<std::vector<Outbox::RowSize>> Outbox::rows_of(uint64_t target, const SeqSpan& span) {
  std::vector<RowSize> rows;
  read_span_.bind(1, target).bind(2, key(span.epoch)).bind(3, key(span.lo)).bind(4, key(span.hi));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read_span_.step());
    if (!row) return rows;
    rows.push_back({read_span_.unsigned_integer(0), static_cast<RowKind>(read_span_.integer(1)),
                    read_span_.unsigned_integer(2), read_span_.unsigned_integer(3),
                    read_span_.unsigned_integer(4)});
  }
}

Status Outbox::erase(Totals& totals, uint64_t target, const RowSize& row) {
  const bool lost = row.kind == RowKind::kTombstone;
  --totals.rows;
  totals.bytes -= lost ? kTombstoneBytes : row.bytes;
  totals.outbox_mass -= row.mass;
  (lost ? totals.acked_lost_mass : totals.acked_data_mass) += row.mass;
  if (lost) --totals.tombstones;
  WEIR_TRY(erase_.bind(1, row.id).run());
  return erase_assign_.bind(1, target).bind(2, row.id).run();
}

Result<uint64_t> Outbox::acknowledged(const Target& target, const std::vector<SeqSpan>& spans) {
  uint64_t erased = 0;
  bool any = false;
  for (size_t i = 0; i < spans.size() && !any; ++i) {
    WEIR_TRY_ASSIGN(any, holds(spans[i]));
  }
  if (!any) return erased;  // a repeated acknowledgement costs no transaction
  const Status done = atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(const uint64_t number, target_number(target, false));
    if (number == 0) return {};
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    for (const SeqSpan& span : spans) {
      WEIR_TRY_ASSIGN(const auto rows, rows_of(number, span));
      for (const RowSize& row : rows) WEIR_TRY(erase(totals, number, row));
      erased += rows.size();
    }
    if (erased == 0) return {};  // a repeated acknowledgement costs no write
    return save_totals(totals);
  });
  WEIR_TRY(done);
  return erased;
}

Status Outbox::included(const Target& target, uint64_t epoch, uint64_t lo, uint64_t complete_to,
                        const std::vector<SeqSpan>& spans) {
  return atomically([&]() -> Status {
    WEIR_TRY_ASSIGN(const uint64_t number, target_number(target, false));
    if (number == kUnassigned && target != kNobody) return {};
    WEIR_TRY_ASSIGN(Totals totals, load_totals());
    WEIR_TRY_ASSIGN(const auto rows, rows_of(number, {epoch, lo, complete_to}));
    for (const RowSize& row : rows) {
      const bool taken = std::any_of(spans.begin(), spans.end(), [&](const SeqSpan& span) {
        return span.epoch == epoch && span.lo <= row.seq && row.seq <= span.hi;
      });
      if (taken) {
        WEIR_TRY(erase(totals, number, row));
      } else if (number != kUnassigned) {
        WEIR_TRY(erase_assign_.bind(1, number).bind(2, row.id).run());
        WEIR_TRY(insert_assign_.bind(1, kUnassigned).bind(2, row.id).run());
      }
    }
    return save_totals(totals);
  });
}

}  // namespace weir
