#include "aggregator/intake.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <utility>

#include "aggregator/identity_fault.h"
#include "aggregator/intake_counters.h"
#include "common/batch_check.h"
#include "common/crc32c.h"
#include "common/zstd.h"

namespace weir::aggregator {
namespace {

using std::chrono::seconds;

constexpr size_t kMaxEpochs = kMaxHelloEpochs;  // lives of one source's outbox remembered in memory
constexpr size_t kMaxAsked = 10'000;
constexpr MonoTime::duration kAskAgain = seconds(5);  // an answer that does not come is lost
constexpr int64_t kPoint = 60;                        // demerits; one a second is forgiven
constexpr int64_t kBlame = 10 * kPoint;
constexpr int64_t kTooBad = 100 * kPoint;
constexpr MonoTime::duration kAwayFor = seconds(600);
constexpr unsigned kPingsToKnow = 3;  // of a clock; the first may tell of an older measurement
constexpr MonoTime::duration kUnsureFor = seconds(300);  // at most, with fewer
constexpr size_t kRememberedBodies = 64;  // of one epoch, to tell a copy from a conflict
constexpr uint32_t kMostParts = 128;      // of a group; a fold makes fewer

// Every reason a message is refused for, in the order of the checks.
constexpr std::array<std::string_view, 31> kReasons = {
    "header_size", "header_magic", "header_crc", "version",      "foreign_source", "role",
    "type",        "body_len",     "body_size",  "codec",        "raw_len",        "seq",
    "control",     "no_hello",     "goaway",     "no_epoch",     "sources",        "target_epoch",
    "conflict",    "overrun",      "store_full", "overload",     "body_crc",       "zstd",
    "batch",       "window_width", "window_old", "window_ahead", "fenced",         "store_refused",
    "store_retry"};

// What no honest sender sends over any network: each costs its sender 10 points.
constexpr std::array<std::string_view, 11> kBlamed = {
    "type",    "body_size", "codec", "raw_len",  "seq",         "control",
    "overrun", "zstd",      "batch", "conflict", "window_width"};

// Of control frames: the body the header promises, decoded.
std::optional<ControlMessage> decode_body(const FrameHeader& header, ByteView body) {
  if (header.codec != BodyCodec::kNone || body.size() != header.body_len ||
      crc32c(body) != header.body_crc32c) {
    return {};
  }
  auto decoded = decode_control(body);
  if (!decoded.ok()) return {};
  return *std::move(decoded);
}

// Of a batch by the name of one that is here, with other bytes: packed another way it is a copy.
const char* copy_fault(const FrameHeader& header, ByteView body, uint32_t raw_crc) {
  if (crc32c(body) != header.body_crc32c) return "body_crc";
  if (header.codec != BodyCodec::kZstd) return header.body_crc32c == raw_crc ? nullptr : "conflict";
  const auto raw = zstd_decompress(body, header.raw_len);
  if (!raw.ok()) return "zstd";
  return crc32c(*raw) == raw_crc ? nullptr : "conflict";
}

// Ascending within an epoch.
void append_seq(std::vector<SeqSpan>& to, uint64_t epoch, uint64_t seq) {
  if (!to.empty() && to.back().epoch == epoch && to.back().hi + 1 == seq) {
    to.back().hi = seq;
  } else {
    to.push_back({epoch, seq, seq});
  }
}

bool fits(const SeqRange& range) {
  return range.lo != 0 && range.lo <= range.hi && range.hi < INT64_MAX - 1;
}

}  // namespace

Intake::Intake(Door& door, const IntakeLimits& limits, Store store)
    : door_(door), limits_(limits), store_(std::move(store)) {
  for (const auto reason : kReasons) counters_[rejected_key(reason)] = 0;
  for (const char* name : kIntakeCounters) counters_[name] = 0;
}

void Intake::restore(const std::vector<SeqRange>& here, const std::vector<SeqRange>& last_tier) {
  const auto load = [&](const std::vector<SeqRange>& ranges, IntervalSet Epoch::*set) {
    for (const SeqRange& range : ranges) {
      Source* source = find_or_add(range.source, {});
      if (source != nullptr) (epoch_of(*source, range.epoch).*set).add(range.lo, range.hi);
    }
  };
  load(here, &Epoch::here);
  load(last_tier, &Epoch::last_tier);
}

void Intake::on_message(const Instant& now, const PeerId& peer,
                        const std::optional<Identity>& identity, ByteView header, ByteView body) {
  take_turn(now);
  ++counters_[kMessages];
  const auto checked = check_header(header);
  if (const auto* fault = std::get_if<HeaderFault>(&checked)) {
    return count_rejected(fault_name(*fault));  // no telling whom to answer
  }
  const Message message{now, peer, identity, std::get<FrameHeader>(checked), body};
  if (const char* fault = identity_fault(message.header, identity)) {
    return reject(message, fault,
                  Refusal::kForNow);  // a key file may be put right
  }
  switch (message.header.type) {
    case FrameType::kHello:
      return hello(message);
    case FrameType::kPing:
      return ping(message);
    case FrameType::kData:
    case FrameType::kOut:
    case FrameType::kTombstone:
      return batch(message);
    case FrameType::kAskIncluded:
      return ask(message);
    case FrameType::kWelcome:
    case FrameType::kAckR:
    case FrameType::kAckG:
    case FrameType::kNack:
    case FrameType::kCredit:
    case FrameType::kPong:
    case FrameType::kIncluded:
    case FrameType::kFenced:
    case FrameType::kRevoked:
    case FrameType::kGoaway:
    case FrameType::kQuery:
    case FrameType::kResult:
      break;  // not for this end, or of a later version
  }
  reject(message, "type", Refusal::kForGood);
}

// ---- control ----

void Intake::hello(const Message& message) {
  const auto decoded = decode_body(message.header, message.body);
  const auto* hello = decoded ? std::get_if<Hello>(&*decoded) : nullptr;
  if (hello == nullptr || hello->epoch != message.header.epoch) {
    return reject(message, "control", Refusal::kForNow);
  }
  if (hello->minor_min > kWireMinor) return reject(message, "version", Refusal::kForNow);
  if (!role_fits_tier(message.identity, hello->tier)) {
    return reject(message, "role", Refusal::kForNow);
  }
  if (limits_.epoch == 0) return reject(message, kNackNoEpoch, Refusal::kForNow);
  Source* source = find_or_add(message.header.source, message.now.wall);
  if (source == nullptr) return reject(message, "sources", Refusal::kForNow);
  if (send_away(message, *source)) return;
  ++counters_[kHellos];
  source->is_tier = !hello->tier.empty() && hello->tier != "edge";
  source->heard = message.now.mono;
  source->seen.last_seen = message.now.wall;
  source->pings = 0;
  // Too rough to move windows by, and enough to see that a clock was set meanwhile.
  const int64_t apart_s = unix_seconds(message.now.wall) - hello->unix_ns / 1'000'000'000;
  const bool is_new = source->unsure_since == MonoTime{};
  if (is_new || std::abs(apart_s - source->apart_s) > kClockOffNs / 1'000'000'000) {
    unsure(message.now, *source);
  }
  source->apart_s = apart_s;
  if (!source->is_tier) return welcome(*source, message.peer, *hello, 0);
  // Each request may cost an epoch: one at a time.
  const bool asks = source->greeter && source->greeter->hello.epoch == hello->epoch &&
                    message.now.mono - source->greeter->since < kAskAgain;
  if (!asks && !store_(Greeting{message.header.source, hello->name, hello->epoch})) {
    return count_rejected("store_full");
  }
  source->greeter = {message.peer, *hello, asks ? source->greeter->since : message.now.mono};
}

void Intake::ping(const Message& message) {
  Source* source = greeted(message);
  if (source == nullptr) return;
  auto decoded = decode_body(message.header, message.body);
  auto* ping = decoded ? std::get_if<Ping>(&*decoded) : nullptr;
  if (ping == nullptr) return reject(message, "control", Refusal::kForNow);
  ++counters_[kPings];
  source->seen.last_seen = message.now.wall;
  source->seen.report = std::move(ping->report);
  // It says 0 when it does not know, as after its own clock was set.
  ++source->pings;
  if (ping->clock_offset_ns == 0 && source->seen.clock_offset_ns != 0) unsure(message.now, *source);
  source->seen.clock_offset_ns = ping->clock_offset_ns;
  Pong pong{ping->mono_ns, message.now.wall.time_since_epoch().count(), {}};
  for (const auto& [number, epoch] : source->epochs) {
    for (const auto& [seq, waiting] : epoch.at_store) append_seq(pong.waiting, number, seq);
  }
  send(message.peer, FrameType::kPong, message.header.source, pong);
}

// How long a source has said nothing while this process was listening.
int64_t Intake::silence_s(const Instant& now, const SourceId& id) const {
  MonoTime since = awake_since_;
  if (const auto found = sources_.find(id); found != sources_.end()) {
    since = std::max(since, found->second.heard);
  }
  return std::chrono::floor<seconds>(now.mono - since).count();
}

void Intake::ask(const Message& message) {
  const Source* source = greeted(message);
  if (source == nullptr) return;
  const auto decoded = decode_body(message.header, message.body);
  const auto* ask = decoded ? std::get_if<AskIncluded>(&*decoded) : nullptr;
  const SourceId& asker = message.header.source;
  if (ask == nullptr || !fits({ask->source, ask->epoch, ask->lo, ask->hi}) ||
      (!source->is_tier && ask->source != asker)) {
    return reject(message, "control", Refusal::kForNow);
  }
  ++counters_[kAsked];
  std::erase_if(asked_, [&](const auto& at) { return message.now.mono - at.second >= kAskAgain; });
  if (asked_.size() >= kMaxAsked || asked_.contains({asker, ask->source})) {
    ++counters_[kAskedWaiting];  // it asks again
    return;
  }
  if (!store_(Question{asker, *ask, silence_s(message.now, ask->tier_source)})) {
    return count_rejected("store_full");
  }
  asked_[{asker, ask->source}] = message.now.mono;
}

// ---- batches ----

void Intake::batch(const Message& message) {
  const FrameHeader& header = message.header;
  Source* source = greeted(message);
  if (source == nullptr) return;
  source->seen.last_seen = message.now.wall;
  if (message.body.size() != header.body_len) return reject(message, "body_len", Refusal::kForNow);
  const bool tombstone = header.type == FrameType::kTombstone;
  const size_t most = tombstone ? kMaxControlBytes : kBatchMaxBytes;
  if (header.body_len > most) return reject(message, "body_size", Refusal::kForGood);
  const bool packed = header.codec == BodyCodec::kZstd && !tombstone;
  if (!packed && header.codec != BodyCodec::kNone) {
    return reject(message, "codec", Refusal::kForGood);
  }
  if (header.raw_len > most || (!packed && header.raw_len != header.body_len)) {
    return reject(message, "raw_len", Refusal::kForGood);
  }
  if (header.seq == 0 || header.seq >= INT64_MAX - 1 || header.epoch == 0) {
    return reject(message, "seq", Refusal::kForGood);
  }
  if (header.target_epoch != limits_.epoch) {
    return reject(message, kNackTargetEpoch, Refusal::kForNow);
  }
  Epoch& epoch = epoch_of(*source, header.epoch);
  const auto body = epoch.body_crc.find(header.seq);
  if (!tombstone && body != epoch.body_crc.end() && body->second.travelled != header.body_crc32c) {
    if (const char* fault = copy_fault(header, message.body, body->second.raw)) {
      const bool damaged = fault == std::string_view("body_crc");
      return reject(message, fault, damaged ? Refusal::kForNow : Refusal::kForGood);
    }
  }
  if (epoch.here.contains(header.seq) || epoch.last_tier.contains(header.seq)) {
    ++counters_[kDuplicates];
    return acknowledge_held(message, *source, epoch);
  }
  if (epoch.at_store.contains(header.seq)) {
    ++counters_[kWaiting];  // its answer comes with the commit
    return;
  }
  pass_on(message, *source, epoch);
}

void Intake::pass_on(const Message& message, Source& source, Epoch& epoch) {
  const FrameHeader& header = message.header;
  // The sender tries again, later each time, and gives what is new to another, if there is one.
  if (bytes_at_store_ + header.body_len > limits_.max_bytes) {
    return reject(message, kNackOverload, Refusal::kForNow);
  }
  // One batch may always be under way, or a small credit would stop everything.
  if (source.raw_at_store > 0 && source.raw_at_store + header.raw_len > source.granted) {
    return reject(message, "overrun", Refusal::kForNow);
  }
#ifndef WEIR_MUTATE_NO_BODY_CRC  // a build that tests must refuse
  if (crc32c(message.body) != header.body_crc32c) {
    return reject(message, "body_crc", Refusal::kForNow);
  }
#endif
  AcceptedBatch batch;
  batch.type = header.type;
  batch.source = header.source;
  batch.epoch = header.epoch;
  batch.seq = header.seq;
  batch.target_epoch = header.target_epoch;
  uint32_t raw_crc = header.body_crc32c;
  const char* fault = header.type == FrameType::kTombstone
                          ? read_tombstone(message, source, batch)
                          : read_batch(message, source, batch, raw_crc);
  if (fault != nullptr) {
    const std::string_view reason = fault;
    // Time passes, or a clock is put right, or a tier's configuration: what a tier has made of many
    // batches is not thrown away for its window.
    const bool later = reason == "window_ahead" ||
                       (reason == "window_old" && !clock_view(message, source).known) ||
                       (reason.starts_with("window") && header.type == FrameType::kOut);
    return reject(message, reason, later ? Refusal::kForNow : Refusal::kForGood);
  }
  batch.raw_len = header.raw_len;
  const Waiting waiting{batch.body.size(), header.raw_len, batch.mass};
  if (!store_(std::move(batch))) return reject(message, kNackOverload, Refusal::kForNow);
  epoch.at_store.emplace(header.seq, waiting);
  if (header.type != FrameType::kTombstone) {
    epoch.body_crc[header.seq] = {header.body_crc32c, raw_crc};
    if (epoch.body_crc.size() > kRememberedBodies) epoch.body_crc.erase(epoch.body_crc.begin());
  }
  source.raw_at_store += waiting.raw_len;
  bytes_at_store_ += waiting.bytes;
  ++counters_[kBatches];
  counters_[kBytes] += waiting.raw_len;
}

// What is packed is stored packed: it is shorter to hold and to write.
const char* Intake::read_batch(const Message& message, const Source& source, AcceptedBatch& out,
                               uint32_t& raw_crc) {
  Bytes unpacked;
  if (message.header.codec == BodyCodec::kZstd) {
    auto raw = zstd_decompress(message.body, message.header.raw_len);
    if (!raw.ok()) return "zstd";
    unpacked = *std::move(raw);
    raw_crc = crc32c(unpacked);
  }
  const bool shorter = message.body.size() < message.header.raw_len;
  if (unpacked.empty() || shorter) {
    out.body.assign(message.body.begin(), message.body.end());
    out.crc32c = message.header.body_crc32c;
  }
  auto decoded = check_batch(unpacked.empty() ? ByteView(out.body) : unpacked, limits_.batch);
  if (!decoded.ok()) return "batch";
  const bool manifest_fits =
      std::ranges::all_of(decoded->manifest, fits, [](const ManifestEntry& e) { return e.range; });
  if (!manifest_fits || decoded->part >= decoded->parts || decoded->parts > kMostParts ||
      decoded->part >= out.seq) {
    return "batch";
  }
  if (decoded->window.width_s != limits_.window_width_s) return "window_width";
  const ClockView clocks = clock_view(message, source);
  // A tier's rollup is taken however old it is: what it contains was in time once.
  const bool rollup = out.type == FrameType::kOut;
  const int64_t oldest_s = clocks.now_s - limits_.max_age_s - int64_t{limits_.window_width_s};
  const Placement placed =
      place(decoded->window, clocks, {rollup ? 0 : oldest_s, clocks.now_s + limits_.max_ahead_s});
  if (placed.fault != nullptr) return placed.fault;
  out.window = placed.window;
  if (out.window != decoded->window) ++counters_[kRewindowed];
  out.mass = decoded->mass;
  out.cum_mass = decoded->cum_mass;
  out.rows = decoded->rows;
  out.part = decoded->part;
  out.parts = decoded->parts;
  if (out.type == FrameType::kOut) out.manifest = std::move(decoded->manifest);
  if (!unpacked.empty() && !shorter) {
    out.body = std::move(unpacked);
    out.crc32c = raw_crc;
  }
  return nullptr;
}

// However old, it is taken: it has no data, and its account must close. It counts in a window that
// is still kept.
const char* Intake::read_tombstone(const Message& message, const Source& source,
                                   AcceptedBatch& out) {
  const auto decoded = decode_control(message.body);
  const auto* tombstone = decoded.ok() ? std::get_if<Tombstone>(&*decoded) : nullptr;
  if (tombstone == nullptr || tombstone->window.width_s == 0) return "control";
  const ClockView clocks = clock_view(message, source);
  out.crc32c = message.header.body_crc32c;
  out.window = place_always(tombstone->window.start_s, limits_.window_width_s, clocks,
                            {clocks.now_s - limits_.max_age_s, clocks.now_s});
  out.mass = tombstone->mass;
  out.cum_mass = tombstone->cum_mass;
  out.body.assign(message.body.begin(), message.body.end());
  ++counters_[kTombstones];
  return nullptr;
}

ClockView Intake::clock_view(const Message& message, const Source& source) const {
  const bool known =
      source.pings >= kPingsToKnow || message.now.mono - source.unsure_since >= kUnsureFor;
  return {unix_seconds(message.now.wall), source.seen.clock_offset_ns, known};
}

void Intake::unsure(const Instant& now, Source& source) {
  source.pings = 0;
  source.unsure_since = now.mono;
  source.seen.clock_offset_ns = 0;
}

// A clock that was set: how far off the others are must be measured anew.
void Intake::watch_clock(const Instant& now) {
  const auto ahead = now.wall.time_since_epoch() - now.mono.time_since_epoch();
  const auto step = std::chrono::abs(ahead - wall_ahead_.value_or(ahead));
  wall_ahead_ = ahead;
  if (step.count() <= kClockOffNs) return;
  for (auto& [id, source] : sources_) unsure(now, source);
}

// ---- sources ----

Intake::Source* Intake::greeted(const Message& message) {
  const auto found = sources_.find(message.header.source);
  if (found != sources_.end() && found->second.peer == message.peer) {
    if (send_away(message, found->second)) return nullptr;
    found->second.heard = message.now.mono;
    forgive(message.now, found->second);
    return &found->second;
  }
  count_rejected("no_hello");
  ++counters_[kNacks];
  send(message.peer, FrameType::kNack, message.header.source, Nack{0, 0, kNackNoHello, false});
  return nullptr;
}

bool Intake::send_away(const Message& message, const Source& source) {
  if (message.now.mono >= source.away_until) return false;
  count_rejected("goaway");
  say_away(message, source);
  return true;
}

void Intake::say_away(const Message& message, const Source& source) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(source.away_until - message.now.mono);
  send(message.peer, FrameType::kGoaway, message.header.source,
       Goaway{static_cast<uint64_t>(left.count()), "too many bad messages"});
}

