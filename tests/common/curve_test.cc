// The transport with keys: who gets in, who is heard, and what becomes of the others.

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <set>

#include <gtest/gtest.h>
#include <zmq.h>

#include "common/frame.h"
#include "common/transport.h"
#include "common/transport_self_test.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using namespace std::chrono_literals;

KeyPair pair_for(Role role, const SourceId& source = random_uuid()) {
  return KeyPair::generate({source, role}, PublicLine::kNever);
}

std::string refused(const std::string& reason) {
  return "weir_transport_handshakes_refused_total{reason=\"" + reason + "\"}";
}

struct Message {
  PeerId peer;
  std::optional<Identity> identity;
  FrameHeader header;
  std::string body;
};

// A client that keeps to no rule: its own context, options as the test likes.
class RawClient {
 public:
  explicit RawClient(const std::string& endpoint, const KeyPair* keys = nullptr,
                     const PublicKey& server = {}, const std::string& routing_id = "")
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int zero = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &zero, sizeof zero);
    if (!routing_id.empty()) {
      zmq_setsockopt(socket_, ZMQ_ROUTING_ID, routing_id.data(), routing_id.size());
    }
    if (keys != nullptr) {
      zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, server.data(), server.size());
      zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, keys->line().key.data(), 32);
      zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, keys->secret().data(), 32);
    }
    EXPECT_EQ(zmq_connect(socket_, endpoint.c_str()), 0);
  }

  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  ~RawClient() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }

  void send(int frames) {
    for (int i = 0; i < frames; ++i) {
      zmq_send(socket_, "frame", 5, ZMQ_DONTWAIT | (i + 1 < frames ? ZMQ_SNDMORE : 0));
    }
  }

  [[nodiscard]] bool hears_something() {
    char byte = 0;
    return zmq_recv(socket_, &byte, 1, ZMQ_DONTWAIT) >= 0;
  }

 private:
  void* context_;
  void* socket_;
};

class CurveTest : public testing::Test {
 protected:
  CurveTest() : loop_(*Loop::create()) {
    allow("edge", edge_);
    allow_ = *AllowList::open(dir_.path(), *loop_, clock_);
    auto bound = bind();
    EXPECT_TRUE(bound.ok()) << (bound.ok() ? "" : bound.error().message);
    door_ = *std::move(bound);
    listen();
  }

  void listen() {
    door_->on_receive([this](const PeerId& peer, const std::optional<Identity>& identity,
                             ByteView header, ByteView body) {
      FrameHeader decoded;
      if (const auto good = decode_header(header)) decoded = *good;
      heard_.push_back({peer, identity, decoded,
                        std::string(reinterpret_cast<const char*>(body.data()), body.size())});
    });
    turn_for(50ms);  // the self-test's last events
    before_ = door_->counters();
  }

  Result<std::unique_ptr<Door>> bind() {
    return bind_door(context_, *loop_, "tcp://127.0.0.1:0",
                     {.keys = &server_, .allow = allow_.get(), .clock = &clock_});
  }

  void allow(const std::string& name, const KeyPair& pair) {
    std::ofstream(dir_.file(name + ".pub")) << public_line_text(pair.line()) << "\n";
  }

  void revoke(const std::string& name) {
    ASSERT_EQ(std::remove(dir_.file(name + ".pub").c_str()), 0);
    allow_->reload();
  }

  std::unique_ptr<Link> connect(const KeyPair& keys, std::vector<std::string> server_keys = {}) {
    if (server_keys.empty()) server_keys = {z85_text(server_.line().key)};
    return *connect_link(context_, *loop_, door_->endpoint(), {&keys, std::move(server_keys)});
  }

  static bool say(Link& link, const KeyPair& keys, const std::string& text) {
    FrameHeader header;
    header.type = FrameType::kPing;
    header.source = keys.line().owner.source;
    return link.send(encode_header_for(header, as_bytes(text)), as_bytes(text));
  }

