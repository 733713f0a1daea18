// peer: honest and hostile ends of a door with keys, one process each, for attack_test.py (Python
// has no ZeroMQ here). Prints one line of JSON when it ends.
//
//   peer honest       ENDPOINT SERVER_KEY SECONDS KEYS_DIR   batches, 20 a second, each timed to
//   ACK_R peer talker       the same, but goes on when it is told REVOKED peer foreign      HELLOs
//   in another source's name peer region       an edge's key that sends a region's rollups peer
//   giant        one message of 20,000 frames, then normal ones peer unknown      handshakes with
//   keys nobody knows     (no KEYS_DIR) peer plain        handshakes without a key peer idle 1,500
//   connections that say nothing peer routing-id   two connections that call themselves the same

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/core.h>
#include <zmq.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/fd.h"
#include "common/frame.h"
#include "common/transport.h"
#include "tests/fakes/batches.h"

namespace weir {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kBeat{50};
constexpr size_t kIdleConnections = 1500;
constexpr int kHandshakes = 20;
constexpr int kGiantFrames = 20'000;

struct Task {
  std::string endpoint;
  std::string server_key;
  seconds time{0};
  std::string keys;
  MonoTime end;
};

void fail(const std::string& why) {
  std::fprintf(stderr, "peer: %s\n", why.c_str());
  std::exit(1);
}

// A source with one batch a beat, by the rules of the protocol.
class Honest {
 public:
  Honest(const Task& task, FrameType type, std::string tier)
      : task_(task), type_(type), tier_(std::move(tier)), keys_(load(task.keys)), loop_(make()) {
    auto link = connect_link(context_, *loop_, task.endpoint, {&keys_, {task.server_key}});
    if (!link) fail(link.error().message);
    link_ = *std::move(link);
    link_->on_receive([this](ByteView header, ByteView body) { receive(header, body); });
    loop_->every(kBeat, [this] { beat(); });
  }

  void run() {
    while (clock_.mono() < task_.end) loop_->turn(kBeat);
    std::ranges::sort(latencies_);
    const auto at = [&](double share) {
      if (latencies_.empty()) return 0.0;
      const auto last = static_cast<double>(latencies_.size() - 1);
      return latencies_[static_cast<size_t>(share * last)];
    };
    fmt::print(R"({{"sent": {}, "acked": {}, "revoked": {}, "nacked": {}, "p50_ms": {:.3f}, )"
               R"("p99_ms": {:.3f}}})"
               "\n",
               seq_, latencies_.size(), revoked_, nacked_, at(0.5), at(0.99));
  }

 private:
  static KeyPair load(const std::string& dir) {
    auto pair = KeyPair::load(dir);
    if (!pair) fail(pair.error().message);
    return *std::move(pair);
  }

  static std::unique_ptr<Loop> make() {
    auto loop = Loop::create();
    if (!loop) fail(loop.error().message);
    return *std::move(loop);
  }

  [[nodiscard]] FrameHeader header_of(FrameType type, uint64_t seq) const {
    FrameHeader header;
    header.type = type;
    header.source = keys_.line().owner.source;
    header.epoch = epoch_;
    header.seq = seq;
    header.target_epoch = target_epoch_;
    return header;
  }

  void beat() {
    if (!welcome_) {
      Hello hello;
      hello.name = "peer";
      hello.tier = tier_;
      hello.epoch = epoch_;
      const Bytes body = encode_control(hello);
      [[maybe_unused]] const bool sent =
          link_->send(encode_header_for(header_of(FrameType::kHello, 0), body), body);
      if (type_ == FrameType::kData) return;  // others do not ask
    }
    const int64_t now_s = unix_seconds(clock_.now());
    Bytes body = counter_batch({now_s - now_s % 60, 60}, 1).body;
    stamp_cum_mass(body, seq_ + 1);
    if (!link_->send(encode_header_for(header_of(type_, seq_ + 1), body), body)) return;
    sent_at_[++seq_] = clock_.mono();
  }

  void receive(ByteView bytes, ByteView body) {
    const auto header = decode_header(bytes);
    if (!header) return;
    if (header->type == FrameType::kRevoked) ++revoked_;
    const auto message = decode_control(body);
    if (!message) return;
    if (const auto* welcome = std::get_if<Welcome>(&*message)) {
      welcome_ = true;
      target_epoch_ = welcome->tier_epoch;
    } else if (const auto* nack = std::get_if<Nack>(&*message)) {
      ++nacked_;
      if (nack->reason == kNackNoHello) welcome_ = false;
    } else if (const auto* ack = std::get_if<Ack>(&*message);
               ack != nullptr && header->type == FrameType::kAckR) {
      for (const SeqSpan& span : ack->spans) acknowledged(span);
    }
  }

  void acknowledged(const SeqSpan& span) {
    const auto first = sent_at_.lower_bound(span.lo);
    const auto last = sent_at_.upper_bound(span.hi);
    for (auto it = first; it != last; ++it) {
      latencies_.push_back(
          std::chrono::duration<double, std::milli>(clock_.mono() - it->second).count());
    }
    sent_at_.erase(first, last);
  }

