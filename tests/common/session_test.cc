#include "common/session.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/fakes/recording_link.h"

namespace weir {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr SourceId kSelf{std::byte{7}};
constexpr Target kTier{{std::byte{0xA}}, 3};

class SessionTest : public testing::Test {
 protected:
  void tick(nanoseconds after = 0ms) {
    clock_.advance(after);
    session_.tick(clock_.mono(), clock_.now(), report_);
    if (session_.wants_hello(clock_.mono())) session_.hello(clock_.mono(), clock_.now(), greeting_);
  }

  bool receive(FrameType type, const ControlMessage& message) {
    const DownFrame frame(type, kSelf, message);
    return session_.receive(clock_.mono(), clock_.now(), frame.header, frame.body).has_value();
  }

  void connect(uint64_t tier_epoch = kTier.tier_epoch) {
    tick();
    Welcome welcome;
    welcome.credit_bytes = 1000;
    welcome.tier_source = kTier.tier_source;
    welcome.tier_epoch = tier_epoch;
    EXPECT_TRUE(receive(FrameType::kWelcome, welcome));
    link_.sent.clear();
  }

  // A PONG to a PING of `trip` ago, from a peer whose clock is `ahead`; the way there takes
  // `there` of the trip.
  void pong(nanoseconds trip, nanoseconds ahead, nanoseconds there) {
    const auto sent = clock_.mono().time_since_epoch() - trip;
    const auto peer = clock_.now().time_since_epoch() - trip + there + ahead;
    receive(FrameType::kPong, Pong{sent.count(), nanoseconds(peer).count(), {}});
  }

  FakeClock clock_;
  RecordingLink link_;
  SourceReport report_;
  Greeting greeting_{77, {77, 5}, 3, 400};
  Session session_{link_, kSelf, {.name = "edge-1", .tier = "edge"}};
};

TEST_F(SessionTest, GreetsEverySecondUntilWelcomed) {
  tick();
  ASSERT_EQ(link_.sent.size(), 1U);
  EXPECT_EQ(link_.sent[0].header.epoch, 77U);
  const auto hello = std::get<Hello>(link_.sent[0].control());
  EXPECT_EQ(hello.name, "edge-1");
  EXPECT_EQ(hello.epoch, 77U);
  EXPECT_EQ(hello.epochs, (std::vector<uint64_t>{77, 5}));
  EXPECT_EQ(hello.outbox_rows, 3U);
  tick(900ms);
  EXPECT_EQ(link_.sent.size(), 1U);
  tick(100ms);
  EXPECT_EQ(link_.sent.size(), 2U);
  connect();
  EXPECT_TRUE(session_.connected());
  EXPECT_EQ(session_.target(), kTier);
  tick(1s);
  EXPECT_EQ(link_.count(FrameType::kHello), 0U);
}

TEST_F(SessionTest, AFullPipeIsGreetedThroughAsSoonAsThereIsRoom) {
  link_.room = 0;
  tick();
  EXPECT_FALSE(session_.wants_hello(clock_.mono()));  // nothing is made for it meanwhile
  link_.room = 1;
  tick(1ms);
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
}

TEST_F(SessionTest, AConnectionThatNeverSpeaksIsOpenedAnewLessOftenEachTime) {
  const auto run = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) tick(1s);
  };
  connect();
  run(3);  // silence is noticed
  EXPECT_EQ(link_.reopened, 0U);
  run(13);
  EXPECT_EQ(link_.reopened, 1U);
  run(18);
  EXPECT_EQ(link_.reopened, 1U);
  run(3);
  EXPECT_EQ(link_.reopened, 2U);
  run(40);
  EXPECT_EQ(link_.reopened, 3U);
  run(600);
  EXPECT_GE(link_.reopened, 12U);
  EXPECT_LE(link_.reopened, 13U);  // every minute
  const size_t before = link_.reopened;
  receive(FrameType::kNack, Nack{0, 0, kNackNoEpoch, false});  // it speaks
  run(10);
  EXPECT_EQ(link_.reopened, before);
}

TEST_F(SessionTest, WhatIsUnderWayIsGoneUnlessTheSamePeerWasOnlySilent) {
  connect();
  EXPECT_FALSE(session_.goes_on());
  for (int i = 0; i < 4; ++i) tick(1s);
  EXPECT_FALSE(session_.connected());
  connect();
  EXPECT_TRUE(session_.goes_on());
  connect();  // to another HELLO
  EXPECT_TRUE(session_.goes_on());
  receive(FrameType::kNack, Nack{0, 0, kNackNoHello, false});
  connect();
  EXPECT_FALSE(session_.goes_on());
  receive(FrameType::kGoaway, Goaway{0, "stopping"});
  connect();
  EXPECT_FALSE(session_.goes_on());
  connect(4);  // another life of it
  EXPECT_FALSE(session_.goes_on());
  for (int i = 0; i < 15; ++i) tick(1s);
  ASSERT_EQ(link_.reopened, 1U);
  connect(4);
  EXPECT_FALSE(session_.goes_on());
}