  void turn_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!done()) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "nothing happened in 30 s";
      loop_->turn(10ms);
    }
  }

  void turn_for(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) loop_->turn(10ms);
  }

  // Since the start, and nothing else was counted.
  uint64_t only(const std::string& name) {
    uint64_t found = 0;
    for (const auto& [counter, value] : door_->counters()) {
      const uint64_t more = value - before_.at(counter);
      if (counter == name) {
        found = more;
      } else {
        EXPECT_EQ(more, 0U) << counter;
      }
    }
    return found;
  }

  uint64_t counted(const std::string& name) {
    return door_->counters().at(name) - before_.at(name);
  }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<Loop> loop_;
  TransportContext context_;
  KeyPair server_ = pair_for(Role::kRegion);
  KeyPair edge_ = pair_for(Role::kEdge);
  std::unique_ptr<AllowList> allow_;
  std::unique_ptr<Door> door_;
  std::vector<Message> heard_;
  std::map<std::string, uint64_t> before_;
};

TEST_F(CurveTest, AMessageCarriesWhoseKeyItCameWith) {
  const auto link = connect(edge_);
  turn_until([&] { return say(*link, edge_, "hello"); });
  turn_until([&] { return !heard_.empty(); });
  EXPECT_EQ(heard_[0].identity, edge_.line().owner);
  EXPECT_EQ(heard_[0].body, "hello");
  std::string answer;
  link->on_receive([&](ByteView, ByteView body) {
    answer.assign(reinterpret_cast<const char*>(body.data()), body.size());
  });
  ASSERT_TRUE(door_->send(heard_[0].peer, as_bytes("header"), as_bytes("welcome")));
  turn_until([&] { return answer == "welcome"; });
  EXPECT_EQ(link->refusal(), "");
  EXPECT_EQ(only(""), 0U);
}

TEST_F(CurveTest, AnUnknownKeyIsRefusedAndGetsInOnceItIsListed) {
  const KeyPair stranger = pair_for(Role::kEdge);
  const auto link = connect(stranger);
  turn_until([&] { return only(refused("unknown_key")) >= 1; });
  turn_until([&] { return !link->refusal().empty(); });
  EXPECT_NE(link->refusal().find("allow.d"), std::string::npos) << link->refusal();
  EXPECT_FALSE(say(*link, stranger, "x"));
  allow("new", stranger);
  allow_->reload();
  turn_until([&] { return say(*link, stranger, "now"); });  // it tries again by itself
  turn_until([&] { return !heard_.empty(); });
  EXPECT_EQ(heard_[0].identity, stranger.line().owner);
  EXPECT_EQ(link->refusal(), "");
}

// Both ends see that the other speaks another mechanism: whoever hangs up first decides whether the
// door calls it plain or unfinished.
TEST_F(CurveTest, AClientWithoutKeysIsRefused) {
  RawClient plain(door_->endpoint());
  plain.send(2);
  turn_until([&] { return counted(refused("plain")) + counted(refused("unfinished")) >= 1; });
  turn_for(100ms);
  EXPECT_TRUE(heard_.empty());
}

TEST_F(CurveTest, AKeyThatEndedIsRefused) {
  const KeyPair ended = KeyPair::generate({random_uuid(), Role::kEdge}, unix_seconds(clock_.now()));
  allow("ended", ended);
  allow_->reload();
  const auto link = connect(ended);
  turn_until([&] { return only(refused("expired_key")) >= 1; });
}

TEST_F(CurveTest, TheServersNextKeyIsTriedWhenItsFirstIsNotTheOne) {
  const KeyPair next = pair_for(Role::kRegion);
  const auto link = connect(edge_, {z85_text(next.line().key), z85_text(server_.line().key)});
  turn_until([&] { return say(*link, edge_, "found"); });
  turn_until([&] { return !heard_.empty(); });
  EXPECT_EQ(heard_[0].body, "found");
  EXPECT_GE(counted(refused("crypto")), 1U);
}

