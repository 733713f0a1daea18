#include "aggregator/intake.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "aggregator/identity_fault.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/zstd.h"

namespace weir::aggregator {
namespace {

constexpr uint64_t kMaxCredit = uint64_t{4} << 20;
constexpr size_t kMaxEpochs = 8;  // lives of one source's outbox remembered in memory

// Every reason a message is refused for, in the order of the checks.
constexpr std::array<std::string_view, 24> kReasons = {
    "header_size", "header_magic", "header_crc", "version",      "foreign_source", "role",
    "type",        "body_len",     "body_size",  "codec",        "raw_len",        "seq",
    "control",     "no_hello",     "sources",    "store_full",   "body_crc",       "zstd",
    "batch",       "window_width", "window_old", "window_ahead", "store_refused",  "store_retry"};

std::string rejected_key(std::string_view reason) {
  return "weir_intake_rejected_total{reason=\"" + std::string(reason) + "\"}";
}

constexpr const char* kMessages = "weir_intake_messages_total";
constexpr const char* kHellos = "weir_intake_hellos_total";
constexpr const char* kPings = "weir_intake_pings_total";
constexpr const char* kBatches = "weir_intake_batches_total";             // passed to the store
constexpr const char* kBytes = "weir_intake_bytes_total";                 // of these, decompressed
constexpr const char* kDuplicates = "weir_intake_duplicates_total";       // held: answered again
constexpr const char* kWaiting = "weir_intake_duplicates_waiting_total";  // at the store already
constexpr const char* kNacks = "weir_intake_nacks_total";
constexpr const char* kUnsent = "weir_intake_answers_unsent_total";  // the peer was gone or full

std::vector<SeqSpan> spans_of(uint64_t epoch, const IntervalSet& set) {
  std::vector<SeqSpan> spans;
  for (const auto& [lo, hi] : set.ranges()) spans.push_back({epoch, lo, hi});
  return spans;
}

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

// Null when the window may be taken. decode_batch made sure that it is aligned.
const char* window_fault(const Window& window, int64_t now_s, const IntakeLimits& limits) {
  if (window.width_s != limits.window_width_s) return "window_width";
  // Compared without adding to start_s, which may be anything.
  if (window.start_s < now_s - limits.max_age_s - int64_t{window.width_s}) return "window_old";
  if (window.start_s > now_s + limits.max_ahead_s) return "window_ahead";
  return nullptr;
}

}  // namespace

Intake::Intake(Door& door, const IntakeLimits& limits, Store store)
    : door_(door), limits_(limits), store_(std::move(store)) {
  for (const auto reason : kReasons) counters_[rejected_key(reason)] = 0;
  for (const char* name :
       {kMessages, kHellos, kPings, kBatches, kBytes, kDuplicates, kWaiting, kNacks, kUnsent}) {
    counters_[name] = 0;
  }
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

void Intake::on_message(UnixTime now, const PeerId& peer, const std::optional<Identity>& identity,
                        ByteView header, ByteView body) {
  ++counters_[kMessages];
  const auto checked = check_header(header);
  if (const auto* fault = std::get_if<HeaderFault>(&checked)) {
    return count_rejected(fault_name(*fault));  // no telling whom to answer
  }
  const Message message{now, peer, identity, std::get<FrameHeader>(checked), body};
  if (const char* fault = identity_fault(message.header, identity)) {
    return reject(message, fault, Refusal::kForNow);  // a key file may be put right
  }
  switch (message.header.type) {
    case FrameType::kHello:
      return hello(message);
    case FrameType::kPing:
      return ping(message);
    case FrameType::kData:
    case FrameType::kOut:
      return batch(message);
    case FrameType::kWelcome:
    case FrameType::kTombstone:
    case FrameType::kAckR:
    case FrameType::kAckG:
    case FrameType::kNack:
    case FrameType::kCredit:
    case FrameType::kPong:
    case FrameType::kAskIncluded:
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
  Source* source = find_or_add(message.header.source, message.now);
  if (source == nullptr) return reject(message, "sources", Refusal::kForNow);
  ++counters_[kHellos];
  if (source->peer.empty()) ++greeted_sources_;
  source->peer = message.peer;
  source->seen.epoch = hello->epoch;
  source->seen.last_seen = message.now;
  source->seen.report.name = hello->name;
  source->seen.report.tier = hello->tier;
  epoch_of(*source, hello->epoch);

  Welcome welcome;
  welcome.minor = std::min(hello->minor_max, kWireMinor);
  welcome.credit_bytes = credit();
  for (const auto& [number, epoch] : source->epochs) {
    const auto append = [number = number](std::vector<SeqSpan>& to, const IntervalSet& set) {
      const auto spans = spans_of(number, set);
      to.insert(to.end(), spans.begin(), spans.end());
    };
    append(welcome.here, epoch.here);
    append(welcome.last_tier, epoch.last_tier);
  }
  send(message.peer, FrameType::kWelcome, message.header.source, welcome);
}

void Intake::ping(const Message& message) {
  Source* source = greeted(message);
  if (source == nullptr) return;
  auto decoded = decode_body(message.header, message.body);
  auto* ping = decoded ? std::get_if<Ping>(&*decoded) : nullptr;
  if (ping == nullptr) return reject(message, "control", Refusal::kForNow);
  ++counters_[kPings];
  source->seen.last_seen = message.now;
  source->seen.report = std::move(ping->report);
  send(message.peer, FrameType::kPong, message.header.source,
       Pong{ping->mono_ns, message.now.time_since_epoch().count()});
}

// ---- batches ----

void Intake::batch(const Message& message) {
  const FrameHeader& header = message.header;
  Source* source = greeted(message);
  if (source == nullptr) return;
  source->seen.last_seen = message.now;
  if (message.body.size() != header.body_len) return reject(message, "body_len", Refusal::kForNow);
  if (header.body_len > kBatchMaxBytes) return reject(message, "body_size", Refusal::kForGood);
  const bool packed = header.codec == BodyCodec::kZstd;
  if (!packed && header.codec != BodyCodec::kNone) {
    return reject(message, "codec", Refusal::kForGood);
  }
  if (header.raw_len > kBatchMaxBytes || (!packed && header.raw_len != header.body_len)) {
    return reject(message, "raw_len", Refusal::kForGood);
  }
  if (header.seq == 0 || header.seq >= INT64_MAX || header.epoch == 0) {
    return reject(message, "seq", Refusal::kForGood);
  }
  Epoch& epoch = epoch_of(*source, header.epoch);
  if (epoch.here.contains(header.seq) || epoch.last_tier.contains(header.seq)) {
    ++counters_[kDuplicates];
    return acknowledge_held(message, epoch);
  }
  if (epoch.at_store.contains(header.seq)) {
    ++counters_[kWaiting];  // its answer comes with the commit
    return;
  }
  pass_on(message, epoch);
}

void Intake::pass_on(const Message& message, Epoch& epoch) {
  const FrameHeader& header = message.header;
  // Without an answer the sender tries again, later each time.
  if (bytes_at_store_ + header.raw_len > limits_.max_bytes) return count_rejected("store_full");
  if (crc32c(message.body) != header.body_crc32c) {
    return reject(message, "body_crc", Refusal::kForNow);
  }
  AcceptedBatch batch;
  if (header.codec == BodyCodec::kZstd) {
    auto raw = zstd_decompress(message.body, header.raw_len);
    if (!raw.ok()) return reject(message, "zstd", Refusal::kForGood);
    batch.body = *std::move(raw);
  } else {
    batch.body.assign(message.body.begin(), message.body.end());
  }
  const auto decoded = decode_batch(batch.body, limits_.batch);
  if (!decoded.ok()) return reject(message, "batch", Refusal::kForGood);
  if (const char* fault = window_fault(decoded->window, unix_seconds(message.now), limits_)) {
    return reject(message, fault, Refusal::kForGood);
  }
  batch.type = header.type;
  batch.source = header.source;
  batch.epoch = header.epoch;
  batch.seq = header.seq;
  batch.window = decoded->window;
  batch.mass = decoded->mass;
  batch.rows = decoded->rows.size();
  batch.crc32c = crc32c(batch.body);
  const Waiting waiting{batch.body.size(), batch.mass};
  if (!store_(std::move(batch))) return count_rejected("store_full");
  epoch.at_store.emplace(header.seq, waiting);
  bytes_at_store_ += waiting.bytes;
  ++counters_[kBatches];
  counters_[kBytes] += waiting.bytes;
}

void Intake::acknowledge_held(const Message& message, const Epoch& epoch) {
  const FrameHeader& header = message.header;
  const auto* last = epoch.last_tier.find(header.seq);
  const auto* range = last != nullptr ? last : epoch.here.find(header.seq);
  send(message.peer, last != nullptr ? FrameType::kAckG : FrameType::kAckR, header.source,
       Ack{{{header.epoch, range->first, range->second}}, credit()});
}

void Intake::committed(const std::vector<Acknowledgement>& answers) {
  // One acknowledgement per source, epoch and level, of whole ranges: each repeats earlier ones.
  std::map<std::tuple<SourceId, uint64_t, FrameType>, std::vector<uint64_t>> acks;
  for (const Acknowledgement& answer : answers) {
    const auto found = sources_.find(answer.source);
    if (found == sources_.end()) continue;  // forgotten; the ledger still knows
    Source& source = found->second;
    Epoch& epoch = epoch_of(source, answer.epoch);
    const bool stored = answer.level != FrameType::kNack;
    auto waiting = epoch.at_store.lower_bound(answer.lo);
    while (waiting != epoch.at_store.end() && waiting->first <= answer.hi) {
      bytes_at_store_ -= waiting->second.bytes;
      if (stored) {
        ++source.seen.batches;
        source.seen.mass += waiting->second.mass;
      }
      waiting = epoch.at_store.erase(waiting);
    }
    if (!stored) {
      const bool for_good = answer.refusal == Refusal::kForGood;
      count_rejected(for_good ? "store_refused" : "store_retry");
      for (uint64_t seq = answer.lo; seq <= answer.hi; ++seq) epoch.here.remove(seq);
      ++counters_[kNacks];
      send(source.peer, FrameType::kNack, answer.source,
           Nack{answer.epoch, answer.lo, answer.reason, for_good});
      continue;
    }
    IntervalSet& set = answer.level == FrameType::kAckG ? epoch.last_tier : epoch.here;
    set.add(answer.lo, answer.hi);
    acks[{answer.source, answer.epoch, answer.level}].push_back(answer.lo);
  }
  for (const auto& [key, numbers] : acks) {
    const auto& [id, number, level] = key;
    Source& source = sources_.at(id);
    const Epoch& epoch = epoch_of(source, number);
    const IntervalSet& set = level == FrameType::kAckG ? epoch.last_tier : epoch.here;
    std::set<std::pair<uint64_t, uint64_t>> ranges;
    for (const uint64_t seq : numbers) {
      if (const auto* range = set.find(seq)) ranges.insert(*range);
    }
    Ack ack;
    ack.credit_bytes = credit();
    for (const auto& [lo, hi] : ranges) ack.spans.push_back({number, lo, hi});
    if (!ack.spans.empty()) send(source.peer, level, id, ack);
  }
}

// ---- sources ----

Intake::Source* Intake::greeted(const Message& message) {
  const auto found = sources_.find(message.header.source);
  if (found != sources_.end() && found->second.peer == message.peer) return &found->second;
  count_rejected("no_hello");
  ++counters_[kNacks];
  send(message.peer, FrameType::kNack, message.header.source, Nack{0, 0, kNackNoHello, false});
  return nullptr;
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
    for (auto& [number, epoch] : oldest->second.epochs) forget(epoch);
    if (!oldest->second.peer.empty()) --greeted_sources_;
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
    forget(oldest->second);
    source.epochs.erase(oldest);
  }
  Epoch& epoch = source.epochs[number];
  epoch.last_use = ++uses_;
  return epoch;
}

void Intake::forget(Epoch& epoch) {
  for (const auto& [seq, waiting] : epoch.at_store) bytes_at_store_ -= waiting.bytes;
  epoch.at_store.clear();
}

std::vector<SeenSource> Intake::sources() const {
  std::vector<SeenSource> seen;
  seen.reserve(sources_.size());
  for (const auto& [id, source] : sources_) seen.push_back(source.seen);
  return seen;
}

// ---- answers ----

uint64_t Intake::credit() const {
  return std::min<uint64_t>(kMaxCredit, limits_.max_bytes / std::max<size_t>(greeted_sources_, 1));
}

void Intake::reject(const Message& message, std::string_view reason, Refusal refusal) {
  count_rejected(reason);
  ++counters_[kNacks];
  send(message.peer, FrameType::kNack, message.header.source,
       Nack{message.header.epoch, message.header.seq, std::string(reason),
            refusal == Refusal::kForGood});
}

void Intake::count_rejected(std::string_view reason) { ++counters_.at(rejected_key(reason)); }

void Intake::send(const PeerId& peer, FrameType type, const SourceId& source,
                  const ControlMessage& message) {
  FrameHeader header;
  header.type = type;
  header.source = source;
  const Bytes body = encode_control(message);
  // What is lost here is repeated by the next WELCOME or the answer to the next copy.
  if (peer.empty() || !door_.send(peer, encode_header_for(header, body), body)) {
    ++counters_[kUnsent];
  }
}

}  // namespace weir::aggregator
