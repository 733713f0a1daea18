#include "common/session.h"

#include <algorithm>
#include <utility>

#include "common/crc32c.h"

namespace weir {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kLongestAway = minutes(60);  // whatever a GOAWAY says
constexpr nanoseconds kRevokedRetry = seconds(30);
constexpr nanoseconds kLongestRoundTrip = minutes(1);
// libzmq gives up a connection for ever after some errors; a new socket does not.
constexpr nanoseconds kReopenFirst = seconds(10);
constexpr nanoseconds kReopenLast = seconds(60);
constexpr size_t kClockSamples = 64;
// Two clocks that run as fast as clocks do; a larger difference within the samples is a step.
constexpr nanoseconds kDrift = milliseconds(50);
constexpr nanoseconds kClockSet = seconds(1);  // by more at once: somebody set it

// Whether a message of this type, downwards, is this.
bool is_of_type(const ControlMessage& message, FrameType type) {
  switch (type) {
    case FrameType::kWelcome:
      return std::holds_alternative<Welcome>(message);
    case FrameType::kAckR:
    case FrameType::kAckG:
      return std::holds_alternative<Ack>(message);
    case FrameType::kNack:
      return std::holds_alternative<Nack>(message);
    case FrameType::kCredit:
      return std::holds_alternative<Credit>(message);
    case FrameType::kPong:
      return std::holds_alternative<Pong>(message);
    case FrameType::kIncluded:
      return std::holds_alternative<Included>(message);
    case FrameType::kFenced:
      return std::holds_alternative<Fenced>(message);
    case FrameType::kRevoked:
      return std::holds_alternative<Revoked>(message);
    case FrameType::kGoaway:
      return std::holds_alternative<Goaway>(message);
    case FrameType::kHello:
    case FrameType::kData:
    case FrameType::kTombstone:
    case FrameType::kOut:
    case FrameType::kPing:
    case FrameType::kAskIncluded:
    case FrameType::kQuery:
    case FrameType::kResult:
      break;  // not for this end, or of a later version
  }
  return false;
}

}  // namespace

Session::Session(Link& link, const SourceId& self, SessionOptions options)
    : link_(link), self_(self), options_(std::move(options)) {}

void Session::tick(MonoTime now, UnixTime wall, const SourceReport& report) {
  watch_clock(now, wall);
  if (!stats_.connected) return revive(now);
  if (is_silent(now)) return go_silent(now);
  if (now < next_ping_) return;
  if (!asked_) asked_ = now;
  Ping ping{wall.time_since_epoch().count(), now.time_since_epoch().count(), report};
  ping.report.name = options_.name;
  ping.report.tier = options_.tier;
  ping.clock_offset_ns = stats_.clock_offset.value_or(nanoseconds(0)).count();
  if (send_control(FrameType::kPing, ping)) next_ping_ = now + options_.ping_every;
}

// Our clock was set: what was measured is over, and the peer hears so before it gets a window of
// the new time.
void Session::watch_clock(MonoTime now, UnixTime wall) {
  const nanoseconds ahead = wall.time_since_epoch() - now.time_since_epoch();
  const nanoseconds step = std::chrono::abs(ahead - wall_ahead_.value_or(ahead));
  wall_ahead_ = ahead;
  if (step <= kClockSet) return;
  clock_.clear();
  stats_.clock_offset.reset();
  next_ping_ = now;
}

void Session::revive(MonoTime now) {
  if (now < next_hello_) return;  // nothing is asked, so nothing is missed
  if (!alone_since_) alone_since_ = now;
  if (now - *alone_since_ < std::min(kReopenFirst * (1 << std::min(reopened_, 3U)), kReopenLast)) {
    return;
  }
  link_.reopen();
  gone_ = true;
  ++reopened_;
  alone_since_ = now;
}

bool Session::wants_hello(MonoTime now) const {
  return !stats_.connected && now >= next_hello_ && link_.writable();
}

void Session::hello(MonoTime now, UnixTime wall, const Greeting& greeting) {
  Hello hello;
  hello.name = options_.name;
  hello.tier = options_.tier;
  hello.epoch = greeting.epoch;
  hello.epochs = greeting.epochs;
  hello.unix_ns = wall.time_since_epoch().count();
  hello.mono_ns = now.time_since_epoch().count();
  hello.outbox_rows = greeting.rows;
  hello.outbox_bytes = greeting.bytes;
  greeted_epoch_ = greeting.epoch;
  if (send_control(FrameType::kHello, hello)) next_hello_ = now + options_.ping_every;
}

void Session::lose(MonoTime now, nanoseconds delay) {
  stats_.connected = false;
  gone_ = true;
  next_hello_ = now + delay;
}

// Only who was asked can be silent: who ticks seldom has heard nothing since, and that is no fault.
bool Session::is_silent(MonoTime now) const {
  return asked_ && now - last_heard_ > options_.silence &&
         now - *asked_ > options_.silence - options_.ping_every;
}

// It may be gone, or only have much to do.
void Session::go_silent(MonoTime now) {
  stats_.connected = false;
  asked_.reset();
  next_hello_ = now;
}

