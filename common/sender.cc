#include "common/sender.h"

#include <algorithm>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/zstd.h"

namespace weir {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kPingPeriod = seconds(1);
constexpr nanoseconds kSilence = seconds(3);  // without any answer: greet again
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

nanoseconds doubled(nanoseconds base, unsigned times, nanoseconds limit) {
  while (times-- > 0 && base < limit) base *= 2;
  return std::min(base, limit);
}

}  // namespace

Sender::Sender(Outbox& outbox, Link& link, SenderOptions options)
    : outbox_(outbox), link_(link), options_(std::move(options)), random_state_(outbox.epoch()) {
  WEIR_CHECK(options_.type == FrameType::kData || options_.type == FrameType::kOut);
}

void Sender::set_report(SourceReport report) { report_ = std::move(report); }

std::vector<SeqSpan> Sender::take_released() { return std::exchange(released_, {}); }

Status Sender::tick(MonoTime now, UnixTime wall) {
  if (stats_.connected && now - last_heard_ > kSilence) stats_.connected = false;
  if (!stats_.connected) return greet(now, wall);
  if (now >= next_ping_) ping(now, wall);
  WEIR_TRY(offer_overdue(now));
  return offer_new(now);
}

Status Sender::greet(MonoTime now, UnixTime wall) {
  if (now < next_hello_) return {};
  WEIR_TRY_ASSIGN(const OutboxStats outbox, outbox_.stats());
  Hello hello;
  hello.name = options_.name;
  hello.tier = options_.tier;
  hello.epoch = outbox_.epoch();
  hello.unix_ns = wall.time_since_epoch().count();
  hello.mono_ns = now.time_since_epoch().count();
  hello.outbox_rows = outbox.rows;
  hello.outbox_bytes = outbox.bytes;
  if (send_control(FrameType::kHello, hello)) next_hello_ = now + kPingPeriod;
  return {};
}

void Sender::ping(MonoTime now, UnixTime wall) {
  Ping ping{wall.time_since_epoch().count(), now.time_since_epoch().count(), report_};
  ping.report.name = options_.name;
  ping.report.tier = options_.tier;
  if (send_control(FrameType::kPing, ping)) next_ping_ = now + kPingPeriod;
}

Status Sender::offer_overdue(MonoTime now) {
  while (!due_.empty() && due_.begin()->first <= now) {
    const auto it = tracked_.find(due_.begin()->second);
    WEIR_CHECK(it != tracked_.end());
    const auto [epoch, seq] = it->first;
    WEIR_TRY_ASSIGN(const auto entries, outbox_.pending(epoch, seq - 1, 1));
    if (entries.empty() || entries[0].epoch != epoch || entries[0].seq != seq) {
      forget(it);  // it left the outbox another way: damaged, or removed by its owner
      left_outbox(epoch, seq);
      continue;
    }
    WEIR_TRY_ASSIGN(const bool offered, offer(now, entries[0], it->second));
    if (!offered) return {};
    schedule(it, now + retry_delay(it->second));
  }
  return {};
}

Status Sender::offer_new(MonoTime now) {
  while (tracked_.size() < kMaxTracked && has_credit(1)) {
    const size_t room = std::min<size_t>(kReadBytes, stats_.credit_bytes - stats_.in_flight_bytes);
    WEIR_TRY_ASSIGN(const auto entries, outbox_.pending(cursor_.first, cursor_.second, room));
    if (entries.empty()) return {};
    for (const OutboxEntry& entry : entries) {
      const Key key{entry.epoch, entry.seq};
      Tracked tracked;
      tracked.bytes = entry.body.size();
      if (holds(held_by_peer_, entry.epoch, entry.seq)) {
        tracked.stage = Stage::kHere;
      } else {
        WEIR_TRY_ASSIGN(const bool offered, offer(now, entry, tracked));
        if (!offered) return {};
      }
      const auto [it, added] = tracked_.emplace(key, tracked);
      WEIR_CHECK(added);
      schedule(it, now + retry_delay(tracked));
      cursor_ = key;
    }
  }
  return {};
}

