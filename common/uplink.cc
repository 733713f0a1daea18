#include "common/uplink.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/hash.h"

namespace weir {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr uint64_t kRankSeed = 0x72616e6b;         // never change it: all sources would move
constexpr nanoseconds kNoCreditFor = seconds(10);  // then new rows go elsewhere
constexpr nanoseconds kLookEvery = seconds(1);     // for rows in doubt

// Rendezvous: each source has an order of its own, and one upstream more or less moves only the
// sources that prefer it.
uint64_t rank_of(const SourceId& source, const std::string& endpoint) {
  return hash64(as_bytes(endpoint), hash64(ByteView(source), kRankSeed));
}

}  // namespace

Uplink::Upstream::Upstream(std::string name, Outbox& outbox, Link& link,
                           const UplinkOptions& options, OfferStats& totals, uint64_t seed)
    : endpoint(std::move(name)),
      rank(rank_of(outbox.source(), endpoint)),
      session(link, outbox.source(), options.session),
      offers(outbox, session, options.offers, totals, seed) {}

Uplink::Uplink(Outbox& outbox, UplinkOptions options)
    : outbox_(outbox),
      options_(std::move(options)),
      jitter_(options_.seed.value_or(hash64(ByteView(outbox.source()), outbox.epoch()))) {}

size_t Uplink::add(std::string endpoint, Link& link) {
  const auto seed =
      static_cast<uint64_t>(jitter_.between(nanoseconds(0), nanoseconds(INT64_MAX - 1)).count());
  auto& added = upstreams_.emplace_back(
      std::make_unique<Upstream>(std::move(endpoint), outbox_, link, options_, totals_, seed));
  order_.push_back(added.get());
  std::ranges::sort(order_, std::greater<>(), &Upstream::rank);
  WEIR_CHECK(!options_.on_epoch || upstreams_.size() == 1);
  return upstreams_.size() - 1;
}

std::string Uplink::crash(const char* point) const { return options_.offers.crash_prefix + point; }

// Asked for with each tick while nobody answers.
Result<Greeting> Uplink::greeting() {
  if (greeting_at_ != outbox_.revision()) {
    WEIR_TRY_ASSIGN(const OutboxStats stats, outbox_.stats());
    greeting_.epochs.clear();
    if (stats.rows > 0) {
      WEIR_TRY_ASSIGN(greeting_.epochs, outbox_.epochs(kMaxHelloEpochs));
    }
    greeting_.rows = stats.rows;
    greeting_.bytes = stats.bytes;
    greeting_at_ = outbox_.revision();
  }
  greeting_.epoch = forget_epoch_ ? 0 : outbox_.epoch();
  return greeting_;
}

Status Uplink::tick(MonoTime now, UnixTime wall) {
  if (!started_) started_ = now;
  for (auto& upstream : upstreams_) {
    Session& session = upstream->session;
    session.tick(now, wall, report_);
    if (session.wants_hello(now)) {
      WEIR_TRY_ASSIGN(const Greeting hello, greeting());
      session.hello(now, wall, hello);
    }
    observe(now, *upstream);
  }
  choose(now);
  if (now >= next_look_) {
    next_look_ = now + kLookEvery;
    WEIR_TRY(inquire(now));
  }
  WEIR_TRY(offer(now));
  start_anew_if_damaged(now);
  return {};
}

Status Uplink::on_message(size_t number, MonoTime now, UnixTime wall, ByteView header,
                          ByteView body) {
  if (!started_) started_ = now;
  Upstream& upstream = *upstreams_.at(number);
  const auto received = upstream.session.receive(now, wall, header, body);
  if (!received) return {};
  WEIR_TRY(handle(now, upstream, *received));
  observe(now, upstream);
  choose(now);
  WEIR_TRY(offer(now));
  start_anew_if_damaged(now);
  return {};
}