TEST_F(CurveTest, ARevokedKeyIsToldSoAndWhoGoesOnIsCutAlone) {
  const KeyPair honest = pair_for(Role::kEdge);
  allow("honest", honest);
  allow_->reload();
  const auto good = connect(honest);
  const auto bad = connect(edge_);
  std::vector<FrameType> told;
  bad->on_receive([&](ByteView header, ByteView) { told.push_back(decode_header(header)->type); });
  turn_until([&] { return say(*bad, edge_, "before"); });
  turn_until([&] { return heard_.size() == 1; });
  turn_until([&] { return say(*good, honest, "good"); });
  turn_until([&] { return heard_.size() == 2; });
  revoke("edge");
  ASSERT_TRUE(say(*bad, edge_, "after"));
  turn_until([&] { return counted("weir_transport_revoked_messages_total") == 1; });
  turn_until([&] { return !told.empty(); });
  EXPECT_EQ(told[0], FrameType::kRevoked);
  EXPECT_EQ(only("weir_transport_revoked_messages_total"), 1U);
  EXPECT_EQ(heard_.size(), 2U);
  turn_until([&] {
    if (counted("weir_transport_cuts_total") == 1) return true;
    [[maybe_unused]] const bool sent = say(*bad, edge_, "again");
    return false;
  });
  turn_until([&] { return counted(refused("unknown_key")) >= 1; });  // it may not come back
  turn_until([&] { return say(*good, honest, "still here"); });
  turn_until([&] { return heard_.back().body == "still here"; });
  EXPECT_EQ(counted("weir_transport_cuts_total"), 1U);
  EXPECT_EQ(counted("weir_transport_rebinds_total"), 0U);
  EXPECT_EQ(heard_.back().peer, heard_[1].peer) << "the honest one's connection was cut too";
  for (const Message& message : heard_) EXPECT_EQ(message.body.find("again"), std::string::npos);
}

TEST_F(CurveTest, AConnectionWhoseKeyWentIsToldAndCutThoughItSaysNothing) {
  const auto link = connect(edge_);
  std::vector<FrameType> told;
  link->on_receive([&](ByteView header, ByteView) { told.push_back(decode_header(header)->type); });
  turn_until([&] { return say(*link, edge_, "once"); });
  turn_until([&] { return heard_.size() == 1; });
  revoke("edge");
  turn_until([&] { return counted("weir_transport_cuts_total") == 1; });
  turn_until([&] { return counted(refused("unknown_key")) >= 1; });  // it may not come back
  EXPECT_EQ(told, std::vector{FrameType::kRevoked});
  EXPECT_EQ(counted("weir_transport_revoked_messages_total"), 0U);
  turn_for(1200ms);
  EXPECT_EQ(counted("weir_transport_cuts_total"), 1U);
}

TEST_F(CurveTest, ARevokedKeyIsRevokedWhateverTheNumberOfItsFrames) {
  RawClient raw(door_->endpoint(), &edge_, server_.line().key);
  raw.send(2);
  turn_until([&] { return heard_.size() == 1; });
  revoke("edge");
  raw.send(1);
  raw.send(15);
  turn_until([&] { return counted("weir_transport_revoked_messages_total") == 2; });
  EXPECT_EQ(door_->bad_frame_count(), 0U);
  for (int i = 0; i < 3; ++i) {
    raw.send(1);
    raw.send(3);
  }
  turn_until([&] { return counted("weir_transport_cuts_total") >= 1; });
  EXPECT_EQ(door_->bad_frame_count(), 0U);
}

