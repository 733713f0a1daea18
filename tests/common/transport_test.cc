#include "common/transport.h"

#include <chrono>

#include <gtest/gtest.h>
#include <zmq.h>

namespace weir {
namespace {

using namespace std::chrono_literals;

struct Message {
  PeerId peer;
  Bytes header;
  Bytes body;
};

Bytes copy(ByteView view) { return {view.begin(), view.end()}; }

TEST(Endpoint, OnlyThisHostIsSafeWithoutKeys) {
  for (const char* safe : {"tcp://127.0.0.1:7401", "tcp://127.9.8.7:0", "tcp://localhost:7401",
                           "tcp://[::1]:7401", "ipc:///run/weir/up", "inproc://test"}) {
    EXPECT_TRUE(check_endpoint_is_safe(safe).ok()) << safe;
  }
  for (const char* unsafe :
       {"tcp://10.0.0.1:7401", "tcp://*:7401", "tcp://0.0.0.0:7401", "tcp://[::]:7401",
        "tcp://127.0.0.1.example.org:7401", "tcp://127.0.0:7401", "tcp://127.0.0.256:1",
        "tcp://127.0.0.1", "tcp://localhost.example.org:1", "tcp://eth0:1", "udp://127.0.0.1:1",
        "tcp://10.0.0.1;127.0.0.1:7401", "tcp://:7401", "tcp://", ""}) {
    const auto refused = check_endpoint_is_safe(unsafe);
    ASSERT_FALSE(refused.ok()) << unsafe;
    EXPECT_NE(refused.error().message.find("CURVE keys are needed"), std::string::npos);
  }
}

class TransportTest : public testing::Test {
 protected:
  TransportTest()
      : loop_(*Loop::create()), door_(*bind_door(context_, *loop_, "tcp://127.0.0.1:0")) {
    door_->on_receive([this](const PeerId& peer, const std::optional<Identity>& identity,
                             ByteView header, ByteView body) {
      EXPECT_FALSE(identity.has_value()) << "nobody proved anything on a plain door";
      at_door_.push_back({peer, copy(header), copy(body)});
    });
  }

  template <class Done>
  void turn_until(Done done) {
    for (int i = 0; i < 2000; ++i) {
      if (done()) return;  // asked once per turn: it may send
      loop_->turn(10ms);
    }
    FAIL() << "nothing happened in 2000 turns";
  }

  TransportContext context_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Door> door_;
  std::vector<Message> at_door_;
};

TEST_F(TransportTest, AMessageGoesUpAndItsAnswerComesDown) {
  EXPECT_FALSE(door_->endpoint().ends_with(":0"));
  auto link = *connect_link(context_, *loop_, door_->endpoint());
  std::vector<Message> at_link;
  link->on_receive([&](ByteView header, ByteView body) {
    at_link.push_back({{}, copy(header), copy(body)});
  });
  turn_until([&] { return link->writable(); });
  ASSERT_TRUE(link->send(as_bytes("header"), as_bytes("body")));
  turn_until([&] { return at_door_.size() == 1; });
  EXPECT_EQ(at_door_[0].header, copy(as_bytes("header")));
  EXPECT_EQ(at_door_[0].body, copy(as_bytes("body")));
  ASSERT_TRUE(door_->send(at_door_[0].peer, as_bytes("ack"), {}));
  turn_until([&] { return at_link.size() == 1; });
  EXPECT_EQ(at_link[0].header, copy(as_bytes("ack")));
  EXPECT_TRUE(at_link[0].body.empty());
}

TEST_F(TransportTest, SendingToNobodyIsAnErrorThatReturns) {
  EXPECT_FALSE(door_->send("nobody", as_bytes("header"), as_bytes("body")));
  auto link = *connect_link(context_, *loop_, "ipc:///nonexistent/weir-no-peer");
  EXPECT_FALSE(link->writable());
  EXPECT_FALSE(link->send(as_bytes("header"), as_bytes("body")));
}

TEST_F(TransportTest, AStalledPeerFillsAFewMessagesAndThenRefuses) {
  auto link = *connect_link(context_, *loop_, door_->endpoint());
  turn_until([&] { return link->send(as_bytes("header"), as_bytes("first")); });
  const Bytes megabyte(1 << 20);
  int accepted = 0;
  while (accepted < 1000 && link->send(as_bytes("header"), megabyte)) ++accepted;
  EXPECT_LT(accepted, 1000);  // nobody turned the door's loop
  turn_until([&] { return link->send(as_bytes("header"), as_bytes("last")); });
  turn_until([&] { return !at_door_.empty() && at_door_.back().body == copy(as_bytes("last")); });
}

// The I/O thread may be busy with what others send; a lost acknowledgement costs a copy.
TEST_F(TransportTest, ADoorKeepsAnswersForAPeerThatReadsLater) {
  auto link = *connect_link(context_, *loop_, door_->endpoint());
  turn_until([&] { return link->send(as_bytes("header"), as_bytes("first")); });
  turn_until([&] { return at_door_.size() == 1; });
  const Bytes large(256 * 1024);  // more of them than the kernel takes
  for (int i = 0; i < 120; ++i) {
    ASSERT_TRUE(door_->send(at_door_[0].peer, as_bytes("ack"), large)) << i;
  }
  size_t received = 0;
  link->on_receive([&](ByteView, ByteView) { ++received; });
  turn_until([&] { return received == 120; });
}

TEST_F(TransportTest, MessagesThatAreNotTwoFramesAreCountedAndTheNextOneArrives) {
  void* context = zmq_ctx_new();
  void* raw = zmq_socket(context, ZMQ_DEALER);
  ASSERT_NE(raw, nullptr);
  ASSERT_EQ(zmq_connect(raw, door_->endpoint().c_str()), 0);
  zmq_send(raw, "alone", 5, 0);
  for (int i = 0; i < 99; ++i) zmq_send(raw, "many", 4, i < 98 ? ZMQ_SNDMORE : 0);
  zmq_send(raw, "header", 6, ZMQ_SNDMORE);
  zmq_send(raw, "body", 4, 0);
  turn_until([&] { return at_door_.size() == 1; });
  EXPECT_EQ(door_->bad_frame_count(), 1U);
  EXPECT_EQ(door_->counters().at("weir_transport_giant_messages_total"), 1U);
  EXPECT_EQ(at_door_[0].header, copy(as_bytes("header")));
  zmq_close(raw);
  zmq_ctx_term(context);
}

TEST_F(TransportTest, APlainEndpointOffThisHostIsRefusedAndATakenOneIsAnError) {
  EXPECT_FALSE(connect_link(context_, *loop_, "tcp://192.0.2.1:7401").ok());
  EXPECT_FALSE(bind_door(context_, *loop_, "tcp://0.0.0.0:0").ok());
  const auto taken = bind_door(context_, *loop_, door_->endpoint());
  ASSERT_FALSE(taken.ok());
  EXPECT_EQ(taken.error().code, Errc::kIo);
}

}  // namespace
}  // namespace weir