Status Uplink::handle(MonoTime now, Upstream& upstream, const Session::Received& received) {
  const auto& [type, message] = received;
  if (const auto* welcome = std::get_if<Welcome>(&message))
    return welcomed(now, upstream, *welcome);
  if (const auto* included = std::get_if<Included>(&message)) {
    if (included->source == outbox_.source()) return answered(now, *included);
    if (options_.on_included) options_.on_included(*included);
    return {};
  }
  if (const auto* fenced = std::get_if<Fenced>(&message)) {
    if (fenced->epoch == outbox_.epoch()) upstream.session.lose(now);  // WELCOME brings the next
    return {};
  }
  if (const auto* ack = std::get_if<Ack>(&message)) {
    if (type == FrameType::kAckG) return upstream.offers.at_last_tier(ack->spans);
    for (const SeqSpan& span : ack->spans) upstream.offers.at_next_tier(now, span);
    return {};
  }
  if (const auto* pong = std::get_if<Pong>(&message)) {
    for (const SeqSpan& span : pong->waiting) upstream.offers.waits_at_peer(now, span);
    return {};
  }
  if (const auto* nack = std::get_if<Nack>(&message)) {
    last_refusal_ = nack->reason;
    if (nack->reason == kNackOverload) upstream.unwell_until = now + options_.return_after;
    return upstream.offers.refused(now, *nack);
  }
  return {};
}

Status Uplink::welcomed(MonoTime now, Upstream& upstream, const Welcome& welcome) {
  const bool goes_on = upstream.session.goes_on();
  upstream.settled = false;
  if (!goes_on) upstream.offers.stop();
  WEIR_TRY(outbox_.claim(upstream.session.target(), welcome.here));
  WEIR_TRY(outbox_.claim(upstream.session.target(), welcome.last_tier));
  WEIR_TRY(upstream.offers.at_last_tier(welcome.last_tier));
  if (options_.on_epoch) {
    WEIR_TRY(settle_epoch(now, upstream, welcome));
    if (!upstream.session.connected()) return {};
  }
  upstream.settled = true;
  upstream.welcomed = true;
  next_look_ = now;  // it may be another life of a tier that has rows
  if (goes_on) {
    upstream.offers.go_on(now, welcome.here);
  } else {
    upstream.offers.begin(upstream.session.target(), welcome.here);
  }
  return {};
}

// Of a tier: its epoch is the one that the tier above says it has.
Status Uplink::settle_epoch(MonoTime now, Upstream& upstream, const Welcome& welcome) {
  const uint64_t epoch = outbox_.epoch();
  if (welcome.your_epoch == 0) {  // it cannot hand out any yet
    upstream.session.lose(now, options_.session.ping_every);
    return {};
  }
  WEIR_TRY_ASSIGN(const uint64_t next_seq, outbox_.next_seq());
  const auto beyond = [&](const SeqSpan& span) {
    return span.epoch == epoch && span.hi >= next_seq;
  };
#ifdef WEIR_MUTATE_NO_ROLLBACK_CHECK  // a build that tests must refuse
  constexpr bool looks = false;
#else
  constexpr bool looks = true;
#endif
  const bool rolled_back = looks && (std::ranges::any_of(welcome.here, beyond) ||
                                     std::ranges::any_of(welcome.last_tier, beyond));
  if (welcome.your_epoch == epoch && !rolled_back) return {};
  if (welcome.your_epoch == epoch) {
    // This disk has forgotten what it sent: what it has may be in rollups already.
    ++rollbacks_;
    forget_epoch_ = true;
    upstream.session.lose(now);
    return {};
  }
  if (auto begun = options_.on_epoch(welcome.your_epoch); !begun.ok()) {
    upstream.session.lose(now, options_.session.ping_every);  // HELLO comes again, and WELCOME
    return begun;
  }
  WEIR_CHECK(outbox_.epoch() == welcome.your_epoch);
  forget_epoch_ = false;
  return {};
}

// A rollup that its disk has damaged cannot be given up: it may be counted above already, or not at
// all, and only a fence tells those below which. They bring again what it did not take.
void Uplink::start_anew_if_damaged(MonoTime now) {
  bool damaged = false;
  for (auto& upstream : upstreams_) damaged = upstream->offers.take_damage() || damaged;
  if (damaged) start_anew(now);
}

void Uplink::start_anew(MonoTime now) {
  ++damaged_;
  forget_epoch_ = true;
  for (auto& upstream : upstreams_) {
    upstream->settled = false;
    upstream->offers.stop();
    upstream->session.lose(now);
  }
}

// ---- which one ----

bool Uplink::usable(const Upstream& upstream) {
  return upstream.session.connected() && upstream.settled &&
         upstream.fenced != upstream.session.target();
}

bool Uplink::well(MonoTime now, const Upstream& upstream) const {
  if (!usable(upstream) || now < upstream.unwell_until) return false;
  return !upstream.no_credit_since || now - *upstream.no_credit_since < kNoCreditFor;
}

