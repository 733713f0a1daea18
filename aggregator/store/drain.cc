// What enters the store: batches with their dedup key, greetings of tiers, and questions about what
// they delivered; each in one transaction.

#include <algorithm>
#include <string>

#include "aggregator/store/store.h"
#include "common/crash_point.h"
#include "common/keys.h"

namespace weir::aggregator {
namespace {

constexpr int64_t kTouchEveryS = 3600;
// Groups that are not whole, of one epoch of a tier: beyond a share of the inbox only the oldest
// one goes on, until it is larger than any that a fold makes.
constexpr uint64_t kUnfinishedShare = 16;  // a 16th
constexpr uint64_t kLargestGroup = uint64_t{128} << 20;
constexpr uint64_t kRowBytes = 256;  // of an inbox row and its index entries, without the body

SeqRange seq_of(const AcceptedBatch& batch) {
  return {batch.source, batch.epoch, batch.seq, batch.seq};
}

Acknowledgement refused_for_now(const AcceptedBatch& batch, std::string reason) {
  Acknowledgement out = answer(seq_of(batch), FrameType::kNack);
  out.refusal = Refusal::kForNow;
  out.reason = std::move(reason);
  return out;
}

}  // namespace

void Store::crash_at(const char* point) const { crash_point((tier_.kind + point).c_str()); }

Result<Store::Verdict> Store::claim(const AcceptedBatch& batch,
                                    std::vector<Acknowledgement>& acks) {
  // It was meant for another life of this tier; in that one it may be counted already.
  if (batch.target_epoch != epoch()) {
    ++counts_.wrong_target;
    acks.push_back(refused_for_now(batch, kNackTargetEpoch));
    return Verdict::kRefused;
  }
  if (epochs_->is_tier(batch.source) && epochs_->refuses(batch.source, batch.epoch)) {
    WEIR_TRY_ASSIGN(const bool held,
                    ledger_->holds(LedgerLevel::kHere, batch.source, batch.epoch, batch.seq));
    if (!held) {
      ++counts_.fenced_batches;
      acks.push_back(answer(seq_of(batch), FrameType::kFenced));
      return Verdict::kRefused;
    }
  }
  WEIR_TRY_ASSIGN(const char* limit, limit_met(batch));
  if (limit != nullptr) {
    acks.push_back(refused_for_now(batch, limit));
    return Verdict::kRefused;
  }
  WEIR_TRY(touch(batch.source, batch.epoch));
  auto claimed = ledger_->claim(LedgerLevel::kHere, batch.source, batch.epoch, batch.seq);
  if (!claimed.ok()) {
    if (claimed.error().code != Errc::kLimit) return std::move(claimed).error();
    ++counts_.ledger_full;  // its sender keeps it until gaps have closed
    acks.push_back(refused_for_now(batch, "too many gaps in the sequence"));
    return Verdict::kRefused;
  }
  acks.push_back(answer(seq_of(batch), FrameType::kAckR));
  if (tier_.last()) acks.push_back(answer(seq_of(batch), FrameType::kAckG));
  if (*claimed) {
    if (is_part(batch)) unfinished_[{batch.source, batch.epoch}] += batch.raw_len;
    return Verdict::kNew;
  }
  ++counts_.duplicates;
  if (!tier_.last()) {  // its first acknowledgement from the last tier may have been lost
    WEIR_TRY_ASSIGN(const bool there,
                    ledger_->holds(LedgerLevel::kLastTier, batch.source, batch.epoch, batch.seq));
    if (there) acks.push_back(answer(seq_of(batch), FrameType::kAckG));
  }
  return Verdict::kHeld;
}

Result<const char*> Store::limit_met(const AcceptedBatch& batch) {
  WEIR_TRY_ASSIGN(const bool lives, may_live(batch.source, batch.epoch));
  if (!lives) {
    ++counts_.lives_refused;
    return "too many epochs of this source (limits.lives)";
  }
  WEIR_TRY_ASSIGN(const bool fits, part_fits(batch));
  if (!fits) {
    ++counts_.parts_refused;
    return "too many rollups that are not whole";
  }
  return static_cast<const char*>(nullptr);
}

// Of who sends to this tier. What manifests name was let in by the tier below.
Result<bool> Store::may_live(const SourceId& source, uint64_t epoch) {
  if (touched_.contains({source, epoch})) return true;
  WEIR_TRY(lives_.bind(1, ByteView(source)).bind(2, epoch).step());
  const bool known = lives_.integer(0) != 0;
  const uint64_t others = lives_.unsigned_integer(1);
  lives_.reset();
  return known || others < options_.lives;
}

bool Store::is_part(const AcceptedBatch& batch) const {
  return tier_.last() && batch.type == FrameType::kOut && batch.parts > 1;
}

Result<bool> Store::part_fits(const AcceptedBatch& batch) {
  if (!is_part(batch)) return true;
  const auto found = unfinished_.find({batch.source, batch.epoch});
  const uint64_t share = options_.inbox_max_bytes / kUnfinishedShare;
  const uint64_t bytes = batch.raw_len + (found != unfinished_.end() ? found->second : 0);
  if (found == unfinished_.end() || bytes <= share) return true;
  WEIR_TRY_ASSIGN(const bool held,
                  ledger_->holds(LedgerLevel::kHere, batch.source, batch.epoch, batch.seq));
  if (held) return true;  // answered again
  WEIR_TRY_ASSIGN(const uint64_t oldest, groups_->oldest(batch.source, batch.epoch));
  return bytes <= share + kLargestGroup && batch.seq - batch.part <= oldest;
}

uint64_t Store::unfinished_bytes() const {
  uint64_t sum = 0;
  for (const auto& [key, bytes] : unfinished_) sum += bytes;
  return sum;
}

Status Store::insert(const AcceptedBatch& batch) {
  const bool whole = !is_part(batch);
  insert_inbox_.bind(1, ByteView(batch.source)).bind(2, batch.epoch).bind(3, batch.seq);
  insert_inbox_.bind(4, batch.window.start_s).bind(5, batch.mass);
  insert_inbox_.bind(6, int64_t{batch.type == FrameType::kTombstone ? 2 : 1});
  insert_inbox_.bind(7, int64_t{whole ? 1 : 0});
  insert_inbox_.bind(8, int64_t{batch.raw_len}).bind(9, int64_t{batch.crc32c});
  insert_inbox_.bind(11, uint64_t{batch.body.size()});
  if (bodies_) {
    WEIR_TRY_ASSIGN(const uint64_t place, bodies_->write(batch.body));
    insert_inbox_.bind(10, place).bind_null(12);
  } else {
    insert_inbox_.bind_null(10).bind_lent(12, batch.body);
  }
  WEIR_TRY(insert_inbox_.run());
  ++counts_.batches;
  return tier_.last() ? account_for(batch) : Status{};
}

// At the last tier, with the batch: what is merged.
Status Store::account_for(const AcceptedBatch& batch) {
  if (batch.type != FrameType::kOut) {
    return enter({seq_of(batch), batch.mass, batch.cum_mass, batch.type == FrameType::kTombstone});
  }
  WEIR_TRY_ASSIGN(const auto group, groups_->add(batch));
  if (!group) return {};
  const SeqRange& own = group->own.range;
  if (own.lo != own.hi) WEIR_TRY(make_whole(own));
  WEIR_TRY(enter(group->own));
  for (const ManifestEntry& entry : group->manifest) {
    WEIR_TRY(enter(entry));
    WEIR_TRY(touch(entry.range.source, entry.range.epoch));
  }
  return {};
}

Status Store::make_whole(const SeqRange& group) {
  for (Statement* each : {&size_of_parts_, &whole_}) {
    each->bind(1, ByteView(group.source)).bind(2, group.epoch).bind(3, group.lo).bind(4, group.hi);
  }
  WEIR_TRY(size_of_parts_.step());
  const uint64_t bytes = size_of_parts_.unsigned_integer(0);
  size_of_parts_.reset();
  const auto found = unfinished_.find({group.source, group.epoch});
  if (found != unfinished_.end() && found->second > bytes) {
    found->second -= bytes;
  } else if (found != unfinished_.end()) {
    unfinished_.erase(found);
  }
  return whole_.run();
}

Status Store::enter(const ManifestEntry& entry) {
  WEIR_TRY_ASSIGN(const bool is_new, accounts_->enter(entry));
  if (!is_new) ++counts_.overlaps;
  return {};
}

Status Store::touch(const SourceId& source, uint64_t epoch) {
  const auto [known, is_new] = touched_.try_emplace({source, epoch}, lived_s_);
  if (!is_new && lived_s_ < known->second + kTouchEveryS) return {};
  known->second = lived_s_;
  return touch_.bind(1, ByteView(source)).bind(2, epoch).bind(3, lived_s_).run();
}

Result<std::vector<Acknowledgement>> Store::drain(std::span<const AcceptedBatch> batches) {
  std::vector<Acknowledgement> acks;
  uint64_t rows = 0;
  uint64_t bytes = 0;
  uint64_t offered = 0;
  for (const AcceptedBatch& batch : batches) offered += bodies_ ? kRowBytes : batch.body.size();
  WEIR_TRY(make_room(offered));
  const Counts counts_before = counts_;
  const auto unfinished_before = unfinished_;
  Status done = db_.transaction([&]() -> Status {
    std::vector<const AcceptedBatch*> fresh;
    for (const AcceptedBatch& batch : batches) {
      WEIR_TRY_ASSIGN(const Verdict verdict, claim(batch, acks));
      if (verdict == Verdict::kNew) fresh.push_back(&batch);
    }
#ifdef WEIR_MUTATE_KEY_OUTSIDE  // a build that tests must refuse
    WEIR_TRY(db_.exec("COMMIT; BEGIN IMMEDIATE"));
#endif
    for (const AcceptedBatch* batch : fresh) {
      WEIR_TRY(insert(*batch));
      ++rows;
      bytes += batch->raw_len;
    }
    if (bodies_) WEIR_TRY(bodies_->sync());
    crash_at(".drain_before");
    return {};
  });
  if (!done.ok()) {
    if (bodies_) bodies_->drop();
    counts_ = counts_before;
    unfinished_ = unfinished_before;
    touched_.clear();
    return std::move(done).error().with("drain");
  }
  if (bodies_) bodies_->keep();
  crash_at(".drain_after");
  inbox_rows_ += rows;
  inbox_bytes_ += bytes;
  return joined(std::move(acks));
}

Result<Greeted> Store::greet(const Greeting& greeting) {
  Greeted out{.source = greeting.source, .your_epoch = 0};
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(out.your_epoch,
                    epochs_->greet(greeting.source, greeting.name, greeting.current));
    return {};
  });
  if (!done.ok()) {
    WEIR_TRY_ASSIGN(epochs_,
                    TierEpochs::open(db_));  // without what was rolled back
    return std::move(done).error().with("greet");
  }
  return out;
}

