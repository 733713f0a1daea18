#pragma once
// Edges as a region sees them: a key, a connection and an epoch each. What they send is made
// before the clock starts, so that the region is what is measured; each has a Session as real ones
// have, and sends by their rules (common/uplink_offers.h) without an outbox: within its credit or
// one batch, and again when there was no answer though the region has read on.
//
// Owner and thread: the bench's main thread; ZeroMQ's I/O threads encrypt.

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/tier_world.h"
#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/session.h"
#include "common/transport.h"
#include "common/zstd.h"

namespace weir::bench {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// A batch as it goes over the wire.
struct Packed {
  Bytes body;
  uint32_t raw_len = 0;
  BodyCodec codec = BodyCodec::kNone;
};

inline Packed as_is(const Bytes& raw) { return {raw, static_cast<uint32_t>(raw.size()), {}}; }

// As edges send it: compressed where that is smaller.
inline Packed packed(const Bytes& raw) {
  Bytes small = must(zstd_compress(raw, 1));
  if (small.size() >= raw.size()) return as_is(raw);
  return {std::move(small), static_cast<uint32_t>(raw.size()), BodyCodec::kZstd};
}

class Edges {
 public:
  // Connects and greets, so many at a time; returns when all were welcomed.
  Edges(const std::string& endpoint, const PublicKey& region, std::span<const KeyPair> keys,
        size_t at_a_time = kAtATime)
      : loop_(must(Loop::create())) {
    raise_descriptor_limit();
    edges_.reserve(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      // A link takes three of a context's 1,023 sockets.
      if (i % kLinksPerContext == 0) contexts_.push_back(std::make_unique<TransportContext>());
      auto link =
          must(connect_link(*contexts_.back(), *loop_, endpoint, {&keys[i], {z85_text(region)}}));
      edges_.push_back(std::make_unique<Edge>(keys[i].line().owner.source, std::move(link)));
      edges_.back()->link->on_receive(
          [this, &edge = *edges_.back()](ByteView header, ByteView body) {
            receive(edge, header, body);
          });
      if (i % at_a_time == at_a_time - 1) greet();
    }
    greet();
  }

  // Each edge sends `count` of its batch as fast as it may; until all are acknowledged. Seconds.
  double send(std::span<const Packed> batches, uint64_t count, milliseconds wait) {
    settle();
    const int64_t start = now_ns();
    const uint64_t goal = acked_ + count * edges_.size();
    for (size_t i = 0; i < edges_.size(); ++i) {
      edges_[i]->end = edges_[i]->next + count;
      edges_[i]->batch = &batches[i % batches.size()];
    }
    while (acked_ < goal) {
      for (auto& edge : edges_) {
        offer_overdue(*edge);
        while (may_send(*edge) && offer(*edge)) {
        }
      }
      const uint64_t before = acked_;
      turn(wait);
      if (acked_ > before) drains_.push_back(static_cast<double>(acked_ - before));
    }
    return static_cast<double>(now_ns() - start) / 1e9;
  }

  // One batch of the first edge is due each period, whatever the answers do; latencies are from
  // then on.
  void pace(const Packed& batch, uint64_t count, nanoseconds period) {
    const uint64_t goal = acked_ + count;
    settle();
    Edge& edge = *edges_.front();
    edge.batch = &batch;
    edge.end = edge.next + count;
    MonoTime due = clock_.mono();
    while (edge.next < edge.end) {
      if (clock_.mono() >= due && may_send(edge) && offer(edge)) {
        edge.under_way.back().since = due;
        due += period;
        continue;
      }
      offer_overdue(edge);
      turn(milliseconds(1));
    }
    while (acked_ < goal) {
      offer_overdue(edge);
      turn(milliseconds(1));
    }
  }

  // They only keep their connections for a while.
  void rest(milliseconds time) {
    const MonoTime end = clock_.mono() + time;
    while (clock_.mono() < end) turn(milliseconds(20));
  }

  // Of the batches since the last call: milliseconds from sent to ACK_R.
  std::vector<double> take_latencies() { return std::exchange(latencies_, {}); }

  // How many batches the region acknowledged at a time: what it had committed together.
  std::vector<double> take_drains() { return std::exchange(drains_, {}); }

  // Copies of batches that were not acknowledged in time, since the start.
  [[nodiscard]] uint64_t resent() const { return resent_; }

  [[nodiscard]] uint64_t refused(const std::string& reason) const {
    const auto found = refusals_.find(reason);
    return found == refusals_.end() ? 0 : found->second;
  }

 private:
  static constexpr size_t kLinksPerContext = 250;
  static constexpr size_t kFew = 100;
  static constexpr size_t kAtATime = 50;
  static constexpr nanoseconds kTick = milliseconds(100);
  static constexpr nanoseconds kRetryMin = milliseconds(200);
  static constexpr nanoseconds kRetryMax = std::chrono::seconds(30);
  static constexpr uint64_t kEpoch = 1;

  struct UnderWay {
    MonoTime since{};
    MonoTime sent{};
    MonoTime due{};  // of the next copy
    unsigned copies = 1;
    MonoTime known{};      // to be at the region, sent or waiting there
    bool refused = false;  // the last one, for now
  };

  struct Edge {
    Edge(const SourceId& source, std::unique_ptr<Link> to)
        : link(std::move(to)), session(*link, source, {.name = "bench", .tier = "edge"}) {}

    std::unique_ptr<Link> link;
    Session session;
    const Packed* batch = nullptr;
    uint64_t next = 1;               // number of the next batch
    uint64_t end = 1;                // of the last one to send, plus one
    std::deque<UnderWay> under_way;  // the last is next - 1

