#include "common/uplink_offers.h"

#include <algorithm>
#include <iterator>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/zstd.h"

namespace weir {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kRetryMin = milliseconds(200);
constexpr nanoseconds kRetryMax = seconds(30);
// What the next tier holds is offered again only in case it, or its ACK_G, was lost unnoticed.
constexpr nanoseconds kSlowRetryMin = seconds(60);
constexpr nanoseconds kSlowRetryMax = minutes(10);
constexpr size_t kMaxTracked = 65'536;
constexpr size_t kReadBytes = size_t{1} << 20;

bool holds(const std::vector<SeqSpan>& spans, uint64_t epoch, uint64_t seq) {
  return std::any_of(spans.begin(), spans.end(), [&](const SeqSpan& span) {
    return span.epoch == epoch && span.lo <= seq && seq <= span.hi;
  });
}

}  // namespace

nanoseconds Jitter::between(nanoseconds low, nanoseconds high) {
  state_ += 0x9E3779B97F4A7C15;
  uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
  mixed ^= mixed >> 31;
  const auto width = static_cast<uint64_t>((high - low).count()) + 1;
  return low + nanoseconds(static_cast<int64_t>(mixed % width));
}

nanoseconds doubled(nanoseconds base, unsigned times, nanoseconds limit) {
  while (times-- > 0 && base < limit) base *= 2;
  return std::min(base, limit);
}

Offers::Offers(Outbox& outbox, Session& session, const OfferOptions& options, OfferStats& totals,
               uint64_t seed)
    : outbox_(outbox), session_(session), options_(options), totals_(totals), jitter_(seed) {
  WEIR_CHECK(options_.type == FrameType::kData || options_.type == FrameType::kOut);
}

// What was under way on an old connection is gone, and what an old disk held may be.
void Offers::begin(const Target& target, std::vector<SeqSpan> held) {
  stop();
  running_ = true;
  target_ = target;
  held_by_peer_ = std::move(held);
}

void Offers::stop() {
  running_ = false;
  tracked_.clear();
  due_.clear();
  late_.clear();
  unread_.clear();
  in_flight_ = 0;
  cursor_ = 0;
  all_read_at_ = 0;
}

void Offers::go_on(MonoTime now, std::vector<SeqSpan> held) {
  held_by_peer_ = std::move(held);
  cursor_ = 0;  // it may hold rows that were nobody's
  all_read_at_ = 0;
  for (auto it = tracked_.begin(); it != tracked_.end(); ++it) {
    const auto& [epoch, seq] = it->first;
    if (holds(held_by_peer_, epoch, seq)) {
      at_next_tier(now, {epoch, seq, seq});
    } else if (it->second.stage == Stage::kHere) {
      set_stage(it->second, Stage::kWaiting);  // it was there, and is not
      it->second.attempts = 0;
      schedule(it, now);
    }
  }
}

Result<bool> Offers::offer(MonoTime now) {
  if (!running_ || !session_.connected()) return false;
  WEIR_TRY_ASSIGN(const bool all, offer_overdue(now));
  if (!all) return false;
  return offer_new(now);
}

bool Offers::may_be_unread(const Tracked& tracked) const {
  return tracked.stage == Stage::kInFlight && !tracked.answered &&
         session_.read_to() <= tracked.known;
}

void Offers::look_at_unread(MonoTime now) {
  if (session_.read_to() == read_to_) return;
  read_to_ = session_.read_to();
  for (const Key& key : std::exchange(unread_, {})) {
    const auto it = tracked_.find(key);
    if (it != tracked_.end() && it->second.stage == Stage::kInFlight) schedule(it, now);
  }
}

Result<bool> Offers::offer_overdue(MonoTime now) {
  look_at_unread(now);
  while (!due_.empty() && due_.begin()->first <= now) {
    const auto it = tracked_.find(due_.begin()->second);
    WEIR_CHECK(it != tracked_.end());
    if (may_be_unread(it->second)) {
      unread_.push_back(it->first);
      due_.erase(due_.begin());
      continue;
    }
    WEIR_TRY_ASSIGN(const auto entry, outbox_.entry(it->second.id));
    if (!entry) {
      forget(it);  // it left the outbox another way
      continue;
    }
    WEIR_TRY_ASSIGN(const bool offered, send(now, *entry, it->second));
    if (!offered) return false;
    schedule(it, now + retry_delay(it->second));
  }
  return true;
}

void Offers::expect(const std::vector<uint64_t>& ids) {
  std::ranges::copy_if(ids, std::back_inserter(late_), [&](uint64_t id) { return id <= cursor_; });
}