Result<bool> Sender::offer(MonoTime now, const OutboxEntry& entry, Tracked& tracked) {
  if (tracked.stage == Stage::kWaiting && !has_credit(entry.body.size())) return false;
  FrameHeader header;
  header.type = options_.type;
  header.source = outbox_.source();
  header.epoch = entry.epoch;
  header.seq = entry.seq;
  header.raw_len = entry.raw_len;
  ByteView body = entry.body;
  Bytes packed;
  if (options_.compress) {
    WEIR_TRY_ASSIGN(packed, zstd_compress(entry.body, 1));
    if (packed.size() < body.size()) {
      body = packed;
      header.codec = BodyCodec::kZstd;
    }
  }
  if (!link_.send(encode_header_for(header, body), body)) return false;
  ++(tracked.attempts == 0 ? stats_.sent : stats_.resent);
  ++tracked.attempts;
  tracked.sent = now;
  if (tracked.stage == Stage::kWaiting) set_stage(tracked, Stage::kInFlight);
  return true;
}

Status Sender::on_message(MonoTime now, ByteView header_bytes, ByteView body) {
  const auto checked = check_header(header_bytes);
  const auto* header = std::get_if<FrameHeader>(&checked);
  if (header == nullptr || header->source != outbox_.source() ||
      header->codec != BodyCodec::kNone || header->body_len != body.size() ||
      header->body_crc32c != crc32c(body)) {
    ++stats_.bad_messages;
    return {};
  }
  const auto message = decode_control(body);
  if (!message.ok()) {
    ++stats_.bad_messages;
    return {};
  }
  last_heard_ = now;
  if (const auto* welcome = std::get_if<Welcome>(&*message);
      welcome != nullptr && header->type == FrameType::kWelcome) {
    WEIR_TRY(welcomed(now, *welcome));
  } else if (const auto* ack = std::get_if<Ack>(&*message);
             ack != nullptr && header->type == FrameType::kAckR) {
    for (const SeqSpan& span : ack->spans) at_next_tier(now, span);
  } else if (ack != nullptr && header->type == FrameType::kAckG) {
    WEIR_TRY(at_last_tier(ack->spans));
  } else if (const auto* nack = std::get_if<Nack>(&*message);
             nack != nullptr && header->type == FrameType::kNack) {
    WEIR_TRY(refused(now, *nack));
  } else if (const auto* pong = std::get_if<Pong>(&*message);
             pong != nullptr && header->type == FrameType::kPong) {
    const nanoseconds sent(pong->echo_mono_ns);  // any number, should it be no echo of ours
    if (sent.count() >= 0) observe_round_trip(now.time_since_epoch() - sent);
  } else {
    ++stats_.bad_messages;  // a type this version does not take, or not the one it claims
  }
  if (!stats_.connected) return {};
  WEIR_TRY(offer_overdue(now));
  return offer_new(now);
}

Status Sender::welcomed(MonoTime now, const Welcome& welcome) {
  stats_.connected = true;
  stats_.credit_bytes = welcome.credit_bytes;
  held_by_peer_ = welcome.here;
  WEIR_TRY(at_last_tier(welcome.last_tier));
  // What was under way on an old connection is gone, and what an old disk held may be: all that
  // this peer does not name is offered again at once.
  for (auto it = tracked_.begin(); it != tracked_.end(); ++it) {
    set_stage(it->second, Stage::kWaiting);
    schedule(it, now);
  }
  for (const SeqSpan& span : welcome.here) at_next_tier(now, span);
  return {};
}

void Sender::at_next_tier(MonoTime now, const SeqSpan& span) {
  for (auto it = tracked_.lower_bound({span.epoch, span.lo});
       it != tracked_.end() && it->first <= Key{span.epoch, span.hi}; ++it) {
    Tracked& tracked = it->second;
    if (tracked.stage == Stage::kHere) continue;  // the slow timer runs already
    if (tracked.stage == Stage::kInFlight) {
      ++stats_.acked_r;
      // An answer to a batch sent twice does not say which copy it answers.
      if (tracked.attempts == 1) observe_round_trip(now - tracked.sent);
    }
    set_stage(tracked, Stage::kHere);
    tracked.attempts = 1;  // the slow timer starts from its own beginning
    schedule(it, now + retry_delay(tracked));
  }
}

