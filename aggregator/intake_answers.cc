// The answering half of Intake: WELCOME, acknowledgements, credit, and what follows when this tier
// or a source below it is fenced.

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "aggregator/intake.h"
#include "aggregator/intake_counters.h"
#include "common/crash_point.h"

namespace weir::aggregator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kMaxCredit = uint64_t{4} << 20;
constexpr uint64_t kScored = 20;                    // points that make a source starve first
constexpr MonoTime::duration kAsleep = seconds(5);  // without a turn: nobody was listening
constexpr milliseconds kSpreadPerPeer{3};           // of those who come back after a GOAWAY
constexpr milliseconds kLongestSpread{30'000};

void append_spans(std::vector<SeqSpan>& to, uint64_t epoch, const IntervalSet& set) {
  for (const auto& [lo, hi] : set.ranges()) to.push_back({epoch, lo, hi});
}

}  // namespace

void Intake::crash_at(const char* point) const { crash_point((limits_.kind + point).c_str()); }

void Intake::welcome(Source& source, const PeerId& peer, const Hello& hello, uint64_t your_epoch) {
  if (source.peer.empty()) ++greeted_sources_;
  source.peer = peer;
  source.seen.epoch = your_epoch != 0 ? your_epoch : hello.epoch;
  source.seen.report.name = hello.name;
  source.seen.report.tier = hello.tier;
  Welcome welcome;
  welcome.minor = std::min(hello.minor_max, kWireMinor);
  welcome.credit_bytes = grant(source);
  welcome.tier_source = limits_.source;
  welcome.tier_epoch = limits_.epoch;
  welcome.your_epoch = your_epoch;
  std::set<uint64_t> named(hello.epochs.begin(), hello.epochs.end());
  named.insert(hello.epoch);
  for (const uint64_t number : named) {
    const auto epoch = source.epochs.find(number);
    if (epoch == source.epochs.end()) continue;
    append_spans(welcome.here, number, epoch->second.here);
    append_spans(welcome.last_tier, number, epoch->second.last_tier);
  }
  send(peer, FrameType::kWelcome, source.seen.id, welcome);
}

void Intake::acknowledge_held(const Message& message, Source& source, const Epoch& epoch) {
  const FrameHeader& header = message.header;
  const auto* last = epoch.last_tier.find(header.seq);
  const auto* range = last != nullptr ? last : epoch.here.find(header.seq);
  send(message.peer, last != nullptr ? FrameType::kAckG : FrameType::kAckR, header.source,
       Ack{{{header.epoch, range->first, range->second}}, grant(source)});
}

void Intake::committed(const Answers& answers) {
  // A tier in an epoch that is fenced greets anew, though it may have nothing to send: else it, and
  // those below it, would never know.
  const auto part_from = [this](const Included& fence) {
    const auto found = sources_.find(fence.tier_source);
    if (found == sources_.end() || found->second.peer.empty()) return;
    Source& tier = found->second;
    if (!tier.is_tier || tier.seen.epoch != fence.tier_epoch) return;
    send(tier.peer, FrameType::kFenced, fence.tier_source, Fenced{fence.tier_epoch});
    tier.peer.clear();
    --greeted_sources_;
  };
  if (!answers.acks.empty()) {
    crash_at(".ack_before");
    take_answers(answers.acks);
    crash_at(".ack_after");
  }
  for (const SeqRange& range : answers.gone) {
    const auto found = sources_.find(range.source);
    if (found == sources_.end()) continue;
    Epoch& epoch = epoch_of(found->second, range.epoch);
    for (uint64_t seq = range.lo; seq <= range.hi; ++seq) {
      epoch.here.remove(seq);
      epoch.last_tier.remove(seq);
    }
  }
  if (answers.own_epoch) begin_epoch(*answers.own_epoch);
  for (const Greeted& greeted : answers.greeted) {
    const auto found = sources_.find(greeted.source);
    if (found == sources_.end() || !found->second.greeter) continue;
    const Greeter greeter = *std::exchange(found->second.greeter, std::nullopt);
    welcome(found->second, greeter.peer, greeter.hello, greeted.your_epoch);
  }
  for (const Told& told : answers.told) {
    asked_.erase({told.asker, told.included.source});
    if (told.included.fenced) part_from(told.included);
    const auto found = sources_.find(told.asker);
    if (found == sources_.end() || found->second.peer.empty()) continue;
    send(found->second.peer, FrameType::kIncluded, told.asker, told.included);
  }
  feed();
}