Result<bool> Offers::offer_new(MonoTime now) {
  while (!late_.empty()) {
    WEIR_TRY_ASSIGN(const auto entry, outbox_.entry(late_.front()));
    if (entry) {
      WEIR_TRY_ASSIGN(const bool offered, offer_first(now, *entry));
      if (!offered) return false;
    }
    late_.pop_front();
  }
  if (all_read_at_ == outbox_.revision()) return true;
  while (tracked_.size() < kMaxTracked && has_credit(1)) {
    const size_t credit = session_.stats().credit_bytes;
    const size_t budget = std::min(kReadBytes, credit > in_flight_ ? credit - in_flight_ : 1);
    WEIR_TRY_ASSIGN(const auto entries, outbox_.pending(target_, cursor_, budget));
    if (entries.empty()) {
      all_read_at_ = outbox_.revision();
      return true;
    }
    for (const OutboxEntry& entry : entries) {
      WEIR_TRY_ASSIGN(const bool offered, offer_first(now, entry));
      if (!offered) return false;
      cursor_ = entry.id;
    }
  }
  return false;
}

Result<bool> Offers::offer_first(MonoTime now, const OutboxEntry& entry) {
  if (tracked_.contains({entry.epoch, entry.seq})) return true;
  Tracked tracked;
  tracked.id = entry.id;
  tracked.bytes = size_of(entry);
  if (holds(held_by_peer_, entry.epoch, entry.seq)) {
    tracked.stage = Stage::kHere;
  } else {
    WEIR_TRY_ASSIGN(const bool offered, send(now, entry, tracked));
    if (!offered) return false;
  }
  const auto [it, added] = tracked_.emplace(Key{entry.epoch, entry.seq}, tracked);
  WEIR_CHECK(added);
  schedule(it, now + retry_delay(tracked));
  return true;
}

size_t Offers::room() const {
  if (!running_ || !session_.connected() || tracked_.size() >= kMaxTracked || !has_credit(1)) {
    return 0;
  }
  const size_t credit = session_.stats().credit_bytes;
  return credit > in_flight_ ? credit - in_flight_ : 1;
}

Result<bool> Offers::send(MonoTime now, const OutboxEntry& entry, Tracked& tracked) {
  if (options_.type == FrameType::kOut && entry.kind == RowKind::kTombstone) {
    found_damage_ = true;
    return false;
  }
  if (tracked.stage == Stage::kWaiting && !has_credit(tracked.bytes)) return false;
  FrameHeader header;
  header.epoch = entry.epoch;
  header.seq = entry.seq;
  header.target_epoch = target_.tier_epoch;
  bool sent = false;
  if (entry.kind == RowKind::kTombstone) {
    header.type = FrameType::kTombstone;
    sent = session_.send(header, tombstone(entry));
  } else {
    header.type = options_.type;
    WEIR_TRY_ASSIGN(sent, send_data(header, entry));
  }
  if (!sent) return false;
  const char* point = options_.type == FrameType::kOut ? ".out_after" : ".send_after";
  crash_point((options_.crash_prefix + point).c_str());
  ++(tracked.attempts == 0 ? totals_.sent : totals_.resent);
  ++tracked.attempts;
  tracked.answered = false;
  tracked.sent = tracked.known = now;
  if (tracked.stage == Stage::kWaiting) set_stage(tracked, Stage::kInFlight);
  return true;
}

Result<bool> Offers::send_data(FrameHeader& header, const OutboxEntry& entry) {
  header.raw_len = entry.raw_len;
  if (options_.compress) {
    WEIR_TRY_ASSIGN(const Bytes packed, zstd_compress(entry.body, 1));
    if (packed.size() < entry.body.size()) {
      header.codec = BodyCodec::kZstd;
      return session_.send(header, packed);
    }
  }
  return session_.send(header, entry.body);
}

void Offers::waits_at_peer(MonoTime now, const SeqSpan& span) {
  for (auto it = tracked_.lower_bound({span.epoch, span.lo});
       it != tracked_.end() && it->first <= Key{span.epoch, span.hi}; ++it) {
    it->second.known = now;
  }
}