TEST_F(CurveTest, AListedKeyThatRepeatsWrongNumbersOfFramesIsBannedAndCut) {
  RawClient raw(door_->endpoint(), &edge_, server_.line().key);
  raw.send(2);
  turn_until([&] { return heard_.size() == 1; });
  for (uint64_t i = 1; i <= 8; ++i) {
    raw.send(15);
    turn_until([&] { return door_->bad_frame_count() == i; });
  }
  EXPECT_EQ(counted("weir_transport_cuts_total"), 1U);
  turn_until([&] { return counted(refused("banned_key")) >= 1; });  // it tried to come back
  EXPECT_EQ(counted("weir_transport_giant_messages_total"), 0U);
}

TEST_F(CurveTest, AMessageOfManyFramesBansItsKeyAndCutsIt) {
  RawClient raw(door_->endpoint(), &edge_, server_.line().key);
  raw.send(2);
  turn_until([&] { return heard_.size() == 1; });
  raw.send(40);
  turn_until([&] { return counted("weir_transport_cuts_total") == 1; });
  EXPECT_EQ(counted("weir_transport_giant_messages_total"), 1U);
  turn_until([&] { return counted(refused("banned_key")) >= 1; });  // it tried to come back
  clock_.advance(11min);
  const auto link = connect(edge_);
  turn_until([&] { return say(*link, edge_, "after the ban"); });
  turn_until([&] { return heard_.back().body == "after the ban"; });
  EXPECT_EQ(heard_.size(), 2U);
  EXPECT_EQ(counted("weir_transport_giant_messages_total"), 1U);
}

TEST_F(CurveTest, WhereNoConnectionCanBeCutAloneTheDoorIsBoundAgain) {
  door_.reset();
  heard_.clear();
  turn_until([&] {  // the old one's ZAP handler goes in its own time
    auto bound = bind_door(context_, *loop_, "ipc://" + dir_.file("door"),
                           {.keys = &server_, .allow = allow_.get(), .clock = &clock_});
    if (bound) door_ = *std::move(bound);
    return door_ != nullptr;
  });
  listen();
  const KeyPair honest = pair_for(Role::kEdge);
  allow("honest", honest);
  allow_->reload();
  const auto good = connect(honest);
  turn_until([&] { return say(*good, honest, "good"); });
  RawClient raw(door_->endpoint(), &edge_, server_.line().key);
  raw.send(40);
  turn_until([&] { return counted("weir_transport_rebinds_total") == 1; });
  turn_until([&] { return counted(refused("banned_key")) >= 1; });
  turn_until([&] { return say(*good, honest, "still here"); });
  turn_until([&] { return !heard_.empty() && heard_.back().body == "still here"; });
}

TEST_F(CurveTest, AFewMessagesOfFewFramesTooManyAreOnlyCounted) {
  RawClient raw(door_->endpoint(), &edge_, server_.line().key);
  raw.send(1);
  raw.send(3);
  raw.send(2);
  turn_until([&] { return heard_.size() == 1; });
  EXPECT_EQ(door_->bad_frame_count(), 2U);
  EXPECT_EQ(only(""), 0U);
}

// libzmq makes routing ids itself unless a client names one: ours never do, so there is nothing to
// take, and a client that names another's gets none of its answers.
TEST_F(CurveTest, AStolenRoutingIdGetsNothing) {
  const KeyPair thief = pair_for(Role::kEdge);
  allow("thief", thief);
  allow_->reload();
  RawClient victim(door_->endpoint(), &edge_, server_.line().key, "victim");
  victim.send(2);
  turn_until([&] { return heard_.size() == 1; });
  RawClient raw(door_->endpoint(), &thief, server_.line().key, "victim");
  raw.send(2);
  turn_for(300ms);
  EXPECT_EQ(heard_.size(), 1U);  // it is not even heard
  ASSERT_TRUE(door_->send(heard_[0].peer, as_bytes("secret"), as_bytes("answer")));
  turn_until([&] { return victim.hears_something(); });
  turn_for(200ms);
  EXPECT_FALSE(raw.hears_something());
}

