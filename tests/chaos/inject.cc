// inject ENDPOINT WIDTH_S: sends an aggregator each kind of bad message, each from a source and a
// connection of its own, as a broken or hostile peer on this host could. Prints one JSON object:
// what it sent, by the counter that must have counted it, the honest batch among them, and whether
// that is at the last tier: until then a sender must not forget a batch, as this one does. Ends
// with 3 when nobody is welcome and nothing was sent.
//
// Each bad message is preceded by a HELLO that is answered, and followed by a PING: its answer says
// that everything before it has been judged.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <zmq.h>

#include "common/batch.h"
#include "common/check.h"
#include "common/control.h"
#include "common/crc32c.h"
#include "common/frame.h"

namespace weir {
namespace {

constexpr int kNobodyWelcome = 3;
constexpr int kAnswerMs = 5000;
constexpr std::chrono::seconds kLastTierWait{1};
constexpr uint64_t kUnit = uint64_t{1} << 20;  // tests/chaos/world.py UNIT
constexpr uint64_t kHonest = 7 * kUnit;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "inject: %s\n", why.c_str());
  std::exit(1);
}

uint64_t random_number() {
  static std::random_device device;
  return uint64_t{device()} << 31 ^ device();
}

Bytes bytes_of(const HeaderBytes& header) { return {header.begin(), header.end()}; }

struct Answer {
  FrameHeader header;
  ControlMessage body;
};

// A peer that has greeted: one source, one DEALER.
class Peer {
 public:
  Peer(void* context, const std::string& endpoint) : socket_(zmq_socket(context, ZMQ_DEALER)) {
    const int linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &kAnswerMs, sizeof kAnswerMs);
    if (zmq_connect(socket_, endpoint.c_str()) != 0) die("cannot connect to " + endpoint);
    header_.epoch = random_number() >> 1 | 1;
    const uint64_t id = random_number();
    std::memcpy(header_.source.data(), &id, sizeof id);
  }

  ~Peer() { zmq_close(socket_); }

  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Before anything else.
  bool greet() {
    Hello hello;
    hello.name = "inject";
    hello.tier = "edge";
    hello.epoch = header_.epoch;
    for (int attempt = 0; attempt < 20; ++attempt) {
      control(FrameType::kHello, hello);
      if (const auto welcome = answer({FrameType::kWelcome, FrameType::kNack})) {
        if (const auto* it = std::get_if<Welcome>(&welcome->body)) {
          header_.target_epoch = it->tier_epoch;
          header_.type = FrameType::kData;
          header_.seq = 1;
          return true;
        }
      }
      usleep(100'000);
    }
    return false;
  }

  void send(const std::vector<Bytes>& frames) {
    for (size_t i = 0; i < frames.size(); ++i) {
      const int more = i + 1 < frames.size() ? ZMQ_SNDMORE : 0;
      if (zmq_send(socket_, frames[i].data(), frames[i].size(), more) < 0) die("cannot send");
    }
  }

  void control(FrameType type, const ControlMessage& message) {
    FrameHeader header = header_;
    header.type = type;
    header.seq = 0;
    header.target_epoch = 0;
    const Bytes body = encode_control(message);
    send({bytes_of(encode_header_for(header, body)), body});
  }

  // Waits for an answer of one of these types; passes over others.
  std::optional<Answer> answer(std::initializer_list<FrameType> types) {
    while (true) {
      std::vector<Bytes> frames;
      int more = 1;
      while (more != 0) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, socket_, 0) < 0) return std::nullopt;
        const auto* data = static_cast<const std::byte*>(zmq_msg_data(&part));
        frames.emplace_back(data, data + zmq_msg_size(&part));
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
      }
      if (frames.size() != 2) continue;
      const auto header = decode_header(frames[0]);
      auto body = decode_control(frames[1]);
      if (!header || !body) continue;
      if (header->type == FrameType::kAckG) at_last_tier_ = true;
      for (const FrameType type : types) {
        if (header->type == type) return Answer{*header, *std::move(body)};
      }
    }
  }

  // Until everything sent before has been judged.
  void settle() {
    control(FrameType::kPing, Ping{});
    if (!answer({FrameType::kPong})) die("no PONG after a bad message");
  }

  // Whether the batch is at the last tier before long.
  bool reaches_last_tier() {
    const auto deadline = std::chrono::steady_clock::now() + kLastTierWait;
    while (!at_last_tier_ && std::chrono::steady_clock::now() < deadline) {
      usleep(100'000);
      control(FrameType::kPing, Ping{});
      if (!answer({FrameType::kPong})) break;  // reads what has come before it
    }
    return at_last_tier_;
  }

  [[nodiscard]] const FrameHeader& header() const { return header_; }

 private:
  void* socket_;
  FrameHeader header_;
  bool at_last_tier_ = false;
};

EncodedBatch make_batch(int64_t start_s, uint32_t width_s) {
  const Metric metric{"chaos_units", Kind::kCounter, "", 0};
  const Labels labels{{"lane", "0"}};
  const Value value = Counter{kHonest};
  const BatchRow row{&metric, &labels, &value};
  auto batches = encode_batches({Window{start_s, width_s}, {{"host", "inject"}}, {}}, {&row, 1});
  WEIR_CHECK(batches.size() == 1);
  stamp_cum_mass(batches.front().body, kHonest);
  return std::move(batches.front());
}

using Frames = std::vector<Bytes>;

// How a good message becomes a bad one.
using Make = std::function<Frames(FrameHeader, Bytes)>;

Frames framed(const FrameHeader& header, const Bytes& body) {
  return {bytes_of(encode_header_for(header, body)), body};
}

// The header as it is, with a right CRC of its own and nothing filled in from the body.
Frames as_told(const FrameHeader& header, const Bytes& body) {
  return {bytes_of(encode_header(header)), body};
}