    [[nodiscard]] uint64_t first() const { return next - under_way.size(); }
  };

  // All that there are, for the first time.
  void greet() {
    turn_until([](const auto& edge) { return edge->session.target() != Target{}; });
  }

  // Nobody may have turned for a while: then the region has not heard of them, nor they of it.
  void settle() {
    next_tick_ = {};
    turn(milliseconds(0));
    turn_until([](const auto& edge) { return edge->session.connected(); });
  }

  template <class Done>
  void turn_until(Done done) {
    while (!std::ranges::all_of(edges_, done)) turn(milliseconds(2));
  }

  // Many sockets: asking them all costs more than it finds, so now and then is enough.
  void turn(milliseconds wait) {
    if (edges_.size() > kFew) {
      std::this_thread::sleep_for(wait);
      loop_->turn(milliseconds(0));
    } else {
      loop_->turn(wait);
    }
    const MonoTime now = clock_.mono();
    if (now < next_tick_) return;
    next_tick_ = now + kTick;
    for (auto& edge : edges_) {
      edge->session.tick(now, clock_.now(), {});
      if (edge->session.wants_hello(now))
        edge->session.hello(now, clock_.now(), {kEpoch, {}, 0, 0});
    }
  }

  [[nodiscard]] static bool may_send(const Edge& edge) {
    if (edge.next == edge.end || !edge.session.connected()) return false;
    const uint64_t credit = edge.session.stats().credit_bytes;
    if (edge.under_way.empty()) return credit > 0;
    return (edge.under_way.size() + 1) * uint64_t{edge.batch->raw_len} <= credit;
  }

  bool offer(Edge& edge) {
    if (!send(edge, edge.next)) return false;
    const MonoTime now = clock_.mono();
    edge.under_way.push_back(
        {.since = now, .sent = now, .due = now + delay(edge, 1), .known = now});
    ++edge.next;
    return true;
  }

  void offer_overdue(Edge& edge) {
    if (!edge.session.connected()) return;
    const MonoTime now = clock_.mono();
    uint64_t seq = edge.first();
    for (UnderWay& one : edge.under_way) {
      if (one.due <= now && (one.refused || edge.session.read_to() > one.known)) {
        if (!send(edge, seq)) return;
        ++resent_;
        ++one.copies;
        one.sent = one.known = now;
        one.due = now + delay(edge, one.copies);
        one.refused = false;
      }
      ++seq;
    }
  }

  nanoseconds delay(const Edge& edge, unsigned copies) {
    const nanoseconds trip = edge.session.stats().round_trip;
    const nanoseconds least = std::clamp(4 * trip, kRetryMin, kRetryMax);
    const nanoseconds most = std::min(least * (1 << std::min(copies, 16U)), kRetryMax);
    return nanoseconds(
        std::uniform_int_distribution<int64_t>(least.count(), most.count())(random_));
  }

  static bool send(Edge& edge, uint64_t seq) {
    FrameHeader header;
    header.type = FrameType::kData;
    header.codec = edge.batch->codec;
    header.epoch = kEpoch;
    header.seq = seq;
    header.target_epoch = edge.session.target().tier_epoch;
    header.raw_len = edge.batch->raw_len;
    return edge.session.send(header, edge.batch->body);
  }

  void receive(Edge& edge, ByteView header, ByteView bytes) {
    const auto heard = edge.session.receive(clock_.mono(), clock_.now(), header, bytes);
    must(because(heard.has_value(), "the region said what cannot be understood"));
    if (const auto* welcome = std::get_if<Welcome>(&heard->message)) {
      for (const SeqSpan& held : welcome->here) acknowledge(edge, held.hi);
      if (edge.session.goes_on()) return;
      for (UnderWay& one : edge.under_way) {
        one.refused = true;  // it is gone
        one.due = {};
      }
    } else if (const auto* nack = std::get_if<Nack>(&heard->message)) {
      must(because(!nack->permanent, "the region refused: " + nack->reason));
      const uint64_t first = edge.first();
      ++refusals_[nack->reason];
      if (nack->seq >= first && nack->seq < edge.next) {
        edge.under_way[nack->seq - first].refused = true;
      }
    } else if (const auto* pong = std::get_if<Pong>(&heard->message)) {
      for (const SeqSpan& span : pong->waiting) {
        for (uint64_t seq = std::max(span.lo, edge.first()); seq <= span.hi && seq < edge.next;
             ++seq) {
          edge.under_way[seq - edge.first()].known = clock_.mono();
        }
      }
    } else if (const auto* ack = std::get_if<Ack>(&heard->message)) {
      for (const SeqSpan& span : ack->spans) acknowledge(edge, span.hi);
    }
  }

  // In order: nothing is lost on this wire.
  void acknowledge(Edge& edge, uint64_t to) {
    const MonoTime now = clock_.mono();
    while (!edge.under_way.empty() && edge.first() <= to) {
      const UnderWay& one = edge.under_way.front();
      latencies_.push_back(static_cast<double>((now - one.since).count()) / 1e6);
      if (one.copies == 1) edge.session.observe_round_trip(now - one.sent);
      edge.under_way.pop_front();
      ++acked_;
    }
  }

  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
  std::vector<std::unique_ptr<TransportContext>> contexts_;
  std::vector<std::unique_ptr<Edge>> edges_;
  MonoTime next_tick_{};
  uint64_t acked_ = 0;
  uint64_t resent_ = 0;
  std::map<std::string, uint64_t> refusals_;
  std::vector<double> latencies_;
  std::vector<double> drains_;
  std::mt19937_64 random_{1};
};

}  // namespace weir::bench