TEST_F(CurveTest, IdleConnectionsAreCountedAndLeaveRoomForTheHonest) {
  raise_descriptor_limit();
  const std::string endpoint = door_->endpoint();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port =
      htons(static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
  constexpr size_t kIdle = 200;  // tests/e2e/attack_test.py has 1,500
  std::vector<Fd> idle;
  for (size_t i = 0; i < kIdle; ++i) {
    idle.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(
        ::connect(idle.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
        0);
  }
  const auto link = connect(edge_);
  turn_until([&] { return say(*link, edge_, "through"); });
  turn_until([&] { return !heard_.empty(); });
  turn_until([&] { return only(refused("unfinished")) >= kIdle; });  // HANDSHAKE_IVL
}

TEST_F(CurveTest, ALinkOutlivesAServerThatSpeaksSomethingElse) {
  const std::string endpoint = door_->endpoint();
  door_.reset();
  void* context = zmq_ctx_new();
  void* plain = zmq_socket(context, ZMQ_ROUTER);
  turn_until([&] { return zmq_bind(plain, endpoint.c_str()) == 0; });
  auto link = *connect_link(context_, *loop_, endpoint, {&edge_, {z85_text(server_.line().key)}});
  turn_until([&] { return !link->refusal().empty(); });
  const int zero = 0;
  zmq_setsockopt(plain, ZMQ_LINGER, &zero, sizeof zero);
  zmq_close(plain);
  zmq_ctx_term(context);
  turn_until([&] {
    auto bound = bind_door(context_, *loop_, endpoint,
                           {.keys = &server_, .allow = allow_.get(), .clock = &clock_});
    if (bound) door_ = *std::move(bound);
    return door_ != nullptr;
  });
  turn_until([&] { return say(*link, edge_, "back"); });
}

// What answers the self-test must be a door that refuses, not a network that cuts.
TEST_F(CurveTest, AHandshakeThatIsOnlyCutIsNoRefusal) {
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  const auto entry = loop_->on_readable(listener.get(), [&] {
    const Fd cut_at_once(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  });
  const std::string endpoint = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  const Status done = transport::check_strangers_are_refused(
      *loop_, endpoint, server_.line().key, [] { return true; }, 500ms);
  loop_->remove(entry);
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find("does not refuse a key nobody knows"), std::string::npos)
      << done.error().message;
}

// One message each, as a goodbye is: libzmq may drop the last of many in spite of it.
TEST_F(CurveTest, WhatADoorSaidLastLeavesWhileItLingers) {
  std::vector<KeyPair> keys;
  std::vector<std::unique_ptr<Link>> links;
  size_t heard = 0;
  for (int i = 0; i < 30; ++i) {
    keys.push_back(pair_for(Role::kEdge));
    allow("edge-" + std::to_string(i), keys.back());
  }
  allow_->reload();
  for (const KeyPair& pair : keys) {
    links.push_back(connect(pair));
    links.back()->on_receive([&](ByteView, ByteView) { ++heard; });
    turn_until([&] { return say(*links.back(), pair, "hello"); });
  }
  turn_until([&] { return heard_.size() == keys.size(); });
  door_->linger(2s);
  for (const Message& message : heard_) {
    ASSERT_TRUE(door_->send(message.peer, as_bytes("good"), as_bytes("bye")));
  }
  door_.reset();
  turn_until([&] { return heard == keys.size(); });
}

TEST_F(CurveTest, KeysAreAllOrNothing) {
  EXPECT_FALSE(connect_link(context_, *loop_, "tcp://127.0.0.1:1", {&edge_, {}}).ok());
  EXPECT_FALSE(
      connect_link(context_, *loop_, "tcp://127.0.0.1:1", {nullptr, {z85_text(server_.line().key)}})
          .ok());
  EXPECT_FALSE(
      connect_link(context_, *loop_, "inproc://x", {&edge_, {z85_text(server_.line().key)}}).ok());
  const auto second = bind();  // one ZAP handler answers for one door
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::kIo);
}

}  // namespace
}  // namespace weir