std::optional<Session::Received> Session::receive(MonoTime now, UnixTime wall, ByteView header,
                                                  ByteView body) {
  const auto checked = check_header(header);
  const auto* good = std::get_if<FrameHeader>(&checked);
  auto message = good != nullptr ? open(*good, body) : std::nullopt;
  if (!message) {
    ++stats_.bad_messages;
    return std::nullopt;
  }
  last_heard_ = now;
  asked_.reset();
  alone_since_.reset();
  reopened_ = 0;
  apply(now, wall, *message);
  if (stats_.connected) last_connected_ = now;
  return Received{good->type, *std::move(message)};
}

std::optional<ControlMessage> Session::open(const FrameHeader& header, ByteView body) const {
  if (header.source != self_ || header.codec != BodyCodec::kNone ||
      header.body_len != body.size() || header.body_crc32c != crc32c(body)) {
    return std::nullopt;
  }
  // It comes from the gate, which knows the key and has not looked at the message.
  if (header.type == FrameType::kRevoked && body.empty()) return Revoked{};
  auto message = decode_control(body);
  if (!message.ok() || !is_of_type(*message, header.type)) return std::nullopt;
  if (const auto* welcome = std::get_if<Welcome>(&*message)) {
    if (welcome->tier_epoch == 0 || welcome->your_epoch > INT64_MAX) return std::nullopt;
  }
  return *std::move(message);
}

void Session::apply(MonoTime now, UnixTime wall, const ControlMessage& message) {
  if (const auto* welcome = std::get_if<Welcome>(&message)) {
    welcomed(*welcome);
  } else if (const auto* ack = std::get_if<Ack>(&message)) {
    stats_.credit_bytes = ack->credit_bytes;
  } else if (const auto* credit = std::get_if<Credit>(&message)) {
    stats_.credit_bytes = credit->bytes;
  } else if (const auto* answer = std::get_if<Pong>(&message)) {
    pong(now, wall, *answer);
  } else if (const auto* refusal = std::get_if<Nack>(&message)) {
    nack(now, *refusal);
  } else if (const auto* goaway = std::get_if<Goaway>(&message)) {
    const auto longest = static_cast<uint64_t>(kLongestAway / milliseconds(1));
    lose(now, milliseconds(std::min(goaway->retry_after_ms, longest)));
    stats_.last_refusal = goaway->reason;
  } else if (std::holds_alternative<Revoked>(message)) {
    stats_.revoked = true;
    lose(now, kRevokedRetry);
    stats_.last_refusal = "revoked";
  }
}

void Session::welcomed(const Welcome& welcome) {
  const Target target{welcome.tier_source, welcome.tier_epoch};
  goes_on_ = !gone_ && target == target_ && welcome.your_epoch == your_epoch_;
  gone_ = false;
  target_ = target;
  your_epoch_ = welcome.your_epoch;
  stats_.connected = true;
  stats_.revoked = false;
  stats_.credit_bytes = welcome.credit_bytes;
}

void Session::nack(MonoTime now, const Nack& nack) {
  stats_.last_refusal = nack.reason;
  // One for each message under way: the first counts.
  if (!stats_.connected) return;
  if (nack.reason == kNackNoHello) lose(now);  // it restarted, or the connection did
  // It has no life of its own yet, or another than we know.
  if (nack.reason == kNackNoEpoch) lose(now, options_.ping_every);
  if (nack.reason == kNackTargetEpoch) lose(now);
}

void Session::pong(MonoTime now, UnixTime wall, const Pong& pong) {
  const nanoseconds sent(pong.echo_mono_ns);  // any number, should it be no echo of ours
  if (sent.count() < 0 || sent > now.time_since_epoch()) return;
  read_to_ = std::max(read_to_, MonoTime(sent));
  const nanoseconds trip = now.time_since_epoch() - sent;
  if (trip > kLongestRoundTrip) return;
  observe_round_trip(trip);
  const nanoseconds ours = wall.time_since_epoch() - trip / 2;
  const int64_t apart = static_cast<int64_t>(static_cast<uint64_t>(pong.unix_ns) -
                                             static_cast<uint64_t>(ours.count()));
  const nanoseconds offset(apart);
  const auto best = [&] { return *std::ranges::min_element(clock_, {}, &ClockSample::round_trip); };
  if (!clock_.empty()) {
    const ClockSample known = best();
    const nanoseconds bound = (trip + known.round_trip) / 2 + kDrift;
    if (offset > known.offset + bound || offset < known.offset - bound) clock_.clear();
  }
  clock_.push_back({trip, offset});
  if (clock_.size() > kClockSamples) clock_.pop_front();
  stats_.clock_offset = best().offset;
}

void Session::observe_round_trip(nanoseconds sample) {
  if (sample < nanoseconds(0) || sample > kLongestRoundTrip) return;
  nanoseconds& smooth = stats_.round_trip;
  smooth = smooth == nanoseconds(0) ? sample : (smooth * 7 + sample) / 8;
}

bool Session::send_control(FrameType type, const ControlMessage& message) {
  FrameHeader header;
  header.type = type;
  header.epoch = greeted_epoch_;
  const Bytes body = encode_control(message);
  return send_raw(header, body);
}

bool Session::send_raw(FrameHeader header, ByteView body) {
  header.source = self_;
  return link_.send(encode_header_for(header, body), body);
}

}  // namespace weir