void Intake::forgive(const Instant& now, Source& source) {
  const auto since = std::chrono::floor<seconds>(now.mono - source.demerits_at);
  source.demerits_at += since;
  source.demerits = std::max<int64_t>(source.demerits - since.count(), 0);
  source.seen.score = static_cast<uint64_t>(source.demerits / kPoint);
}

void Intake::blame(const Message& message, Source& source) {
  source.demerits += kBlame;
  source.seen.score = static_cast<uint64_t>(source.demerits / kPoint);
  if (source.demerits < kTooBad) return;
  source.demerits = 0;
  source.away_until = message.now.mono + kAwayFor;
  ++counters_[kSentAway];
  say_away(message, source);
}

Intake::Source* Intake::find_or_add(const SourceId& id, UnixTime now) {
  if (const auto found = sources_.find(id); found != sources_.end()) return &found->second;
  if (sources_.size() >= limits_.max_sources) {
    // Room is made only by a source that was silent for an hour.
    const auto oldest =
        std::min_element(sources_.begin(), sources_.end(), [](const auto& a, const auto& b) {
          return a.second.seen.last_seen < b.second.seen.last_seen;
        });
    if (oldest == sources_.end() || now - oldest->second.seen.last_seen < std::chrono::hours(1)) {
      return nullptr;
    }
    for (auto& [number, epoch] : oldest->second.epochs) forget(oldest->second, epoch);
    if (!oldest->second.peer.empty()) --greeted_sources_;
    starved_.erase(oldest->first);
    sources_.erase(oldest);
  }
  Source& source = sources_[id];
  source.seen.id = id;
  return &source;
}