TEST_F(SessionTest, ThePeerHasReadWhatWasSentBeforeTheNewestPingItAnswered) {
  connect();
  const MonoTime first = clock_.mono();
  clock_.advance(2s);
  pong(2s, 0s, 1s);
  EXPECT_EQ(session_.read_to(), first);
  pong(1s, 0s, 1s);
  EXPECT_EQ(session_.read_to(), first + 1s);
  pong(2s, 0s, 1s);  // late
  EXPECT_EQ(session_.read_to(), first + 1s);
  clock_.advance(300s);
  pong(290s, 0s, 1s);  // no measure of the way, and an answer
  EXPECT_EQ(session_.read_to(), first + 12s);
}

TEST_F(SessionTest, PingsEverySecondWithTheReport) {
  report_.counters = {{"weir_dropped_total", 3}};
  report_.complete_seq = 9;
  connect();
  tick();
  ASSERT_EQ(link_.count(FrameType::kPing), 1U);
  const auto ping = std::get<Ping>(link_.sent.back().control());
  EXPECT_EQ(ping.report.counters, report_.counters);
  EXPECT_EQ(ping.report.name, "edge-1");
  EXPECT_EQ(ping.report.complete_seq, 9U);
  tick(999ms);
  EXPECT_EQ(link_.count(FrameType::kPing), 1U);
  tick(1ms);
  EXPECT_EQ(link_.count(FrameType::kPing), 2U);
}

TEST_F(SessionTest, ASilentPeerIsGreetedAgainAndSoIsOneThatDoesNotKnowUs) {
  connect();
  for (int i = 0; i < 3; ++i) tick(1s);
  EXPECT_TRUE(session_.connected());
  tick(1ms);
  EXPECT_FALSE(session_.connected());
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
  connect();
  for (int i = 0; i < 3; ++i) receive(FrameType::kNack, Nack{0, 0, kNackNoHello, false});
  EXPECT_FALSE(session_.connected());
  tick();
  for (int i = 0; i < 3; ++i) receive(FrameType::kNack, Nack{0, 0, kNackNoHello, false});
  tick();
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);  // one for all that was under way
}

// Else who ticks more seldom than that never gets to ask: the clock of the peer stays unknown, and
// what was lost is never sent again.
TEST_F(SessionTest, WhoWasNotAskedIsNotSilent) {
  connect();
  for (int i = 0; i < 10; ++i) {
    tick(8s);
    EXPECT_TRUE(session_.connected());
    EXPECT_EQ(link_.count(FrameType::kPing), static_cast<size_t>(i) + 1);
    pong(0s, 0s, 0s);
  }
  tick(8s);  // asked, and not answered
  EXPECT_TRUE(session_.connected());
  tick(8s);
  EXPECT_FALSE(session_.connected());
}

TEST_F(SessionTest, AnotherLifeOfTheTierIsGreetedAtOnceAndOneWithoutALifeLater) {
  connect();
  receive(FrameType::kNack, Nack{77, 1, kNackTargetEpoch, false});
  tick();
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
  connect();
  receive(FrameType::kNack, Nack{0, 0, kNackNoEpoch, false});
  tick(999ms);
  EXPECT_EQ(link_.count(FrameType::kHello), 0U);
  tick(1ms);
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
}

TEST_F(SessionTest, AfterAGoawayThePeerIsLeftAloneForAsLongAsItSays) {
  connect();
  receive(FrameType::kGoaway, Goaway{5000, "stopping"});
  EXPECT_FALSE(session_.connected());
  tick(4999ms);
  EXPECT_EQ(link_.count(FrameType::kHello), 0U);
  tick(1ms);
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
  connect();
  receive(FrameType::kGoaway, Goaway{UINT64_MAX, "for ever"});
  tick(1h);
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
}

TEST_F(SessionTest, ARevokedKeyIsTriedAgainOnlySlowly) {
  connect();
  FrameHeader header;
  header.type = FrameType::kRevoked;
  header.source = kSelf;
  const auto bytes = encode_header_for(header, {});  // the gate sends no body
  EXPECT_TRUE(session_.receive(clock_.mono(), clock_.now(), bytes, {}).has_value());
  EXPECT_TRUE(session_.stats().revoked);
  EXPECT_FALSE(session_.connected());
  tick(29s);
  EXPECT_EQ(link_.count(FrameType::kHello), 0U);
  tick(1s);
  EXPECT_EQ(link_.count(FrameType::kHello), 1U);
  connect();
  EXPECT_FALSE(session_.stats().revoked);
}

