#pragma once
// Edges as a region sees them: a key, a connection and an epoch each. What they send is made
// before the clock starts, so that the region is what is measured; how much of it is under way is
// what an edge's own rule allows: its credit, or one batch.
//
// Owner and thread: the bench's main thread; ZeroMQ's I/O threads encrypt.

#include <chrono>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/tier_world.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/transport.h"
#include "common/zstd.h"

namespace weir::bench {

using std::chrono::milliseconds;

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
  // Connects and greets; returns when all were welcomed.
  Edges(const std::string& endpoint, const PublicKey& region, std::span<const KeyPair> keys)
      : loop_(must(Loop::create())) {
    raise_descriptor_limit();
    edges_.resize(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      // A link takes three of a context's 1,023 sockets.
      if (i % kLinksPerContext == 0) contexts_.push_back(std::make_unique<TransportContext>());
      Edge& edge = edges_[i];
      edge.source = keys[i].line().owner.source;
      edge.link =
          must(connect_link(*contexts_.back(), *loop_, endpoint, {&keys[i], {z85_text(region)}}));
      edge.link->on_receive(
          [this, &edge](ByteView header, ByteView body) { receive(edge, header, body); });
      // Not all at once: a handshake that waits for others longer than 3 s is cut.
      if (i % kAtATime == kAtATime - 1) greet(i + 1);
    }
    greet(keys.size());
  }

  // Each edge sends `count` of its batch as fast as it may; until all are acknowledged. Seconds.
  double send(std::span<const Packed> batches, uint64_t count, milliseconds wait) {
    const int64_t start = now_ns();
    const uint64_t goal = acked_ + count * edges_.size();
    for (Edge& edge : edges_) edge.end = edge.next + count;
    while (acked_ < goal) {
      for (size_t i = 0; i < edges_.size(); ++i) {
        const Packed& batch = batches[i % batches.size()];
        offer_overdue(edges_[i], batch);
        while (may_send(edges_[i], batch) && offer(edges_[i], batch)) {
        }
      }
      const uint64_t before = acked_;
      turn(wait);
      if (acked_ > before) drains_.push_back(static_cast<double>(acked_ - before));
    }
    return static_cast<double>(now_ns() - start) / 1e9;
  }

  // One batch of the first edge each period, whatever the answers do.
  void pace(const Packed& batch, uint64_t count, std::chrono::nanoseconds period) {
    const uint64_t goal = acked_ + count;
    Edge& edge = edges_.front();
    edge.end = edge.next + count;
    int64_t due = now_ns();
    while (edge.next < edge.end) {
      while (now_ns() < due || !offer(edge, batch)) loop_->turn(milliseconds(1));
      due += period.count();
    }
    while (acked_ < goal) loop_->turn(milliseconds(1));
  }

  // Until nothing was said for a while.
  void rest(milliseconds time) {
    const int64_t end = now_ns() + time / std::chrono::nanoseconds(1);
    while (now_ns() < end) turn(milliseconds(20));
  }

  // Of the batches since the last call: milliseconds from sent to ACK_R.
  std::vector<double> take_latencies() { return std::exchange(latencies_, {}); }

  // How many batches the region acknowledged at a time: what it had committed together.
  std::vector<double> take_drains() { return std::exchange(drains_, {}); }

  // Copies of batches that were not acknowledged in time, since the start.
  [[nodiscard]] uint64_t resent() const { return resent_; }

 private:
  static constexpr size_t kLinksPerContext = 250;
  static constexpr size_t kFew = 100;
  static constexpr size_t kAtATime = 50;
  static constexpr int64_t kGreetAgainNs = 2'000'000'000;
  static constexpr int64_t kRetryMinNs = 200'000'000;
  static constexpr int64_t kRetryMaxNs = 30'000'000'000;

  struct UnderWay {
    int64_t sent_ns = 0;
    int64_t due_ns = 0;  // of the next copy
    unsigned copies = 1;
  };

  struct Edge {
    std::unique_ptr<Link> link;
    SourceId source{};
    uint64_t target_epoch = 0;
    uint64_t credit = 0;
    bool welcomed = false;
    int64_t greeted_ns = 0;
    int64_t round_trip_ns = 0;
    uint64_t next = 1;               // number of the next batch
    uint64_t end = 1;                // of the last one to send, plus one
    std::deque<UnderWay> under_way;  // the last is next - 1
  };

  static constexpr uint64_t kEpoch = 1;

  static bool say_hello(Edge& edge) {
    Hello hello;
    hello.tier = "edge";
    hello.name = "bench";
    hello.epoch = kEpoch;
    return send(edge, FrameType::kHello, 0, as_is(encode_control(hello)));
  }