  const Task& task_;
  FrameType type_;
  std::string tier_;
  KeyPair keys_;
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
  TransportContext context_;
  std::unique_ptr<Link> link_;
  bool welcome_ = false;
  uint64_t epoch_ = static_cast<uint64_t>(SystemClock().now().time_since_epoch().count());
  uint64_t target_epoch_ = 0;
  uint64_t seq_ = 0;
  uint64_t revoked_ = 0;
  uint64_t nacked_ = 0;
  std::map<uint64_t, MonoTime> sent_at_;
  std::vector<double> latencies_;
};

// A ZeroMQ client that keeps to no rule.
class Raw {
 public:
  Raw(const Task& task, const KeyPair* keys, const std::string& routing_id = "")
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int zero = 0;
    const int never = -1;
    zmq_setsockopt(socket_, ZMQ_LINGER, &zero, sizeof zero);
    zmq_setsockopt(socket_, ZMQ_RECONNECT_IVL, &never, sizeof never);  // one try each
    if (!routing_id.empty()) {
      zmq_setsockopt(socket_, ZMQ_ROUTING_ID, routing_id.data(), routing_id.size());
    }
    if (keys != nullptr) {
      zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, task.server_key.c_str(), kZ85KeySize + 1);
      zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, keys->line().key.data(), 32);
      zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, keys->secret().data(), 32);
    }
    if (zmq_connect(socket_, task.endpoint.c_str()) != 0) fail("cannot connect");
  }

  Raw(const Raw&) = delete;
  Raw& operator=(const Raw&) = delete;

  ~Raw() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }

  void part(std::string_view text, bool more) {
    zmq_send(socket_, text.data(), text.size(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
  }

  [[nodiscard]] uint64_t heard() {
    uint64_t messages = 0;
    char byte = 0;
    while (zmq_recv(socket_, &byte, 1, ZMQ_DONTWAIT) >= 0) ++messages;
    return messages;
  }

 private:
  void* context_;
  void* socket_;
};

void wait_until(MonoTime end) { std::this_thread::sleep_until(end); }

void hello_as(Raw& raw, const SourceId& source) {
  Hello hello;
  hello.name = "thief";
  hello.tier = "edge";
  hello.epoch = 1;
  const Bytes body = encode_control(hello);
  FrameHeader header;
  header.type = FrameType::kHello;
  header.source = source;
  header.epoch = 1;
  const auto bytes = encode_header_for(header, body);
  raw.part({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, true);
  raw.part({reinterpret_cast<const char*>(body.data()), body.size()}, false);
}

void handshakes(const Task& task, bool with_keys) {
  uint64_t heard = 0;
  for (int i = 0; i < kHandshakes; ++i) {
    const KeyPair stranger = KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever);
    Raw raw(task, with_keys ? &stranger : nullptr);
    hello_as(raw, stranger.line().owner.source);
    std::this_thread::sleep_for(milliseconds(task.time) / kHandshakes);
    hello_as(raw, stranger.line().owner.source);
    heard += raw.heard();
  }
  fmt::print("{{\"tried\": {}, \"heard\": {}}}\n", kHandshakes, heard);
}

void idle(const Task& task) {
  raise_descriptor_limit();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::string port = task.endpoint.substr(task.endpoint.rfind(':') + 1);
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(port)));
  std::vector<Fd> connections;
  for (size_t i = 0; i < kIdleConnections; ++i) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      fail("cannot connect");
    }
    connections.push_back(std::move(fd));
  }
  wait_until(task.end);
  fmt::print("{{\"tried\": {}}}\n", connections.size());
}

void with_own_key(const std::string& what, const Task& task) {
  const auto keys = KeyPair::load(task.keys);
  if (!keys) fail(keys.error().message);
  const SourceId own = keys->line().owner.source;
  const milliseconds settle(500);
  uint64_t sent = 0;
  uint64_t heard = 0;
  if (what == "foreign") {
    Raw raw(task, &*keys);
    std::this_thread::sleep_for(settle);
    for (; sent < kHandshakes; ++sent) hello_as(raw, random_uuid());
    wait_until(task.end);
    heard = raw.heard();
  } else if (what == "routing-id") {
    Raw first(task, &*keys, "victim");
    std::this_thread::sleep_for(settle);
    Raw second(task, &*keys, "victim");
    std::this_thread::sleep_for(settle);
    hello_as(second, own);
    hello_as(first, own);
    wait_until(task.end);
    if (first.heard() == 0) fail("the first got no answer");
    sent = 1;
    heard = second.heard();
  } else {
    Raw raw(task, &*keys);
    std::this_thread::sleep_for(settle);
    for (int i = 0; i < kGiantFrames; ++i) raw.part("frame", i + 1 < kGiantFrames);
    sent = 1;
    wait_until(task.end);
    hello_as(raw, own);
    heard = raw.heard();
  }
  fmt::print("{{\"tried\": {}, \"heard\": {}}}\n", sent, heard);
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 4) {
    std::fprintf(stderr, "usage: peer WHAT ENDPOINT SERVER_KEY SECONDS [KEYS_DIR]\n");
    return 2;
  }
  const std::string& what = arguments[0];
  Task task{arguments[1],
            arguments[2],
            seconds(std::stoi(arguments[3])),
            arguments.size() > 4 ? arguments[4] : "",
            {}};
  task.end = SystemClock().mono() + task.time;
  if (what == "honest" || what == "talker") {
    Honest(task, FrameType::kData, "edge").run();
  } else if (what == "region") {
    Honest(task, FrameType::kOut, "edge").run();
  } else if (what == "unknown" || what == "plain") {
    handshakes(task, what == "unknown");
  } else if (what == "idle") {
    idle(task);
  } else {
    with_own_key(what, task);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::run({argv + 1, argv + argc}); }