Result<bool> Store::may_fence(const Question& question) {
  const AskIncluded& ask = question.ask;
  // Superseded: nobody is in it who does not have to greet anew.
  if (ask.tier_epoch != epochs_->last(ask.tier_source)) return true;
  if (question.silent_s >= fences_.after_s) return true;
  return std::ranges::any_of(fences_.named, [&](const std::string& name) {
    return name == epochs_->name(ask.tier_source) || parse_uuid(name) == ask.tier_source;
  });
}

// What it brought of groups that are not whole is discarded: nobody below is told that it is
// included, so all of it comes again.
Result<std::vector<SeqRange>> Store::fence(const SourceId& tier, uint64_t epoch, int64_t lived_s,
                                           const std::string& why) {
  std::vector<SeqRange> gone;
  uint64_t bytes = 0;
  std::vector<BodySpan> bodies;
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(epochs_->fence(tier, epoch, lived_s, why));
    WEIR_TRY_ASSIGN(gone, groups_->discard(tier, epoch));
    WEIR_TRY_ASSIGN(auto find, db_.prepare("SELECT raw_len,place,size FROM inbox WHERE "
                                           "source = ? AND epoch = ? AND seq = ? AND whole = 0"));
    WEIR_TRY_ASSIGN(auto erase, db_.prepare("DELETE FROM inbox WHERE source = ? AND epoch = ? AND "
                                            "seq = ? AND whole = 0"));
    for (const SeqRange& range : gone) {
      for (Statement* each : {&find, &erase}) {
        each->bind(1, ByteView(range.source)).bind(2, range.epoch).bind(3, range.lo);
      }
      WEIR_TRY_ASSIGN(const bool row, find.step());
      if (row) {
        bytes += find.unsigned_integer(0);
        add_span(find, 1, bodies);
      }
      find.reset();
      WEIR_TRY(erase.run());
      WEIR_TRY(ledger_->remove(LedgerLevel::kHere, range.source, range.epoch, range.lo));
    }
    crash_at(".fence_before");
    return {};
  });
  if (!done.ok()) {
    WEIR_TRY_ASSIGN(epochs_,
                    TierEpochs::open(db_));  // without what was rolled back
    return std::move(done).error().with("fence");
  }
  crash_at(".fence_after");
  if (bodies_) bodies_->give_back(bodies);
  ++counts_.fences;
  counts_.discarded_parts += gone.size();
  inbox_rows_ -= gone.size();
  inbox_bytes_ -= bytes;
  unfinished_.erase({tier, epoch});
  return gone;
}

