#pragma once
// FakeLastTier and FakeTier: what a tier in the middle and the last one promise, in memory and a
// page long, for tests of what sends to them. The last tier checks: what it takes twice, or takes
// of a life that it has fenced, is counted as wrong.

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/control.h"
#include "common/crc32c.h"
#include "common/frame.h"
#include "tests/fakes/fake_link.h"

namespace weir {

class FakeLastTier {
 public:
  using Key = std::pair<uint64_t, uint64_t>;  // epoch, seq

  struct Row {
    uint64_t mass = 0;
    bool lost = false;
  };

  uint64_t hand_out(const SourceId& tier) { return ++last_epoch_[tier]; }

  void call_silent(const SourceId& tier, bool silent) {
    if (silent) {
      silent_.insert(tier);
    } else {
      silent_.erase(tier);
    }
  }

  void merge(const Target& from, const std::map<Key, Row>& rows) {
    WEIR_CHECK(!fenced_.contains(from));
    for (const auto& [key, row] : rows) {
      if (!merged.emplace(key, row).second) ++doubled;
    }
  }

  [[nodiscard]] bool is_fenced(const Target& target) const { return fenced_.contains(target); }

  // The fence comes first. Answers for at most `most` seqs.
  Included answer(const AskIncluded& asked, uint64_t most) {
    const Target target{asked.tier_source, asked.tier_epoch};
    Included out{asked.tier_source, asked.tier_epoch, asked.source, asked.epoch,
                 asked.lo,          asked.lo - 1,     false,        {}};
    const bool superseded = asked.tier_epoch < last_epoch_[asked.tier_source];
    const bool nobodys = target == kNobody;
    if (!nobodys && !superseded && !silent_.contains(asked.tier_source)) return out;
    if (!nobodys) fenced_.insert(target);
    out.fenced = true;
    out.complete_to = std::min(asked.hi, asked.lo + most - 1);
    for (const auto& [key, row] : merged) {
      const auto& [epoch, seq] = key;
      if (epoch == asked.epoch && asked.lo <= seq && seq <= out.complete_to) {
        out.spans.push_back({epoch, seq, seq});
      }
    }
    return out;
  }

  std::map<Key, Row> merged;
  uint64_t doubled = 0;

 private:
  std::map<SourceId, uint64_t> last_epoch_;
  std::set<SourceId> silent_;
  std::set<Target> fenced_;
};

class FakeTier {
 public:
  using Key = FakeLastTier::Key;

  FakeTier(const SourceId& id, FakeWire& wire, FakeLastTier& last)
      : wire_(wire), last_(last), target_{id, last.hand_out(id)} {
    wire_.door().on_receive([this](const PeerId& peer, const std::optional<Identity>&,
                                   ByteView header, ByteView body) { hear(peer, header, body); });
  }

  // Everything it had is gone.
  void lose_disk() {
    here_.clear();
    inbox_.clear();
    released_.clear();
    peer_.clear();
    target_.tier_epoch = last_.hand_out(target_.tier_source);
  }

  void restart() { peer_.clear(); }

  // Some of what waits goes to the last tier; a life that was fenced ends here.
  void fold(size_t most) {
    if (last_.is_fenced(target_)) return lose_disk();  // its own greeting would tell it
    std::map<Key, FakeLastTier::Row> rows;
    while (rows.size() < most && !inbox_.empty()) rows.insert(inbox_.extract(inbox_.begin()));
    if (rows.empty()) return;
    last_.merge(target_, rows);
    for (const auto& [key, row] : rows) released_.insert(key);
    Ack ack{{}, kCredit};
    for (const auto& [key, row] : rows) {
      if (!ack.spans.empty() && ack.spans.back().epoch != key.first) {
        tell(FrameType::kAckG, std::exchange(ack, Ack{{}, kCredit}));
      }
      ack.spans.push_back({key.first, key.second, key.second});
    }
    tell(FrameType::kAckG, ack);
  }

  [[nodiscard]] const Target& target() const { return target_; }

  static constexpr uint64_t kCredit = 6000;

 private:
  void hear(const PeerId& peer, ByteView header_bytes, ByteView body) {
    const auto header = decode_header(header_bytes);
    if (!header.ok() || header->body_len != body.size() || header->body_crc32c != crc32c(body)) {
      return;
    }
    source_ = header->source;
    if (header->type == FrameType::kHello) return greet(peer);
    if (peer != peer_) {
      const Bytes none = encode_control(Nack{0, 0, kNackNoHello, false});
      send(peer, FrameType::kNack, none);
      return;
    }
    if (header->type == FrameType::kPing) {
      const auto ping = decode_control(body);
      return tell(FrameType::kPong, Pong{std::get<Ping>(*ping).mono_ns, 0, {}});
    }
    if (header->type == FrameType::kAskIncluded) {
      const auto message = decode_control(body);
      return tell(FrameType::kIncluded, last_.answer(std::get<AskIncluded>(*message), 3));
    }
    WEIR_CHECK(header->type == FrameType::kData || header->type == FrameType::kTombstone);
    take(*header, body);
  }

  void greet(const PeerId& peer) {
    peer_ = peer;
    Welcome welcome;
    welcome.credit_bytes = kCredit;
    welcome.tier_source = target_.tier_source;
    welcome.tier_epoch = target_.tier_epoch;
    for (const auto& [epoch, seq] : here_) welcome.here.push_back({epoch, seq, seq});
    for (const auto& [epoch, seq] : released_) welcome.last_tier.push_back({epoch, seq, seq});
    tell(FrameType::kWelcome, welcome);
  }

  void take(const FrameHeader& header, ByteView body) {
    const Key key{header.epoch, header.seq};
    if (header.target_epoch != target_.tier_epoch) {
      return tell(FrameType::kNack, Nack{key.first, key.second, kNackTargetEpoch, false});
    }
    if (here_.insert(key).second) {
      FakeLastTier::Row row;
      if (header.type == FrameType::kTombstone) {
        row = {std::get<Tombstone>(*decode_control(body)).mass, true};
      } else {
        row = {decode_batch(body)->mass, false};
      }
      inbox_.emplace(key, row);
    }
    const Ack ack{{{key.first, key.second, key.second}}, kCredit};
    tell(released_.contains(key) ? FrameType::kAckG : FrameType::kAckR, ack);
  }

  void tell(FrameType type, const ControlMessage& message) {
    if (!peer_.empty()) send(peer_, type, encode_control(message));
  }

  void send(const PeerId& peer, FrameType type, const Bytes& body) {
    FrameHeader header;
    header.type = type;
    header.source = source_;
    const bool sent = wire_.door().send(peer, encode_header_for(header, body), body);
    static_cast<void>(sent);  // losing one is harmless
  }

  FakeWire& wire_;
  FakeLastTier& last_;
  Target target_;
  SourceId source_{};
  PeerId peer_;
  std::set<Key> here_;
  std::set<Key> released_;
  std::map<Key, FakeLastTier::Row> inbox_;
};

}  // namespace weir