void Uplink::observe(MonoTime now, Upstream& upstream) {
  if (!upstream.session.connected() || upstream.session.stats().credit_bytes > 0) {
    upstream.no_credit_since.reset();
  } else if (!upstream.no_credit_since) {
    upstream.no_credit_since = now;
  }
  if (!well(now, upstream)) {
    upstream.well_since.reset();
  } else if (!upstream.well_since) {
    upstream.well_since = now;
  }
}

void Uplink::choose(MonoTime now) {
  if (order_.empty()) return;
  Upstream* chosen = nullptr;
  const bool keeps = active_ != nullptr && well(now, *active_);
  for (Upstream* upstream : order_) {
    if (upstream == active_) {
      if (keeps) chosen = upstream;
    } else if (well(now, *upstream) &&
               (!keeps || now - *upstream->well_since >= options_.return_after)) {
      chosen = upstream;
    }
    if (chosen != nullptr) break;
  }
  // At a start the preferred one may only be the slower one to answer.
  const bool early = now - *started_ < options_.session.silence;
  if (active_ == nullptr && early && chosen != order_.front()) return;
  if (chosen == nullptr && active_ != nullptr && usable(*active_)) return;
  if (chosen == nullptr) {
    const auto any = std::ranges::find_if(order_, [](const Upstream* u) { return usable(*u); });
    if (any == order_.end()) return;  // whoever comes first goes on
    chosen = *any;
  }
  if (active_ != nullptr && chosen != active_) ++failovers_;
  active_ = chosen;
}

std::optional<Target> Uplink::target() const {
  if (active_ == nullptr || !usable(*active_) || active_->offers.room() == 0) return std::nullopt;
  return active_->session.target();
}

// ---- rows ----

Status Uplink::offer(MonoTime now) {
  const uint64_t after = inherited_free_ ? 0 : outbox_.first_id() - 1;
  for (auto& upstream : upstreams_) {
    if (!usable(*upstream)) continue;
    WEIR_TRY_ASSIGN(bool all, upstream->offers.offer(now));
    // Nobody's rows stay nobody's until they can be sent at once: they are free to go elsewhere.
    while (all && upstream.get() == active_ && upstream->offers.room() > 0 &&
           none_free_at_ != outbox_.revision()) {
      WEIR_TRY_ASSIGN(const auto fresh,
                      outbox_.pending(std::nullopt, after, upstream->offers.room()));
      if (fresh.empty()) none_free_at_ = outbox_.revision();
      if (fresh.empty() || !upstream->offers.fits(fresh.front())) break;
      std::vector<uint64_t> ids;
      for (const OutboxEntry& entry : fresh) ids.push_back(entry.id);
      crash_point(crash(".assign_before").c_str());
      WEIR_TRY(outbox_.assign(upstream->session.target(), ids));
      crash_point(crash(".assign_after").c_str());
      upstream->offers.expect(ids);
      WEIR_TRY_ASSIGN(all, upstream->offers.offer(now));
    }
  }
  return {};
}

std::vector<SeqSpan> Uplink::take_released() {
  std::vector<SeqSpan> out;
  for (auto& upstream : upstreams_) {
    const auto spans = upstream->offers.take_released();
    out.insert(out.end(), spans.begin(), spans.end());
  }
  return out;
}

UplinkStats Uplink::stats() const {
  UplinkStats out;
  static_cast<OfferStats&>(out) = totals_;
  out.last_refusal = last_refusal_;
  out.failovers = failovers_;
  out.asked = asked_;
  out.fenced_targets = fenced_;
  out.rollbacks = rollbacks_;
  out.damaged = damaged_;
  for (const auto& upstream : upstreams_) {
    UpstreamStats& one = out.upstreams.emplace_back();
    one.endpoint = upstream->endpoint;
    one.target = upstream->session.target();
    one.active = upstream.get() == active_ && usable(*upstream);
    one.session = upstream->session.stats();
    one.in_flight_bytes = upstream->offers.in_flight_bytes();
    out.connected = out.connected || one.session.connected;
    out.bad_messages += one.session.bad_messages;
    out.in_flight_bytes += one.in_flight_bytes;
    if (!one.active) continue;
    out.credit_bytes = one.session.credit_bytes;
    out.round_trip = one.session.round_trip;
  }
  return out;
}

}  // namespace weir