void Offers::at_next_tier(MonoTime now, const SeqSpan& span) {
  for (auto it = tracked_.lower_bound({span.epoch, span.lo});
       it != tracked_.end() && it->first <= Key{span.epoch, span.hi}; ++it) {
    Tracked& tracked = it->second;
    if (tracked.stage == Stage::kHere) continue;  // the slow timer runs already
    if (tracked.stage == Stage::kInFlight) {
      ++totals_.acked_r;
      // An answer to a batch sent twice does not say which copy it answers.
      if (tracked.attempts == 1) session_.observe_round_trip(now - tracked.sent);
    }
    set_stage(tracked, Stage::kHere);
    tracked.attempts = 1;  // the slow timer starts from its own beginning
    schedule(it, now + retry_delay(tracked));
  }
#ifdef WEIR_MUTATE_TRIM_AT_ACK_R  // a build that tests must refuse
  WEIR_CHECK(outbox_.acknowledged(session_.target(), {span}).ok());
#endif
}

Status Offers::at_last_tier(const std::vector<SeqSpan>& spans) {
  if (spans.empty()) return {};
  crash_point((options_.crash_prefix + ".trim_before").c_str());
  WEIR_TRY_ASSIGN(const uint64_t trimmed, outbox_.acknowledged(session_.target(), spans));
  crash_point((options_.crash_prefix + ".trim_after").c_str());
  totals_.acked_g += trimmed;
  for (const SeqSpan& span : spans) {
    auto it = tracked_.lower_bound({span.epoch, span.lo});
    while (it != tracked_.end() && it->first <= Key{span.epoch, span.hi}) forget(it++);
  }
  if (options_.type == FrameType::kOut) {
    released_.insert(released_.end(), spans.begin(), spans.end());
  }
  return {};
}

Status Offers::refused(MonoTime now, const Nack& nack) {
  if (nack.seq == 0) return {};
  ++totals_.nacked;
  const auto it = tracked_.find({nack.epoch, nack.seq});
  if (it == tracked_.end()) return {};
  if (!nack.permanent) {
    it->second.answered = true;
    schedule(it, it->second.due);  // it may be among those that are unread
    return {};
  }
  WEIR_TRY_ASSIGN(const auto entry, outbox_.entry(it->second.id));
  if (entry && entry->kind == RowKind::kTombstone) return {};  // nothing smaller is left
  if (options_.type == FrameType::kOut) {
    // Made of many batches, which those below would be told are at the last tier.
    ++totals_.rollups_refused;
    set_stage(it->second, Stage::kWaiting);
    const nanoseconds latest = doubled(kSlowRetryMin, it->second.attempts, kSlowRetryMax);
    schedule(it, now + jitter_.between(kSlowRetryMin, latest));
    return {};
  }
  ++totals_.quarantined;
  WEIR_TRY(outbox_.quarantine(target_, nack.epoch, nack.seq, "refused:" + nack.reason));
  set_stage(it->second, Stage::kWaiting);
  it->second.attempts = 0;
  WEIR_TRY_ASSIGN(const auto left, outbox_.entry(it->second.id));
  if (left) it->second.bytes = size_of(*left);
  schedule(it, now);
  return {};
}

Bytes Offers::tombstone(const OutboxEntry& entry) const {
  return encode_control(
      Tombstone{entry.window, entry.mass, entry.cum_mass, entry.reason, options_.labels});
}

// As the receiver counts it.
size_t Offers::size_of(const OutboxEntry& entry) const {
  return entry.kind == RowKind::kTombstone ? tombstone(entry).size() : entry.body.size();
}

bool Offers::has_credit(size_t bytes) const {
  const uint64_t credit = session_.stats().credit_bytes;
  // One row may always be under way, or a credit smaller than a row would stop everything.
  if (in_flight_ == 0) return credit > 0;
  return in_flight_ + bytes <= credit;
}

void Offers::set_stage(Tracked& tracked, Stage stage) {
  if (tracked.stage == Stage::kInFlight) in_flight_ -= tracked.bytes;
  if (stage == Stage::kInFlight) in_flight_ += tracked.bytes;
  tracked.stage = stage;
}

void Offers::schedule(TrackedMap::iterator it, MonoTime due) {
  due_.erase({it->second.due, it->first});
  it->second.due = due;
  due_.emplace(due, it->first);
}

void Offers::forget(TrackedMap::iterator it) {
  set_stage(it->second, Stage::kWaiting);
  due_.erase({it->second.due, it->first});
  tracked_.erase(it);
}

nanoseconds Offers::retry_delay(const Tracked& tracked) {
  const bool here = tracked.stage == Stage::kHere;
  const nanoseconds limit = here ? kSlowRetryMax : kRetryMax;
  const nanoseconds measured = session_.stats().round_trip * 4;
  const nanoseconds base =
      here ? kSlowRetryMin : std::min(std::max(kRetryMin, measured), kRetryMax);
  return jitter_.between(base, doubled(base, tracked.attempts, limit));
}

}  // namespace weir