// Of a group with a damaged row nobody knows what it contains. Its parts are held as taken, so they
// would not come again: as at any fence, what is below them does.
Status Store::discard_damaged_groups() {
  WEIR_TRY_ASSIGN(const auto damaged, groups_->damaged());
  for (const auto& [tier, epoch] : damaged) {
    if (epoch == 0 || epoch > epochs_->last(tier)) continue;  // no tier's: it has nothing below it
    WEIR_TRY(fence(tier, epoch, lived_s_, "damaged here"));
  }
  return {};
}

Result<Answers> Store::tell(const Question& question, int64_t lived_s) {
  const AskIncluded& ask = question.ask;
  Answers out;
  Included& told = out.told.emplace_back(Told{question.asker, {}}).included;
  told = {.tier_source = ask.tier_source,
          .tier_epoch = ask.tier_epoch,
          .source = ask.source,
          .epoch = ask.epoch,
          .lo = ask.lo,
          .complete_to = ask.lo - 1,
          .fenced = false,
          .spans = {}};
  if (ask.tier_source == source()) {
    told.fenced = ask.tier_epoch != own_epoch_;  // of an earlier database
  } else if (ask.tier_epoch == 0 || ask.tier_epoch > epochs_->last(ask.tier_source)) {
    // Nobody's, or of an epoch that a lost database handed out: its tier has to greet anew, and is
    // given a later one, before anything of it is taken. Nothing is stored for it: the question may
    // be made up.
    told.fenced = true;
  } else if (epochs_->fenced(ask.tier_source, ask.tier_epoch)) {
    told.fenced = true;
  } else {
    WEIR_TRY_ASSIGN(const bool may, may_fence(question));
    if (!may || !epochs_->has_room()) return out;
    const std::string why = question.silent_s >= fences_.after_s ? "silent" : "superseded or named";
#ifdef WEIR_MUTATE_INCLUDED_BEFORE_FENCE  // a build that tests must refuse
    if (lived_s == 0)
#endif
    {
      WEIR_TRY_ASSIGN(out.gone, fence(ask.tier_source, ask.tier_epoch, lived_s, why));
    }
    told.fenced = true;
  }
  if (!told.fenced) return out;
  // Only now: what the fence let in is all there will ever be of this target. What came by another
  // is not to come again either: the asker may be an old copy of itself.
  WEIR_TRY_ASSIGN(auto held, accounts_->held(ask.source, {ask.epoch, ask.lo, ask.hi}));
  told.spans = std::move(held.spans);
  told.complete_to = held.complete_to;
  return out;
}

}  // namespace weir::aggregator