Status Sender::at_last_tier(const std::vector<SeqSpan>& spans) {
  WEIR_TRY(outbox_.acknowledged(spans));
  for (const SeqSpan& span : spans) {
    auto it = tracked_.lower_bound({span.epoch, span.lo});
    while (it != tracked_.end() && it->first <= Key{span.epoch, span.hi}) {
      ++stats_.acked_g;
      forget(it++);
    }
  }
  if (options_.type == FrameType::kOut) {
    released_.insert(released_.end(), spans.begin(), spans.end());
  }
  return {};
}

Status Sender::refused(MonoTime now, const Nack& nack) {
  if (nack.reason == kNackNoHello) {  // it restarted, or the connection did
    stats_.connected = false;
    next_hello_ = now;
    return {};
  }
  stats_.last_refusal = nack.reason;
  if (nack.seq == 0) return {};
  ++stats_.nacked;
  if (!nack.permanent) return {};  // the retry timer runs
  ++stats_.quarantined;
  if (const auto it = tracked_.find({nack.epoch, nack.seq}); it != tracked_.end()) forget(it);
  left_outbox(nack.epoch, nack.seq);
  return outbox_.quarantine(nack.epoch, nack.seq, nack.reason);
}

// A tier's fold is done when none of its batches waits: one in quarantine does not wait any more.
void Sender::left_outbox(uint64_t epoch, uint64_t seq) {
  if (options_.type == FrameType::kOut) released_.push_back({epoch, seq, seq});
}

bool Sender::send_control(FrameType type, const ControlMessage& message) {
  FrameHeader header;
  header.type = type;
  header.source = outbox_.source();
  header.epoch = outbox_.epoch();
  const Bytes body = encode_control(message);
  return link_.send(encode_header_for(header, body), body);
}

bool Sender::has_credit(size_t bytes) const {
  // One batch may always be under way, or a credit smaller than a batch would stop everything.
  if (stats_.in_flight_bytes == 0) return stats_.credit_bytes > 0;
  return stats_.in_flight_bytes + bytes <= stats_.credit_bytes;
}

void Sender::set_stage(Tracked& tracked, Stage stage) {
  if (tracked.stage == Stage::kInFlight) stats_.in_flight_bytes -= tracked.bytes;
  if (stage == Stage::kInFlight) stats_.in_flight_bytes += tracked.bytes;
  tracked.stage = stage;
}

void Sender::schedule(TrackedMap::iterator it, MonoTime due) {
  due_.erase({it->second.due, it->first});
  it->second.due = due;
  due_.emplace(due, it->first);
}

void Sender::forget(TrackedMap::iterator it) {
  set_stage(it->second, Stage::kWaiting);
  due_.erase({it->second.due, it->first});
  tracked_.erase(it);
}

void Sender::observe_round_trip(nanoseconds sample) {
  if (sample < nanoseconds(0) || sample > minutes(1)) return;  // not an echo of ours
  nanoseconds& smooth = stats_.round_trip;
  smooth = smooth == nanoseconds(0) ? sample : (smooth * 7 + sample) / 8;
}

nanoseconds Sender::retry_delay(const Tracked& tracked) {
  const bool here = tracked.stage == Stage::kHere;
  const nanoseconds limit = here ? kSlowRetryMax : kRetryMax;
  const nanoseconds base =
      here ? kSlowRetryMin : std::min(std::max(kRetryMin, stats_.round_trip * 4), kRetryMax);
  return jitter(base, doubled(base, tracked.attempts, limit));
}

nanoseconds Sender::jitter(nanoseconds low, nanoseconds high) {
  random_state_ += 0x9E3779B97F4A7C15;  // splitmix64: enough to keep peers out of step
  uint64_t mixed = random_state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
  mixed ^= mixed >> 31;
  const auto width = static_cast<uint64_t>((high - low).count()) + 1;
  return low + nanoseconds(static_cast<int64_t>(mixed % width));
}

}  // namespace weir