TEST_F(SessionTest, CreditIsWhatWasSaidLast) {
  connect();
  EXPECT_EQ(session_.stats().credit_bytes, 1000U);
  receive(FrameType::kAckR, Ack{{{77, 1, 1}}, 0});
  EXPECT_EQ(session_.stats().credit_bytes, 0U);
  receive(FrameType::kCredit, Credit{500});
  EXPECT_EQ(session_.stats().credit_bytes, 500U);
}

TEST_F(SessionTest, TheOtherClockIsReadAtTheLeastDelay) {
  connect();
  clock_.advance(1h);
  pong(4ms, 7s, 2ms);
  EXPECT_EQ(session_.stats().round_trip, 4ms);
  EXPECT_EQ(session_.stats().clock_offset, 7s);
  pong(100ms, 7s, 90ms);  // a slow way there, which looks like 40 ms of offset
  EXPECT_EQ(session_.stats().clock_offset, 7s);
  pong(2ms, 7s + 300us, 1ms);
  EXPECT_EQ(session_.stats().clock_offset, 7s + 300us);
  tick(1s);
  EXPECT_EQ(std::get<Ping>(link_.sent.back().control()).clock_offset_ns,
            nanoseconds(7s + 300us).count());
}

TEST_F(SessionTest, AClockThatStepsIsBelievedAtOnce) {
  connect();
  clock_.advance(1h);
  pong(1ms, 0s, 500us);
  pong(50ms, 30s, 25ms);
  EXPECT_EQ(session_.stats().clock_offset, 30s);
  pong(1ms, -30s, 500us);
  EXPECT_EQ(session_.stats().clock_offset, -30s);
}

TEST_F(SessionTest, AClockOfOursThatIsSetIsToldAtOnceAndMeasuredAnew) {
  connect();
  clock_.advance(1h);
  pong(1ms, 7s, 500us);
  tick(1s);
  const size_t pings = link_.count(FrameType::kPing);
  clock_.set_unix(unix_seconds(clock_.now()) - 4 * 86400);
  tick(100ms);
  ASSERT_EQ(link_.count(FrameType::kPing), pings + 1);
  EXPECT_EQ(std::get<Ping>(link_.sent.back().control()).clock_offset_ns, 0);
  EXPECT_FALSE(session_.stats().clock_offset.has_value());
  pong(1ms, 96h, 500us);
  EXPECT_EQ(session_.stats().clock_offset, 96h);
}

TEST_F(SessionTest, APongThatEchoesNothingOfOursMeasuresNothing) {
  connect();
  const auto now = clock_.mono().time_since_epoch();
  for (const int64_t echo : {INT64_MIN, int64_t{-1}, (now + 1s).count(), INT64_MAX}) {
    receive(FrameType::kPong, Pong{echo, INT64_MIN, {}});
  }
  EXPECT_EQ(session_.stats().round_trip, 0ns);
  EXPECT_FALSE(session_.stats().clock_offset.has_value());
}

TEST_F(SessionTest, DamagedForeignAndMisnamedMessagesAreCountedAndChangeNothing) {
  connect();
  const DownFrame good(FrameType::kCredit, kSelf, Credit{5});
  HeaderBytes flipped = good.header;
  flipped[10] ^= std::byte{1};
  Bytes cut = good.body;
  cut.pop_back();
  const DownFrame foreign(FrameType::kCredit, SourceId{}, Credit{5});
  const DownFrame misnamed(FrameType::kPong, kSelf, Credit{5});
  const DownFrame upwards(FrameType::kPing, kSelf, Ping{});
  const auto hears = [&](ByteView header, ByteView body) {
    return session_.receive(clock_.mono(), clock_.now(), header, body).has_value();
  };
  EXPECT_FALSE(hears(flipped, good.body));
  EXPECT_FALSE(hears(good.header, cut));
  EXPECT_FALSE(hears(foreign.header, foreign.body));
  EXPECT_FALSE(hears(misnamed.header, misnamed.body));
  EXPECT_FALSE(hears(upwards.header, upwards.body));
  EXPECT_FALSE(hears({}, {}));
  EXPECT_EQ(session_.stats().bad_messages, 6U);
  EXPECT_EQ(session_.stats().credit_bytes, 1000U);
  EXPECT_TRUE(hears(good.header, good.body));
  EXPECT_EQ(session_.stats().credit_bytes, 5U);
}

}  // namespace
}  // namespace weir