void Intake::take_answers(const std::vector<Acknowledgement>& answers) {
  // One acknowledgement per source, epoch and level, of whole ranges: each repeats earlier ones.
  std::map<std::tuple<SourceId, uint64_t, FrameType>, std::vector<uint64_t>> acks;
  for (const Acknowledgement& answer : answers) {
    const auto found = sources_.find(answer.source);
    if (found == sources_.end()) continue;  // forgotten; the ledger still knows
    Source& source = found->second;
    Epoch& epoch = epoch_of(source, answer.epoch);
    const bool stored = answer.level == FrameType::kAckR || answer.level == FrameType::kAckG;
    auto waiting = epoch.at_store.lower_bound(answer.lo);
    while (waiting != epoch.at_store.end() && waiting->first <= answer.hi) {
      bytes_at_store_ -= waiting->second.bytes;
      source.raw_at_store -= waiting->second.raw_len;
      if (stored) {
        ++source.seen.batches;
        source.seen.mass += waiting->second.mass;
      }
      waiting = epoch.at_store.erase(waiting);
    }
    if (!stored) {
      refused(source, epoch, answer);
      continue;
    }
    const bool last = answer.level == FrameType::kAckG;
    (last ? epoch.last_tier : epoch.here).add(answer.lo, answer.hi);
    if (last) {
      epoch.body_crc.erase(epoch.body_crc.lower_bound(answer.lo),
                           epoch.body_crc.upper_bound(answer.hi));
    }
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
    Ack ack{.spans = {}, .credit_bytes = grant(source)};
    for (const auto& [lo, hi] : ranges) ack.spans.push_back({number, lo, hi});
    if (!ack.spans.empty()) send(source.peer, level, id, ack);
  }
}

void Intake::refused(Source& source, Epoch& epoch, const Acknowledgement& answer) {
  for (uint64_t seq = answer.lo; seq <= answer.hi; ++seq) {
    epoch.here.remove(seq);
    epoch.body_crc.erase(seq);
    if (answer.level == FrameType::kFenced) {
      count_rejected("fenced");
      continue;
    }
    const bool for_good = answer.refusal == Refusal::kForGood;
    count_rejected(for_good ? "store_refused" : "store_retry");
    ++counters_[kNacks];
    send(source.peer, FrameType::kNack, answer.source,
         Nack{answer.epoch, seq, answer.reason, for_good});
  }
  if (answer.level == FrameType::kFenced) {
    send(source.peer, FrameType::kFenced, answer.source, Fenced{answer.epoch});
  }
}

// Another life of this tier: what is not at the last one is forgotten, and everybody greets anew.
void Intake::begin_epoch(uint64_t epoch) {
  if (epoch == limits_.epoch) return;
  limits_.epoch = epoch;
  for (auto& [id, source] : sources_) {
    source.peer.clear();
    source.greeter.reset();
    for (auto& [number, held] : source.epochs) {
      held.here = held.last_tier;
      held.body_crc.clear();
    }
  }
  greeted_sources_ = 0;
  starved_.clear();
}

void Intake::take_turn(const Instant& now) {
  if (now.mono - last_turn_ > kAsleep) awake_since_ = now.mono;
  last_turn_ = now.mono;
  watch_clock(now);
}

void Intake::tick(const Instant& now) {
  take_turn(now);
  feed();
}

void Intake::say_goodbye() {
  const auto spread = static_cast<uint64_t>(
      std::min(kLongestSpread, kSpreadPerPeer * static_cast<int64_t>(greeted_sources_)).count());
  uint64_t nth = 0;
  for (const auto& [id, source] : sources_) {
    if (source.peer.empty()) continue;
    // In the order of ids, which are random: spread evenly.
    const uint64_t after_ms = spread * nth++ / std::max<uint64_t>(greeted_sources_, 1);
    send(source.peer, FrameType::kGoaway, id, Goaway{after_ms, "stopping"});
  }
}

// ---- credit ----

bool Intake::starves(const Source& source) const {
  const size_t share = source.seen.score >= kScored ? 4 : 2;
  return bytes_at_store_ > limits_.max_bytes / share;
}

// What this source may have under way from now on.
uint64_t Intake::grant(Source& source) {
  if (starves(source)) {
    if (starved_.insert(source.seen.id).second) ++counters_[kStarved];
    return 0;
  }
  starved_.erase(source.seen.id);
  const uint64_t share = limits_.max_bytes / std::max<size_t>(greeted_sources_, 1);
  const uint64_t bytes = std::min(kMaxCredit, share);
  source.granted = std::max(source.granted, bytes);
  return bytes;
}

void Intake::feed() {
  for (auto at = starved_.begin(); at != starved_.end();) {
    Source& source = sources_.at(*at);
    if (starves(source)) {
      ++at;
      continue;
    }
    const SourceId id = *at++;  // grant() takes it out
    const uint64_t bytes = grant(source);
    if (!source.peer.empty()) send(source.peer, FrameType::kCredit, id, Credit{bytes});
  }
}

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