FrameHeader told_of(FrameHeader header, const Bytes& body) {
  header.raw_len = static_cast<uint32_t>(body.size());
  header.body_len = header.raw_len;
  header.body_crc32c = crc32c(body);
  return header;
}

std::string rejected(const std::string& reason) {
  return "weir_intake_rejected_total{reason=\"" + reason + "\"}";
}

// Each with the counter that must count it, and no other.
std::vector<std::pair<std::string, Make>> bad_kinds(int64_t now_s, uint32_t width_s) {
  const std::string bad_frames = "weir_transport_bad_frames_total";
  const auto body_in_window = [=](int64_t start_s, uint32_t width) {
    return make_batch(start_s, width).body;
  };
  const int64_t aligned = now_s - now_s % width_s;
  return {
      {rejected("header_size"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[0].pop_back();
         return frames;
       }},
      {rejected("header_magic"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[0][0] ^= std::byte{1};
         return frames;
       }},
      {rejected("header_crc"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[0][33] ^= std::byte{1};
         return frames;
       }},
      {rejected("version"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[0][4] = std::byte{2};
         const uint32_t crc = crc32c(ByteView(frames[0]).first(60));
         std::memcpy(&frames[0][60], &crc, sizeof crc);
         return frames;
       }},
      {rejected("type"),
       [](auto header, auto body) {
         header.type = FrameType{200};
         return framed(header, body);
       }},
      {rejected("no_hello"),
       [](auto header, auto body) {
         header.source[15] ^= std::byte{1};  // another's name on this connection
         return framed(header, body);
       }},
      {rejected("body_crc"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[1][body.size() / 2] ^= std::byte{4};
         return frames;
       }},
      {rejected("body_len"),
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames[1].resize(body.size() / 2);
         return frames;
       }},
      {rejected("body_size"),
       [](auto header, auto) { return framed(header, Bytes(kBatchMaxBytes + 1)); }},
      {rejected("codec"),
       [](auto header, auto body) {
         header.codec = BodyCodec{9};
         return framed(header, body);
       }},
      {rejected("raw_len"),
       [](auto header, auto body) {
         header = told_of(header, body);
         ++header.raw_len;
         return as_told(header, body);
       }},
      {rejected("zstd"),
       [](auto header, auto body) {
         header.codec = BodyCodec::kZstd;  // which it is not
         header = told_of(header, body);
         return as_told(header, body);
       }},
      {rejected("seq"),
       [](auto header, auto body) {
         header.seq = 0;
         return framed(header, body);
       }},
      {rejected("batch"),
       [](auto header, auto body) {
         for (size_t i = 8; i < body.size(); ++i) body[i] ^= std::byte{0x5a};
         return framed(header, body);
       }},
      {rejected("window_width"),
       [=](auto header, auto) {
         return framed(header, body_in_window(now_s - now_s % (2 * width_s), 2 * width_s));
       }},
      {rejected("window_old"),
       [=](auto header, auto) {
         return framed(header, body_in_window(aligned - int64_t{80} * 3600, width_s));
       }},
      {rejected("window_ahead"),
       [=](auto header, auto) { return framed(header, body_in_window(aligned + 3600, width_s)); }},
      {rejected("control"),
       [](auto header, auto body) {
         header.type = FrameType::kHello;
         return framed(header, body);
       }},
      {rejected("target_epoch"),
       [](auto header, auto body) {
         ++header.target_epoch;  // an epoch that is not yet
         return framed(header, body);
       }},
      {bad_frames, [](auto header, auto body) { return Frames{framed(header, body)[0]}; }},
      {bad_frames,
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames.resize(12);
         return frames;
       }},
      {"weir_transport_giant_messages_total",
       [](auto header, auto body) {
         Frames frames = framed(header, body);
         frames.resize(99);
         return frames;
       }},
  };
}

void run(const std::string& endpoint, uint32_t width_s) {
  void* context = zmq_ctx_new();
  const int64_t now_s = std::time(nullptr);
  const int64_t start_s = now_s - now_s % width_s;
  std::map<std::string, int> sent;
  // The honest batch, and then the same once more.
  std::optional<Peer> honest(std::in_place, context, endpoint);
  if (!honest->greet()) std::exit(kNobodyWelcome);
  const Bytes good = make_batch(start_s, width_s).body;
  for (int copy = 0; copy < 2; ++copy) {
    honest->send(framed(honest->header(), good));
    if (!honest->answer({FrameType::kAckR, FrameType::kAckG})) die("no acknowledgement");
  }
  sent["weir_intake_duplicates_total"] = 1;
  honest->settle();
  for (const auto& [counter, make] : bad_kinds(now_s, width_s)) {
    Peer peer(context, endpoint);
    if (!peer.greet()) die("no WELCOME any more");
    peer.send(make(peer.header(), make_batch(start_s, width_s).body));
    peer.settle();
    ++sent[counter];
  }
  std::printf("{\"window\": %lld, \"pushed\": %llu, \"at_last_tier\": %s, \"sent\": {",
              static_cast<long long>(start_s), static_cast<unsigned long long>(kHonest),
              honest->reaches_last_tier() ? "true" : "false");
  honest.reset();
  const char* comma = "";
  for (const auto& [counter, count] : sent) {
    std::string quoted;
    for (const char c : counter) quoted += c == '"' ? std::string("\\\"") : std::string(1, c);
    std::printf("%s\"%s\": %d", comma, quoted.c_str(), count);
    comma = ", ";
  }
  std::printf("}}\n");
  zmq_ctx_term(context);
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: inject ENDPOINT WIDTH_S\n");
    return 2;
  }
  weir::run(argv[1], static_cast<uint32_t>(std::stoul(argv[2])));
  return 0;
}