  // The first `count`.
  void greet(size_t count) {
    for (; welcomed_ < count; turn(milliseconds(2))) {
      const size_t last = (count - 1) / kAtATime * kAtATime;
      for (Edge& edge : std::span(edges_).subspan(last, count - last)) {
        if (edge.welcomed || now_ns() - edge.greeted_ns < kGreetAgainNs) continue;
        if (say_hello(edge)) edge.greeted_ns = now_ns();
      }
    }
  }

  // Many sockets: asking them all costs more than it finds, so now and then is enough.
  void turn(milliseconds wait) {
    if (edges_.size() > kFew) {
      std::this_thread::sleep_for(wait);
      loop_->turn(milliseconds(0));
    } else {
      loop_->turn(wait);
    }
  }

  [[nodiscard]] static bool may_send(const Edge& edge, const Packed& batch) {
    if (edge.next == edge.end) return false;
    if (edge.under_way.empty()) return edge.credit > 0;
    return (edge.under_way.size() + 1) * uint64_t{batch.raw_len} <= edge.credit;
  }

  bool offer(Edge& edge, const Packed& batch) {
    if (!send(edge, FrameType::kData, edge.next, batch)) return false;
    const int64_t now = now_ns();
    edge.under_way.push_back({now, now + delay(edge, 1), 1});
    ++edge.next;
    return true;
  }

  // As edges do it: after a few round trips, and more seldom each time.
  void offer_overdue(Edge& edge, const Packed& batch) {
    const int64_t now = now_ns();
    uint64_t seq = edge.next - edge.under_way.size();
    for (UnderWay& one : edge.under_way) {
      if (one.due_ns <= now) {
        if (!send(edge, FrameType::kData, seq, batch)) return;
        ++resent_;
        one.due_ns = now + delay(edge, ++one.copies);
      }
      ++seq;
    }
  }

  int64_t delay(const Edge& edge, unsigned copies) {
    const int64_t least = std::clamp(4 * edge.round_trip_ns, kRetryMinNs, kRetryMaxNs);
    const int64_t most = std::min(least << std::min(copies, 16U), kRetryMaxNs);
    return std::uniform_int_distribution(least, most)(random_);
  }

  static bool send(Edge& edge, FrameType type, uint64_t seq, const Packed& batch) {
    FrameHeader header;
    header.type = type;
    header.codec = batch.codec;
    header.source = edge.source;
    header.epoch = kEpoch;
    header.seq = seq;
    header.target_epoch = edge.target_epoch;
    header.raw_len = batch.raw_len;
    return edge.link->send(encode_header_for(header, batch.body), batch.body);
  }

  void receive(Edge& edge, ByteView header, ByteView bytes) {
    const auto decoded = must(decode_header(header));
    if (decoded.type == FrameType::kAckG) return;
    const auto message = must(decode_control(bytes));
    if (const auto* welcome = std::get_if<Welcome>(&message)) {
      if (!std::exchange(edge.welcomed, true)) ++welcomed_;
      edge.target_epoch = welcome->tier_epoch;
      edge.credit = welcome->credit_bytes;
    } else if (const auto* nack = std::get_if<Nack>(&message)) {
      must(because(!nack->permanent, "the region refused: " + nack->reason));
      // The connection was cut and made again, so it is a stranger's until it is greeted.
      if (nack->seq == 0) edge.greeted_ns = say_hello(edge) ? now_ns() : 0;
    } else if (const auto* credit = std::get_if<Credit>(&message)) {
      edge.credit = credit->bytes;
    } else if (const auto* ack = std::get_if<Ack>(&message)) {
      acknowledge(edge, ack->spans.back().hi);
      if (ack->credit_bytes > 0) edge.credit = ack->credit_bytes;
    }
  }

  // In order: nothing is lost on this wire.
  void acknowledge(Edge& edge, uint64_t to) {
    const int64_t now = now_ns();
    uint64_t count = 0;
    while (!edge.under_way.empty() && edge.next - edge.under_way.size() <= to) {
      const UnderWay& one = edge.under_way.front();
      latencies_.push_back(static_cast<double>(now - one.sent_ns) / 1e6);
      const int64_t trip = now - one.sent_ns;
      int64_t& smooth = edge.round_trip_ns;
      if (one.copies == 1) smooth = smooth == 0 ? trip : (smooth * 7 + trip) / 8;
      edge.under_way.pop_front();
      ++count;
    }
    acked_ += count;
  }

  std::unique_ptr<Loop> loop_;
  std::vector<std::unique_ptr<TransportContext>> contexts_;
  std::vector<Edge> edges_;
  size_t welcomed_ = 0;
  uint64_t acked_ = 0;
  uint64_t resent_ = 0;
  std::vector<double> latencies_;
  std::vector<double> drains_;
  std::mt19937_64 random_{1};
};

}  // namespace weir::bench