Intake::Epoch& Intake::epoch_of(Source& source, uint64_t number) {
  if (!source.epochs.contains(number) && source.epochs.size() >= kMaxEpochs) {
    const auto oldest = std::min_element(
        source.epochs.begin(), source.epochs.end(),
        [](const auto& a, const auto& b) { return a.second.last_use < b.second.last_use; });
    forget(source, oldest->second);
    source.epochs.erase(oldest);
  }
  Epoch& epoch = source.epochs[number];
  epoch.last_use = ++uses_;
  return epoch;
}

void Intake::forget(Source& source, Epoch& epoch) {
  for (const auto& [seq, waiting] : epoch.at_store) {
    source.raw_at_store -= waiting.raw_len;
    bytes_at_store_ -= waiting.bytes;
  }
  epoch.at_store.clear();
}

std::vector<SeenSource> Intake::sources() const {
  std::vector<SeenSource> seen;
  seen.reserve(sources_.size());
  for (const auto& [id, source] : sources_) seen.push_back(source.seen);
  return seen;
}

void Intake::reject(const Message& message, std::string_view reason, Refusal refusal) {
  count_rejected(reason);
  ++counters_[kNacks];
  send(message.peer, FrameType::kNack, message.header.source,
       Nack{message.header.epoch, message.header.seq, std::string(reason),
            refusal == Refusal::kForGood});
  if (std::ranges::find(kBlamed, reason) == kBlamed.end()) return;
  const auto found = sources_.find(message.header.source);
  if (found == sources_.end() || found->second.peer != message.peer) return;  // who knows
  forgive(message.now, found->second);
  blame(message, found->second);
}

void Intake::count_rejected(std::string_view reason) { ++counters_.at(rejected_key(reason)); }

}  // namespace weir::aggregator
