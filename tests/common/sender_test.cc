#include "common/sender.h"

#include <algorithm>
#include <deque>
#include <optional>

#include <gtest/gtest.h>

#include "common/zstd.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using namespace std::chrono_literals;

constexpr Window kWindow{1'700'000'040, 60};

struct Sent {
  FrameHeader header;
  Bytes body;
};

// Keeps what is sent; the test is the peer.
class RecordingLink final : public Link {
 public:
  bool send(ByteView header, ByteView body) override {
    if (room == 0) return false;
    --room;
    sent.push_back({*decode_header(header), {body.begin(), body.end()}});
    return true;
  }

  void on_receive(Receiver) override {}

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  std::deque<Sent> sent;
  size_t room = SIZE_MAX;
};

class SenderTest : public testing::Test {
 protected:
  SenderTest() : db_(*Database::open(dir_.file("edge.db"))), outbox_(*Outbox::open(db_, 1 << 20)) {
    restart();
  }

  void restart(FrameType type = FrameType::kData) {
    sender_.emplace(outbox_, link_, SenderOptions{type, false, "edge-1", "edge"});
  }

  void tick(std::chrono::nanoseconds after = 0ms) {
    clock_.advance(after);
    ASSERT_TRUE(sender_->tick(clock_.mono(), clock_.now()).ok());
  }

  void append(size_t bytes = 10) {
    ASSERT_TRUE(outbox_.append(kWindow, {Bytes(bytes, std::byte{7}), 1, 1}).ok());
  }

  void receive(FrameType type, const ControlMessage& message) {
    FrameHeader header;
    header.type = type;
    header.source = outbox_.source();
    const Bytes body = encode_control(message);
    ASSERT_TRUE(sender_->on_message(clock_.mono(), encode_header_for(header, body), body).ok());
  }

  void connect(Welcome welcome = {0, 1 << 20, {}, {}}) {
    tick();
    receive(FrameType::kWelcome, welcome);
    tick();
  }

  SeqSpan span(uint64_t lo, uint64_t hi) { return {outbox_.epoch(), lo, hi}; }

  // The numbers of the batches sent since the last call; control messages are passed over.
  std::vector<uint64_t> batches() {
    std::vector<uint64_t> seqs;
    for (const Sent& sent : link_.sent) {
      if (sent.header.type == FrameType::kData || sent.header.type == FrameType::kOut) {
        seqs.push_back(sent.header.seq);
      }
    }
    link_.sent.clear();
    return seqs;
  }

  // PONGs as a live peer sends them, in steps short enough to stay connected.
  void stay_connected(std::chrono::seconds duration) {
    for (auto passed = 0s; passed < duration; passed += 1s) {
      tick(1s);
      receive(FrameType::kPong, Pong{clock_.mono().time_since_epoch().count(), 0});
    }
  }

  using Seqs = std::vector<uint64_t>;

  FakeClock clock_;
  TempDir dir_;
  Database db_;
  Outbox outbox_;
  RecordingLink link_;
  std::optional<Sender> sender_;
};

TEST_F(SenderTest, GreetsEverySecondAndSendsNoBatchBeforeTheWelcome) {
  append();
  tick();
  ASSERT_EQ(link_.sent.size(), 1U);
  EXPECT_EQ(link_.sent[0].header.type, FrameType::kHello);
  const auto hello = decode_control(link_.sent[0].body);
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(std::get<Hello>(*hello).name, "edge-1");
  EXPECT_EQ(std::get<Hello>(*hello).epoch, outbox_.epoch());
  EXPECT_EQ(std::get<Hello>(*hello).outbox_rows, 1U);
  tick(900ms);
  EXPECT_EQ(link_.sent.size(), 1U);
  tick(100ms);
  EXPECT_EQ(link_.sent.size(), 2U);
  EXPECT_EQ(batches(), Seqs{});
  EXPECT_FALSE(sender_->stats().connected);
}

TEST_F(SenderTest, OffersWhatIsPendingAndWhatIsAppendedLater) {
  append();
  append();
  connect();
  EXPECT_EQ(batches(), (Seqs{1, 2}));
  append();
  tick();
  EXPECT_EQ(batches(), Seqs{3});
  EXPECT_EQ(sender_->stats().sent, 3U);
  EXPECT_TRUE(sender_->stats().connected);
}

TEST_F(SenderTest, KeepsABatchThroughAckRAndForgetsItOnAckG) {
  append();
  connect();
  EXPECT_EQ(sender_->stats().in_flight_bytes, 10U);
  receive(FrameType::kAckR, Ack{{span(1, 1)}});
  EXPECT_EQ(sender_->stats().in_flight_bytes, 0U);
  EXPECT_EQ((*outbox_.stats()).rows, 1U);
  receive(FrameType::kAckG, Ack{{span(1, 1)}});
  EXPECT_EQ((*outbox_.stats()).rows, 0U);
  EXPECT_EQ((*outbox_.stats()).acked_mass, 1U);
  EXPECT_EQ(sender_->stats().acked_g, 1U);
  receive(FrameType::kAckG, Ack{{span(1, 1)}});  // losing or repeating one is harmless
  EXPECT_TRUE(sender_->take_released().empty());
}

TEST_F(SenderTest, AnUnansweredBatchIsOfferedAgainEverLaterAndNeverGivenUp) {
  append();
  connect();
  batches();
  std::vector<int> seconds_between;
  int since = 0;
  for (int second = 0; second < 3600; ++second) {
    stay_connected(1s);
    ++since;
    if (!batches().empty()) {
      seconds_between.push_back(since);
      since = 0;
    }
  }
  ASSERT_GT(seconds_between.size(), 120U);  // an hour at no more than 30 s
  EXPECT_LE(seconds_between.front(), 1);
  EXPECT_LE(*std::max_element(seconds_between.begin(), seconds_between.end()), 31);
  EXPECT_EQ(sender_->stats().resent, seconds_between.size());
}

TEST_F(SenderTest, WhatTheNextTierHoldsIsOfferedAgainOnlySlowly) {
  append();
  connect();
  batches();
  receive(FrameType::kAckR, Ack{{span(1, 1)}});
  stay_connected(59s);
  EXPECT_EQ(batches(), Seqs{});
  stay_connected(61s);
  EXPECT_EQ(batches(), Seqs{1});
}

TEST_F(SenderTest, ANewWelcomeReoffersAtOnceWhatThePeerDoesNotName) {
  for (int i = 0; i < 4; ++i) append();
  connect();
  receive(FrameType::kAckR, Ack{{span(1, 3)}});
  batches();
  // The peer restarted: it kept 1 for the last tier and 3 here, and lost the rest.
  receive(FrameType::kWelcome, Welcome{0, 1 << 20, {span(3, 3)}, {span(1, 1)}});
  tick();
  EXPECT_EQ(batches(), (Seqs{2, 4}));
  EXPECT_EQ((*outbox_.stats()).rows, 3U);
}

TEST_F(SenderTest, ARestartedSenderOffersAllThePeerDoesNotName) {
  for (int i = 0; i < 4; ++i) append();
  connect();
  batches();
  restart();
  connect({0, 1 << 20, {span(2, 2)}, {}});
  EXPECT_EQ(batches(), (Seqs{1, 3, 4}));
}

TEST_F(SenderTest, CreditBoundsWhatIsUnderWay) {
  for (int i = 0; i < 5; ++i) append(100);
  connect({0, 250, {}, {}});
  EXPECT_EQ(batches(), (Seqs{1, 2}));
  receive(FrameType::kAckR, Ack{{span(1, 1)}});
  EXPECT_EQ(batches(), Seqs{3});
  receive(FrameType::kAckR, Ack{{span(2, 3)}});
  EXPECT_EQ(batches(), (Seqs{4, 5}));
  EXPECT_EQ(sender_->stats().in_flight_bytes, 200U);
}

TEST_F(SenderTest, NoCreditSendsNothingAndACreditBelowABatchSendsOne) {
  append(100);
  append(100);
  connect({0, 0, {}, {}});
  EXPECT_EQ(batches(), Seqs{});
  receive(FrameType::kWelcome, Welcome{0, 1, {}, {}});
  EXPECT_EQ(batches(), Seqs{1});
}

TEST_F(SenderTest, AFullPipeLosesNothing) {
  for (int i = 0; i < 3; ++i) append();
  link_.room = 2;  // HELLO and one batch
  connect();
  EXPECT_EQ(batches(), Seqs{1});
  link_.room = SIZE_MAX;
  tick();
  EXPECT_EQ(batches(), (Seqs{2, 3}));
}

TEST_F(SenderTest, APermanentRefusalQuarantinesAndATemporaryOneRetries) {
  append();
  append();
  connect();
  batches();
  receive(FrameType::kNack, Nack{outbox_.epoch(), 1, "window_old", true});
  receive(FrameType::kNack, Nack{outbox_.epoch(), 2, "body_crc", false});
  EXPECT_EQ((*outbox_.stats()).quarantined, 1U);
  EXPECT_EQ((*outbox_.stats()).rows, 1U);
  EXPECT_EQ(sender_->stats().quarantined, 1U);
  EXPECT_EQ(sender_->stats().nacked, 2U);
  EXPECT_EQ(sender_->stats().last_refusal, "body_crc");
  stay_connected(2s);
  const auto again = batches();
  ASSERT_FALSE(again.empty());
  EXPECT_EQ(again[0], 2U);
}

TEST_F(SenderTest, ASilentPeerIsGreetedAgainAndSoIsOneThatDoesNotKnowUs) {
  connect();
  link_.sent.clear();
  tick(4s);
  EXPECT_FALSE(sender_->stats().connected);
  ASSERT_FALSE(link_.sent.empty());
  EXPECT_EQ(link_.sent.back().header.type, FrameType::kHello);
  connect();
  receive(FrameType::kNack, Nack{0, 0, kNackNoHello, false});
  link_.sent.clear();
  tick();
  ASSERT_EQ(link_.sent.size(), 1U);
  EXPECT_EQ(link_.sent[0].header.type, FrameType::kHello);
}

TEST_F(SenderTest, PingsEverySecondWithTheReport) {
  SourceReport report;
  report.counters = {{"weir_dropped_total", 3}};
  report.complete_seq = 9;
  sender_->set_report(report);
  connect();
  ASSERT_FALSE(link_.sent.empty());
  EXPECT_EQ(link_.sent.back().header.type, FrameType::kPing);
  const auto ping = decode_control(link_.sent.back().body);
  ASSERT_TRUE(ping.ok());
  EXPECT_EQ(std::get<Ping>(*ping).report.counters, report.counters);
  EXPECT_EQ(std::get<Ping>(*ping).report.name, "edge-1");
  link_.sent.clear();
  tick(999ms);
  EXPECT_TRUE(link_.sent.empty());
  tick(1ms);
  EXPECT_EQ(link_.sent.size(), 1U);
}

TEST_F(SenderTest, ATierLearnsWhichOfItsRollupsReachedTheLastTier) {
  restart(FrameType::kOut);
  append();
  append();
  connect();
  receive(FrameType::kAckG, Ack{{span(1, 2)}});
  EXPECT_EQ(sender_->take_released(), std::vector<SeqSpan>{span(1, 2)});
  EXPECT_TRUE(sender_->take_released().empty());
}

TEST_F(SenderTest, ATierDoesNotWaitForARollupInQuarantine) {
  restart(FrameType::kOut);
  append();
  connect();
  receive(FrameType::kNack, Nack{outbox_.epoch(), 1, "window_old", true});
  EXPECT_EQ((*outbox_.stats()).quarantined, 1U);
  EXPECT_EQ(sender_->take_released(), std::vector<SeqSpan>{span(1, 1)});
}

TEST_F(SenderTest, CompressesOnlyWhenThatIsSmaller) {
  append(10'000);
  ASSERT_TRUE(outbox_.append(kWindow, {Bytes(1, std::byte{7}), 1, 1}).ok());
  sender_.emplace(outbox_, link_, SenderOptions{FrameType::kData, true, "edge-1", "edge"});
  connect();
  std::vector<Sent> sent;
  for (const Sent& message : link_.sent) {
    if (message.header.type == FrameType::kData) sent.push_back(message);
  }
  ASSERT_EQ(sent.size(), 2U);
  EXPECT_EQ(sent[0].header.codec, BodyCodec::kZstd);
  EXPECT_EQ(sent[0].header.raw_len, 10'000U);
  EXPECT_EQ(sent[0].header.body_len, sent[0].body.size());
  EXPECT_EQ(*zstd_decompress(sent[0].body, 10'000), Bytes(10'000, std::byte{7}));
  EXPECT_EQ(sent[1].header.codec, BodyCodec::kNone);
  EXPECT_EQ(sent[1].body, Bytes(1, std::byte{7}));
}

TEST_F(SenderTest, DamagedForeignAndMisnamedMessagesAreCountedAndChangeNothing) {
  append();
  connect();
  FrameHeader header;
  header.type = FrameType::kAckG;
  header.source = outbox_.source();
  const Bytes body = encode_control(Ack{{span(1, 1)}});
  HeaderBytes good = encode_header_for(header, body);

  HeaderBytes flipped = good;
  flipped[10] ^= std::byte{1};
  Bytes cut = body;
  cut.pop_back();
  header.source = {};
  const HeaderBytes foreign = encode_header_for(header, body);
  header.source = outbox_.source();
  header.type = FrameType::kPong;
  const HeaderBytes misnamed = encode_header_for(header, body);
  const auto now = clock_.mono();
  EXPECT_TRUE(sender_->on_message(now, flipped, body).ok());
  EXPECT_TRUE(sender_->on_message(now, good, cut).ok());
  EXPECT_TRUE(sender_->on_message(now, foreign, body).ok());
  EXPECT_TRUE(sender_->on_message(now, misnamed, body).ok());
  EXPECT_TRUE(sender_->on_message(now, {}, {}).ok());
  EXPECT_EQ(sender_->stats().bad_messages, 5U);
  EXPECT_EQ((*outbox_.stats()).rows, 1U);
  EXPECT_TRUE(sender_->on_message(now, good, body).ok());
  EXPECT_EQ((*outbox_.stats()).rows, 0U);
}

TEST_F(SenderTest, PongThatEchoesNothingOfOursMeasuresNothing) {
  connect();
  const auto now = clock_.mono().time_since_epoch();
  receive(FrameType::kPong, Pong{(now - 4ms).count(), 0});
  EXPECT_EQ(sender_->stats().round_trip, 4ms);
  for (const int64_t echo : {INT64_MIN, int64_t{-1}, int64_t{0}, (now + 1s).count(), INT64_MAX}) {
    receive(FrameType::kPong, Pong{echo, 0});
  }
  EXPECT_EQ(sender_->stats().round_trip, 4ms);
}

}  // namespace
}  // namespace weir
