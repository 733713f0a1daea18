// What leaves the store upwards: manifests of groups that are at the last tier are released to the
// tier below; after a fence all that was not is dropped.

#include <algorithm>
#include <tuple>

#include "aggregator/store/manifest.h"
#include "aggregator/store/store.h"

namespace weir::aggregator {

std::vector<Acknowledgement> joined(std::vector<Acknowledgement> acks) {
  std::ranges::sort(acks, {}, [](const Acknowledgement& a) {
    return std::tuple(a.level, a.source, a.epoch, a.lo, a.hi);
  });
  std::vector<Acknowledgement> out;
  for (const Acknowledgement& ack : acks) {
    if (!out.empty() && out.back().level == ack.level && out.back().source == ack.source &&
        out.back().epoch == ack.epoch && out.back().reason == ack.reason &&
        ack.lo <= out.back().hi + 1) {
      out.back().hi = std::max(out.back().hi, ack.hi);
    } else {
      out.push_back(ack);
    }
  }
  return out;
}

Bytes release_key(int64_t id, const SeqSpan& span) {
  ByteWriter out;
  for (const uint64_t number : {static_cast<uint64_t>(id), span.epoch, span.lo, span.hi}) {
    out.put(number);
  }
  return std::move(out).take();
}

Result<std::vector<Acknowledgement>> Store::release(const std::vector<SeqSpan>& spans) {
  std::vector<Acknowledgement> acks;
  for (const SeqSpan& span : spans) {
    WEIR_TRY_ASSIGN(const auto more, release_where("epoch = ?1 AND lo <= ?3 AND hi >= ?2", span));
    acks.insert(acks.end(), more.begin(), more.end());
  }
  return joined(std::move(acks));
}

Result<std::vector<Acknowledgement>> Store::release_all() {
  return release_where("?1 = ?2 AND ?2 = ?3", {});
}

// A group is done when none of its batches is left in the outbox. The outbox itself is asked, not a
// message: it is what survives a crash between the deletion there and the release here. A damaged
// row stays: whose batches it has is not known, so only a new epoch, and what the last tier then
// tells those below, sets them free.
Result<std::vector<Acknowledgement>> Store::release_where(std::string_view where,
                                                          const SeqSpan& span) {
  std::vector<Acknowledgement> acks;
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT id,epoch,lo,hi,manifest FROM release WHERE " +
                                           std::string(where) + " ORDER BY epoch,lo"));
    WEIR_TRY_ASSIGN(auto erase, db_.prepare("DELETE FROM release WHERE id = ?"));
    read.bind(1, span.epoch).bind(2, span.lo).bind(3, span.hi);
    std::vector<int64_t> finished;
    for (;;) {
      WEIR_TRY_ASSIGN(const bool more, read.step());
      if (!more) break;
      const SeqSpan group{read.unsigned_integer(1), read.unsigned_integer(2),
                          read.unsigned_integer(3)};
      const auto manifest = decode_manifest(read.blob(4), release_key(read.integer(0), group));
      if (!manifest.ok()) {
        found_damage_ = true;
        continue;
      }
      WEIR_TRY_ASSIGN(const bool waits, outbox_->holds(group));
      if (waits) continue;
      for (const ManifestEntry& entry : *manifest) {
        WEIR_TRY(ledger_->add(LedgerLevel::kLastTier, entry.range));
        acks.push_back(answer(entry.range, FrameType::kAckG));
      }
      finished.push_back(read.integer(0));
    }
    for (const int64_t id : finished) {
      WEIR_TRY(erase.bind(1, id).run());
      WEIR_TRY(blocks_->release(id));
    }
    if (!finished.empty()) crash_at(".done_before");
    return {};
  });
  if (!done.ok()) return std::move(done).error().with("release");
  if (!acks.empty()) crash_at(".done_after");
  return joined(std::move(acks));
}

Status Store::begin_epoch(uint64_t epoch) {
  const bool first = outbox_->epoch() == 0;
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(outbox_->begin_epoch(epoch));
    WEIR_TRY(db_.exec("DELETE FROM inbox; DELETE FROM release"));
    WEIR_TRY(ledger_->keep_last_tier());
    WEIR_TRY(blocks_->take_back_open());
    WEIR_TRY(blocks_->save_counters());
    WEIR_TRY(coverage_->forget_missing());
    crash_at(".fence_before");
    return {};
  });
  if (!done.ok()) {
    WEIR_TRY(outbox_->undo_begin_epoch());
    WEIR_TRY(load_catalog(names_->counts()));  // counters of blocks that were rolled back
    return std::move(done).error().with("new epoch");
  }
  crash_at(".fence_after");
  if (bodies_) bodies_->give_back_all();
  if (!first) ++counts_.dropped_states;
  inbox_rows_ = 0;
  inbox_bytes_ = 0;
  found_damage_ = false;
  return load_catalog(names_->counts());
}

}  // namespace weir::aggregator
