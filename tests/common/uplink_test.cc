#include "common/uplink.h"

#include <algorithm>
#include <optional>

#include <gtest/gtest.h>

#include "common/zstd.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/outbox_rows.h"
#include "tests/fakes/recording_link.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;

constexpr Window kWindow{1'700'000'040, 60};
constexpr Target kA{{std::byte{0xA}}, 1};
constexpr Target kB{{std::byte{0xB}}, 1};
constexpr uint64_t kRoomy = 1 << 20;

class UplinkTest : public testing::Test {
 protected:
  UplinkTest() : db_(*Database::open(dir_.file("edge.db"))) { restart(); }

  // Upstream 0 is the preferred one: of two names, whichever that is for this source.
  void restart(size_t upstreams = 1, UplinkOptions options = {}, EpochRule rule = EpochRule::kOwn) {
    uplink_.reset();
    outbox_ = *Outbox::open(db_, {.epoch_rule = rule, .source = SourceId{std::byte{7}}});
    options.offers.compress = compress_;
    options.session.name = "edge-1";
    options.session.tier = "edge";
    uplink_.emplace(*outbox_, options);
    links_.clear();
    std::vector<std::string> names{"tcp://a", "tcp://b"};
    if (upstreams == 2 && !prefers(names[0])) std::swap(names[0], names[1]);
    for (size_t i = 0; i < upstreams; ++i) {
      links_.push_back(std::make_unique<RecordingLink>());
      uplink_->add(names[i], *links_.back());
    }
  }

  // Asks an uplink of its own which of the two it takes when both are there.
  bool prefers(const std::string& name) {
    Database db = *Database::open(dir_.file("probe.db"));
    Outbox outbox = *Outbox::open(db, {.source = outbox_->source()});
    Uplink probe(outbox, {});
    RecordingLink links[2];
    probe.add("tcp://a", links[0]);
    probe.add("tcp://b", links[1]);
    for (size_t i = 0; i < 2; ++i) {
      const DownFrame frame(FrameType::kWelcome, outbox_->source(), welcome(i == 0 ? kA : kB));
      WEIR_CHECK(probe.on_message(i, clock_.mono(), clock_.now(), frame.header, frame.body).ok());
    }
    const auto upstreams = probe.stats().upstreams;
    const auto active = std::ranges::find_if(upstreams, [](const auto& u) { return u.active; });
    WEIR_CHECK(active != upstreams.end());
    return active->endpoint == name;
  }

  static Welcome welcome(const Target& target, uint64_t credit = kRoomy) {
    Welcome out;
    out.credit_bytes = credit;
    out.tier_source = target.tier_source;
    out.tier_epoch = target.tier_epoch;
    return out;
  }

  void tick(nanoseconds after = 0ms) {
    clock_.advance(after);
    ASSERT_TRUE(uplink_->tick(clock_.mono(), clock_.now()).ok());
  }

  uint64_t append(size_t bytes = 1000) {
    EncodedBatch batch = counter_batch(kWindow, 1);
    batch.body.resize(bytes);
    return *outbox_->append(kWindow, batch, uplink_->target());
  }

  void receive(FrameType type, const ControlMessage& message, size_t from = 0) {
    const DownFrame frame(type, outbox_->source(), message);
    ASSERT_TRUE(
        uplink_->on_message(from, clock_.mono(), clock_.now(), frame.header, frame.body).ok());
  }

  void connect(const Welcome& as, size_t to = 0) {
    tick();
    receive(FrameType::kWelcome, as, to);
    tick();
  }

  void ack(FrameType level, uint64_t lo, uint64_t hi, size_t from = 0, uint64_t credit = kRoomy) {
    receive(level, Ack{{span(lo, hi)}, credit}, from);
  }

  SeqSpan span(uint64_t lo, uint64_t hi) { return {outbox_->epoch(), lo, hi}; }

  // The rows sent since the last call.
  std::vector<uint64_t> rows(size_t to = 0, std::optional<FrameType> only = {}) {
    std::vector<uint64_t> seqs;
    for (const SentFrame& sent : links_[to]->sent) {
      const FrameType type = sent.header.type;
      if (only ? type == *only : sent.header.seq != 0) seqs.push_back(sent.header.seq);
    }
    links_[to]->sent.clear();
    return seqs;
  }

  // PONGs as live peers send them, in steps short enough to stay connected.
  void stay_connected(std::chrono::seconds duration, std::vector<size_t> peers = {0}) {
    for (auto passed = 0s; passed < duration; passed += 1s) {
      tick(1s);
      for (const size_t peer : peers) {
        receive(FrameType::kPong, Pong{clock_.mono().time_since_epoch().count(), 0, {}}, peer);
      }
    }
  }

  std::optional<AskIncluded> question(size_t to) {
    for (const SentFrame& sent : links_[to]->sent) {
      if (sent.header.type == FrameType::kAskIncluded) {
        return std::get<AskIncluded>(sent.control());
      }
    }
    return std::nullopt;
  }

  Included answer_to(const AskIncluded& q, bool fenced, uint64_t to, std::vector<SeqSpan> spans) {
    return {q.tier_source, q.tier_epoch, q.source, q.epoch, q.lo, to, fenced, std::move(spans)};
  }

  OutboxStats stats() { return *outbox_->stats(); }

  using Seqs = std::vector<uint64_t>;

  FakeClock clock_;
  TempDir dir_;
  Database db_;
  std::optional<Outbox> outbox_;
  std::vector<std::unique_ptr<RecordingLink>> links_;
  std::optional<Uplink> uplink_;
  bool compress_ = false;
};

// ---- one upstream ----

TEST_F(UplinkTest, SendsNoRowBeforeTheWelcomeAndThenWhatIsThereAndWhatComes) {
  append();
  append();
  tick();
  const auto hello = std::get<Hello>(links_[0]->sent.at(0).control());
  EXPECT_EQ(hello.epoch, outbox_->epoch());
  EXPECT_EQ(hello.epochs, std::vector<uint64_t>{outbox_->epoch()});
  EXPECT_EQ(hello.outbox_rows, 2U);
  EXPECT_EQ(rows(), Seqs{});
  connect(welcome(kA));
  EXPECT_EQ(links_[0]->sent.back().header.target_epoch, 0U);  // a PING
  EXPECT_EQ(rows(), (Seqs{1, 2}));
  append();
  tick();
  EXPECT_EQ(links_[0]->sent.back().header.target_epoch, kA.tier_epoch);
  EXPECT_EQ(rows(), Seqs{3});
  EXPECT_EQ(uplink_->stats().sent, 3U);
}

TEST_F(UplinkTest, ARowIsAssignedBeforeItIsSent) {
  append();
  links_[0]->room = 1;  // HELLO
  connect(welcome(kA));
  EXPECT_EQ(rows(), Seqs{});
  ASSERT_EQ((*outbox_->assigned()).size(), 1U);
  EXPECT_EQ((*outbox_->assigned())[0].target, kA);
  append();  // as long as a row waits for room in the pipe, or credit, the next is anybody's
  EXPECT_EQ((*outbox_->pending(kA, 0, kRoomy)).size(), 2U);
  links_[0]->room = SIZE_MAX;
  tick();
  EXPECT_EQ(rows(), (Seqs{1, 2}));
}

TEST_F(UplinkTest, ATickReadsNothingOfAnOutboxThatIsAsItWas) {
  connect(welcome(kA));
  tick(1s);
  ASSERT_TRUE(db_.exec("DROP TABLE outbox; DROP TABLE outbox_assign; DROP TABLE outbox_meta").ok());
  links_[0]->sent.clear();
  tick(1s);
  tick(5s);  // silence: it greets
  EXPECT_EQ(links_[0]->sent.back().header.type, FrameType::kHello);
  EXPECT_FALSE(outbox_->stats().ok());
}

TEST_F(UplinkTest, KeepsARowThroughAckRAndForgetsItOnAckG) {
  append();
  connect(welcome(kA));
  EXPECT_EQ(uplink_->stats().in_flight_bytes, 1000U);
  ack(FrameType::kAckR, 1, 1);
  EXPECT_EQ(uplink_->stats().in_flight_bytes, 0U);
  EXPECT_EQ(stats().rows, 1U);
  ack(FrameType::kAckG, 1, 1);
  EXPECT_EQ(stats().rows, 0U);
  EXPECT_EQ(stats().acked_data_mass, 1U);
  EXPECT_EQ(uplink_->stats().acked_g, 1U);
  ack(FrameType::kAckG, 1, 1);  // losing or repeating one is harmless
  EXPECT_EQ(uplink_->stats().acked_g, 1U);
  EXPECT_TRUE(uplink_->take_released().empty());
}

TEST_F(UplinkTest, AnUnansweredRowIsOfferedAgainEverLaterAndNeverGivenUp) {
  append();
  connect(welcome(kA));
  rows();
  std::vector<int> seconds_between;
  int since = 0;
  for (int second = 0; second < 3600; ++second) {
    stay_connected(1s);
    ++since;
    if (!rows().empty()) seconds_between.push_back(std::exchange(since, 0));
  }
  ASSERT_GT(seconds_between.size(), 120U);  // an hour at no more than 30 s
  EXPECT_LE(seconds_between.front(), 1);
  EXPECT_LE(*std::ranges::max_element(seconds_between), 31);
  EXPECT_EQ(uplink_->stats().resent, seconds_between.size());
}

// A queue of seconds at its door is no loss: a copy would make it longer.
TEST_F(UplinkTest, AnUnansweredRowIsNotOfferedAgainBeforeThePeerHasReadOn) {
  connect(welcome(kA));
  const auto before = clock_.mono().time_since_epoch().count();  // of a PING
  append();
  tick();
  EXPECT_EQ(rows(), Seqs{1});
  for (int second = 0; second < 60; ++second) {
    tick(1s);
    receive(FrameType::kPong, Pong{before, 0, {}});
    receive(FrameType::kCredit, Credit{kRoomy});
  }
  EXPECT_EQ(rows(), Seqs{});
  receive(FrameType::kPong, Pong{clock_.mono().time_since_epoch().count(), 0, {}});
  EXPECT_EQ(rows(), Seqs{1});  // it was read, and is lost
  EXPECT_EQ(uplink_->stats().resent, 1U);
}

TEST_F(UplinkTest, ARowThatWaitsAtThePeersStoreIsNotOfferedAgain) {
  connect(welcome(kA));
  append();
  append();
  tick();
  EXPECT_EQ(rows(), (Seqs{1, 2}));
  const auto pong = [&](std::vector<SeqSpan> waiting) {
    receive(FrameType::kPong,
            Pong{clock_.mono().time_since_epoch().count(), 0, std::move(waiting)});
  };
  for (int second = 0; second < 60; ++second) {
    tick(1s);
    pong({span(2, 2)});
  }
  const auto sent = rows();
  EXPECT_GT(std::ranges::count(sent, 1U), 0);
  EXPECT_EQ(std::ranges::count(sent, 2U), 0);
  pong({});  // its answer was lost
  tick(1s);
  pong({});
  EXPECT_EQ(std::ranges::count(rows(), 2U), 1);
}

TEST_F(UplinkTest, ARowThatWasRefusedForNowNeedsNoOtherProofThatItWasRead) {
  connect(welcome(kA));
  append();
  append();
  tick();
  rows();
  receive(FrameType::kNack, Nack{outbox_->epoch(), 1, "overrun", false});
  tick(1s);
  EXPECT_EQ(rows(), Seqs{1});
  tick(1s);  // by now both are overdue
  receive(FrameType::kNack, Nack{outbox_->epoch(), 2, "overrun", false});
  EXPECT_EQ(rows(), Seqs{2});
}

TEST_F(UplinkTest, APeerThatWasOnlySilentGetsACopyOnlyOfWhatItHasReadAndLost) {
  for (int i = 0; i < 4; ++i) append();
  connect(welcome(kA));
  ack(FrameType::kAckR, 1, 2);
  rows();
  for (int i = 0; i < 4; ++i) tick(1s);
  links_[0]->sent.clear();
  tick(1s);
  EXPECT_EQ(links_[0]->count(FrameType::kHello), 1U);
  Welcome again = welcome(kA);
  again.here = {span(2, 3)};  // 1 was there
  receive(FrameType::kWelcome, again);
  EXPECT_EQ(rows(), Seqs{1});
  EXPECT_EQ(uplink_->stats().in_flight_bytes, 2000U);
  receive(FrameType::kWelcome, again);  // to the second HELLO
  tick();
  EXPECT_EQ(rows(), Seqs{});
  receive(FrameType::kPong, Pong{clock_.mono().time_since_epoch().count(), 0, {}});
  EXPECT_EQ(rows(), Seqs{4});
}

TEST_F(UplinkTest, WhatTheNextTierHoldsIsOfferedAgainOnlySlowly) {
  append();
  connect(welcome(kA));
  rows();
  ack(FrameType::kAckR, 1, 1);
  stay_connected(59s);
  EXPECT_EQ(rows(), Seqs{});
  stay_connected(61s);
  EXPECT_EQ(rows(), Seqs{1});
}

TEST_F(UplinkTest, ANewWelcomeReoffersAtOnceWhatThePeerDoesNotName) {
  for (int i = 0; i < 4; ++i) append();
  connect(welcome(kA));
  ack(FrameType::kAckR, 1, 3);
  rows();
  // The peer restarted: it kept 1 for the last tier and 3 here, and lost the rest.
  receive(FrameType::kNack, Nack{0, 0, kNackNoHello, false});
  Welcome again = welcome(kA);
  again.here = {span(3, 3)};
  again.last_tier = {span(1, 1)};
  receive(FrameType::kWelcome, again);
  EXPECT_EQ(rows(), (Seqs{2, 4}));
  EXPECT_EQ(stats().rows, 3U);
}

TEST_F(UplinkTest, ARestartedProcessOffersItsOldRowsToTheirTarget) {
  for (int i = 0; i < 3; ++i) append();
  connect(welcome(kA));
  const uint64_t old = outbox_->epoch();
  restart();
  append();
  Welcome as = welcome(kA);
  as.here = {{old, 2, 2}};
  connect(as);
  std::vector<std::pair<bool, uint64_t>> sent;
  for (const auto& frame : links_[0]->sent) {
    if (frame.header.seq > 0) sent.emplace_back(frame.header.epoch == old, frame.header.seq);
  }
  EXPECT_EQ(sent, (std::vector<std::pair<bool, uint64_t>>{{true, 1}, {true, 3}, {false, 1}}));
}

TEST_F(UplinkTest, CreditBoundsWhatIsUnderWayAndWhatIsAssigned) {
  for (int i = 0; i < 5; ++i) append();
  connect(welcome(kA, 2500));
  EXPECT_EQ(rows(), (Seqs{1, 2}));
  EXPECT_EQ((*outbox_->pending(std::nullopt, 0, kRoomy)).size(), 3U);  // free to go elsewhere
  EXPECT_EQ(uplink_->target(), kA);
  ack(FrameType::kAckR, 1, 1, 0, 2500);
  EXPECT_EQ(rows(), Seqs{3});
  ack(FrameType::kAckR, 2, 3, 0, 2500);
  EXPECT_EQ(rows(), (Seqs{4, 5}));
  EXPECT_EQ(uplink_->stats().in_flight_bytes, 2000U);
}

TEST_F(UplinkTest, NoCreditSendsNothingAndACreditBelowARowSendsOne) {
  append();
  append();
  connect(welcome(kA, 0));
  EXPECT_EQ(rows(), Seqs{});
  EXPECT_EQ(uplink_->target(), std::nullopt);
  receive(FrameType::kCredit, Credit{1});
  EXPECT_EQ(rows(), Seqs{1});
}

TEST_F(UplinkTest, AFullPipeLosesNothing) {
  for (int i = 0; i < 3; ++i) append();
  links_[0]->room = 2;  // HELLO and one row
  connect(welcome(kA));
  EXPECT_EQ(rows(), Seqs{1});
  links_[0]->room = SIZE_MAX;
  tick();
  EXPECT_EQ(rows(), (Seqs{2, 3}));
}

TEST_F(UplinkTest, APermanentRefusalBecomesATombstoneAndATemporaryOneRetries) {
  append();
  append();
  connect(welcome(kA));
  rows();
  receive(FrameType::kNack, Nack{outbox_->epoch(), 1, "window_old", true});
  receive(FrameType::kNack, Nack{outbox_->epoch(), 2, "body_crc", false});
  ASSERT_EQ(links_[0]->count(FrameType::kTombstone), 1U);
  const SentFrame& sent = links_[0]->sent.back();
  EXPECT_EQ(sent.header.seq, 1U);
  EXPECT_EQ(sent.header.target_epoch, kA.tier_epoch);
  const auto tombstone = std::get<Tombstone>(sent.control());
  EXPECT_EQ(tombstone.reason, "refused:window_old");
  EXPECT_EQ(tombstone.mass, 1U);
  EXPECT_EQ(tombstone.cum_mass, 1U);
  EXPECT_EQ(tombstone.window, kWindow);
  rows();
  receive(FrameType::kNack, Nack{outbox_->epoch(), 1, "type", true});  // it stays a tombstone
  EXPECT_EQ(stats().quarantined, 1U);
  EXPECT_EQ(stats().tombstones, 1U);
  EXPECT_EQ(stats().rows, 2U);
  EXPECT_EQ(uplink_->stats().nacked, 3U);
  EXPECT_EQ(uplink_->stats().last_refusal, "type");
  stay_connected(2s);
  EXPECT_GE(std::ranges::count(rows(), 2U), 1);
  ack(FrameType::kAckG, 1, 2);
  EXPECT_EQ(stats().rows, 0U);
  EXPECT_EQ(stats().acked_lost_mass, 1U);
}

TEST_F(UplinkTest, WhatTheOutboxGaveUpTravelsAsATombstoneWithTheCommonLabels) {
  UplinkOptions options;
  options.offers.labels = {{"host", "edge-1"}};
  restart(1, options);
  append();
  ASSERT_TRUE(outbox_->drop_oldest(1, "outbox_age").ok());
  connect(welcome(kA));
  ASSERT_EQ(links_[0]->count(FrameType::kTombstone), 1U);
  const auto at = std::ranges::find(links_[0]->sent, FrameType::kTombstone,
                                    [](const SentFrame& f) { return f.header.type; });
  EXPECT_EQ(std::get<Tombstone>(at->control()).labels, (Labels{{"host", "edge-1"}}));
  EXPECT_EQ(std::get<Tombstone>(at->control()).reason, "outbox_age");
}

TEST_F(UplinkTest, CompressesWhatIsSmallerThen) {
  compress_ = true;
  restart();
  append(10'000);
  connect(welcome(kA));
  const auto at = std::ranges::find(links_[0]->sent, FrameType::kData,
                                    [](const SentFrame& f) { return f.header.type; });
  ASSERT_NE(at, links_[0]->sent.end());
  EXPECT_EQ(at->header.codec, BodyCodec::kZstd);
  EXPECT_EQ(at->header.raw_len, 10'000U);
  EXPECT_EQ((*zstd_decompress(at->body, 10'000)).size(), 10'000U);
}

TEST_F(UplinkTest, ATierLearnsWhichOfItsRollupsReachedTheLastTier) {
  UplinkOptions options;
  options.offers.type = FrameType::kOut;
  restart(1, options);
  append();
  append();
  connect(welcome(kA));
  ack(FrameType::kAckG, 1, 2);
  EXPECT_EQ(uplink_->take_released(), std::vector<SeqSpan>{span(1, 2)});
  EXPECT_TRUE(uplink_->take_released().empty());
}

TEST_F(UplinkTest, ARollupThatIsRefusedForGoodWaitsAndIsOfferedAgainSlowly) {
  UplinkOptions options;
  options.offers.type = FrameType::kOut;
  restart(1, options);
  append();
  connect(welcome(kA));
  rows();
  receive(FrameType::kNack, Nack{outbox_->epoch(), 1, "window_old", true});
  EXPECT_EQ(stats().tombstones, 0U);
  EXPECT_EQ(stats().quarantined, 0U);
  EXPECT_EQ(uplink_->stats().rollups_refused, 1U);
  EXPECT_EQ(uplink_->stats().in_flight_bytes, 0U);
  stay_connected(55s);
  EXPECT_EQ(rows(), Seqs{});
  stay_connected(10min);
  EXPECT_FALSE(rows().empty());
  ack(FrameType::kAckG, 1, 1);
  EXPECT_EQ(stats().rows, 0U);
}

TEST_F(UplinkTest, ATombstoneCostsTheCreditThatItTakesAtTheReceiver) {
  UplinkOptions options;
  options.offers.labels = {{"host", std::string(250, 'h')}, {"rack", std::string(250, 'r')}};
  restart(1, options);
  append();
  append();
  ASSERT_TRUE(outbox_->drop_oldest(1, "disk_full").ok());
  connect(welcome(kA));
  ack(FrameType::kAckR, 2, 2);
  uint64_t bytes = 0;
  for (const SentFrame& frame : links_[0]->sent) {
    if (frame.header.type == FrameType::kTombstone) bytes += frame.body.size();
  }
  EXPECT_GT(bytes, 500U);
  EXPECT_EQ(uplink_->stats().in_flight_bytes, bytes);
}

// ---- epochs of a tier ----

TEST_F(UplinkTest, ATierTakesTheEpochItIsHandedAndSendsNothingBefore) {
  std::vector<uint64_t> handed;
  UplinkOptions options;
  options.on_epoch = [&](uint64_t epoch) {
    handed.push_back(epoch);
    return outbox_->begin_epoch(epoch);
  };
  restart(1, options, EpochRule::kHandedOut);
  tick();
  EXPECT_EQ(std::get<Hello>(links_[0]->sent.at(0).control()).epoch, 0U);
  Welcome as = welcome(kA);
  receive(FrameType::kWelcome, as);  // it has none to hand out yet
  EXPECT_FALSE(uplink_->stats().connected);
  as.your_epoch = 3;
  receive(FrameType::kWelcome, as);
  EXPECT_EQ(handed, std::vector<uint64_t>{3});
  append();
  tick();
  EXPECT_EQ(links_[0]->sent.back().header.epoch, 3U);
  receive(FrameType::kWelcome, as);
  EXPECT_EQ(handed.size(), 1U);
  receive(FrameType::kFenced, Fenced{3});
  links_[0]->sent.clear();
  tick();
  EXPECT_EQ(links_[0]->count(FrameType::kHello), 1U);
  as.your_epoch = 4;
  receive(FrameType::kWelcome, as);
  EXPECT_EQ(handed, (std::vector<uint64_t>{3, 4}));
  EXPECT_EQ(stats().rows, 0U);
}

TEST_F(UplinkTest, ATierWithoutRoomForANewEpochGreetsAgainUntilItHasIt) {
  bool full = true;
  UplinkOptions options;
  options.on_epoch = [&](uint64_t epoch) -> Status {
    if (full) return Error{Errc::kLimit, "the disk is full"};
    return outbox_->begin_epoch(epoch);
  };
  restart(1, options, EpochRule::kHandedOut);
  tick();
  Welcome as = welcome(kA);
  as.your_epoch = 3;
  const DownFrame first(FrameType::kWelcome, outbox_->source(), as);
  const auto heard = uplink_->on_message(0, clock_.mono(), clock_.now(), first.header, first.body);
  ASSERT_FALSE(heard.ok());
  EXPECT_EQ(heard.error().code, Errc::kLimit);
  EXPECT_FALSE(uplink_->stats().connected);
  links_[0]->sent.clear();
  tick(2s);
  EXPECT_EQ(links_[0]->count(FrameType::kHello), 1U);
  full = false;
  receive(FrameType::kWelcome, as);
  EXPECT_TRUE(uplink_->stats().connected);
  EXPECT_EQ(outbox_->epoch(), 3U);
}

TEST_F(UplinkTest, ATierWhoseDiskForgotWhatItSentAsksForANewEpoch) {
  UplinkOptions options;
  options.on_epoch = [&](uint64_t epoch) { return outbox_->begin_epoch(epoch); };
  restart(1, options, EpochRule::kHandedOut);
  Welcome as = welcome(kA);
  as.your_epoch = 3;
  connect(as);
  append();
  as.here = {{3, 1, 1}};
  receive(FrameType::kWelcome, as);
  EXPECT_TRUE(uplink_->stats().connected);
  as.here = {{3, 1, 2}};
  receive(FrameType::kWelcome, as);
  EXPECT_FALSE(uplink_->stats().connected);
  EXPECT_EQ(uplink_->stats().rollbacks, 1U);
  links_[0]->sent.clear();
  tick();
  EXPECT_EQ(std::get<Hello>(links_[0]->sent.at(0).control()).epoch, 0U);
  as.your_epoch = 4;
  receive(FrameType::kWelcome, as);
  EXPECT_EQ(outbox_->epoch(), 4U);
}

TEST_F(UplinkTest, ATierWhoseDiskDamagedARollupAsksForANewEpochAndSendsNoTombstone) {
  UplinkOptions options;
  options.offers.type = FrameType::kOut;
  options.on_epoch = [&](uint64_t epoch) { return outbox_->begin_epoch(epoch); };
  restart(1, options, EpochRule::kHandedOut);
  Welcome as = welcome(kA);
  as.your_epoch = 3;
  connect(as);
  append();
  ASSERT_TRUE(db_.exec("UPDATE outbox SET body = zeroblob(length(body))").ok());
  links_[0]->sent.clear();
  tick();
  EXPECT_FALSE(uplink_->stats().connected);
  EXPECT_EQ(uplink_->stats().damaged, 1U);
  EXPECT_EQ(links_[0]->count(FrameType::kTombstone) + links_[0]->count(FrameType::kOut), 0U);
  tick();
  EXPECT_EQ(std::get<Hello>(links_[0]->sent.back().control()).epoch, 0U);
  as.your_epoch = 4;
  receive(FrameType::kWelcome, as);
  EXPECT_EQ(outbox_->epoch(), 4U);
  EXPECT_EQ(stats().rows, 0U);
  append();
  tick();
  EXPECT_EQ(links_[0]->sent.back().header.epoch, 4U);
}

// ---- several upstreams ----

TEST_F(UplinkTest, SourcesSpreadOverTheirUpstreams) {
  int first = 0;
  for (uint8_t i = 1; i <= 64; ++i) {
    auto db = *Database::open(dir_.file(std::to_string(i)));
    Outbox outbox = *Outbox::open(db, {.source = SourceId{std::byte{i}}});
    Uplink uplink(outbox, {});
    RecordingLink a;
    RecordingLink b;
    uplink.add("tcp://a", a);
    uplink.add("tcp://b", b);
    for (size_t n = 0; n < 2; ++n) {
      const DownFrame frame(FrameType::kWelcome, outbox.source(), welcome(n == 0 ? kA : kB));
      ASSERT_TRUE(uplink.on_message(n, clock_.mono(), clock_.now(), frame.header, frame.body).ok());
    }
    first += uplink.stats().upstreams[0].active ? 1 : 0;
  }
  EXPECT_GT(first, 16);
  EXPECT_LT(first, 48);
}

TEST_F(UplinkTest, NewRowsGoToTheOtherWhenOneIsSilentAndWhatIsInDoubtWaits) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  append();
  tick();
  EXPECT_EQ(rows(0), Seqs{1});
  stay_connected(4s, {1});
  append();
  tick();
  EXPECT_EQ(rows(1), Seqs{2});
  EXPECT_EQ((*outbox_->pending(kA, 0, kRoomy)).size(), 1U);
  EXPECT_EQ(uplink_->stats().failovers, 1U);
  // What its target acknowledges is done, what another says of it is nothing.
  ack(FrameType::kAckG, 1, 2, 1);
  EXPECT_EQ(stats().rows, 1U);
  rows(0);
  connect(welcome(kA), 0);
  EXPECT_EQ(rows(0), Seqs{});  // it may have it
  receive(FrameType::kPong, Pong{clock_.mono().time_since_epoch().count(), 0, {}}, 0);
  EXPECT_EQ(rows(0), Seqs{1});
}

TEST_F(UplinkTest, ThePreferredOneGetsNewRowsAgainAfterItWasWellForAWhile) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  stay_connected(4s, {1});
  connect(welcome(kA), 0);
  stay_connected(28s, {0, 1});
  EXPECT_EQ(uplink_->target(), kB);
  stay_connected(5s, {0, 1});
  EXPECT_EQ(uplink_->target(), kA);
}

TEST_F(UplinkTest, GoawayOverloadAndLackOfCreditSendNewRowsElsewhere) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  receive(FrameType::kGoaway, Goaway{60'000, "stopping"}, 0);
  EXPECT_EQ(uplink_->target(), kB);
  stay_connected(61s, {1});
  connect(welcome(kA), 0);
  stay_connected(40s, {0, 1});
  EXPECT_EQ(uplink_->target(), kA);
  receive(FrameType::kNack, Nack{0, 0, "overload", false}, 0);
  EXPECT_EQ(uplink_->target(), kB);
  stay_connected(70s, {0, 1});
  EXPECT_EQ(uplink_->target(), kA);
  receive(FrameType::kCredit, Credit{0}, 0);
  EXPECT_EQ(uplink_->target(), std::nullopt);
  stay_connected(11s, {0, 1});
  EXPECT_EQ(uplink_->target(), kB);
}

TEST_F(UplinkTest, WithoutAnotherAnOverloadedUpstreamIsStillTheBest) {
  connect(welcome(kA));
  receive(FrameType::kNack, Nack{0, 0, "overload", false});
  EXPECT_EQ(uplink_->target(), kA);
}

TEST_F(UplinkTest, OldRowsThatAreNobodysWaitUntilAllThatMayHoldThemWereAsked) {
  restart(2);
  append();
  append();
  append();
  const uint64_t old = outbox_->epoch();
  restart(2);
  append();
  connect(welcome(kA), 0);
  const auto sent_epochs = [&](size_t to) {
    std::vector<bool> out;
    for (const SentFrame& frame : links_[to]->sent) {
      if (frame.header.seq > 0) out.push_back(frame.header.epoch == old);
    }
    rows(to);
    return out;
  };
  EXPECT_EQ(sent_epochs(0), std::vector<bool>{false});  // only what is this process's own
  Welcome holds = welcome(kB);
  holds.here = {{old, 2, 2}};  // this is an old copy: the other one went on and sent it there
  EXPECT_FALSE(question(0).has_value());
  connect(holds, 1);
  EXPECT_EQ((*outbox_->pending(kB, 0, kRoomy)).at(0).seq, 2U);
  const auto asked = question(0);
  ASSERT_TRUE(asked.has_value());
  EXPECT_EQ(*asked, (AskIncluded{{}, 0, outbox_->source(), old, 1, 3}));
  EXPECT_EQ(sent_epochs(0), std::vector<bool>{});
  // A part of the answer: the original was there.
  receive(FrameType::kIncluded, answer_to(*asked, true, 1, {{old, 1, 1}}));
  EXPECT_EQ(stats().rows, 3U);
  EXPECT_EQ(sent_epochs(0), std::vector<bool>{});
  tick();
  const auto rest = question(0);
  ASSERT_TRUE(rest.has_value());
  EXPECT_EQ(rest->lo, 3U);
  rows(0);
  receive(FrameType::kIncluded, answer_to(*rest, true, 3, {}));
  tick();
  EXPECT_EQ(sent_epochs(0), std::vector<bool>{true});
  EXPECT_EQ(unassigned_rows(*outbox_).size(), 0U);
  EXPECT_FALSE(question(0).has_value());
}

TEST_F(UplinkTest, AnUpstreamThatNeverAnswersDoesNotHoldOldRowsForEver) {
  restart(2);
  append();
  restart(2);
  connect(welcome(kA), 0);
  stay_connected(890s);
  EXPECT_EQ(rows(0, FrameType::kData), Seqs{});
  stay_connected(15s);
  const auto asked = question(0);
  ASSERT_TRUE(asked.has_value());
  receive(FrameType::kIncluded, answer_to(*asked, true, 1, {}));
  tick();
  EXPECT_EQ(rows(0, FrameType::kData), Seqs{1});
}

// ---- fences ----

TEST_F(UplinkTest, AnotherLifeOfATierIsAskedAboutAtOnceAndTheAnswerSettlesItsRows) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  for (int i = 0; i < 4; ++i) append();
  tick();
  rows(0);
  rows(1);
  const Target next_life{kA.tier_source, 2};
  receive(FrameType::kWelcome, welcome(next_life), 0);
  EXPECT_EQ(rows(0, FrameType::kData), Seqs{});  // not before the last tier has answered
  tick();
  const auto asked = question(0);
  ASSERT_TRUE(asked.has_value());
  EXPECT_EQ(asked->tier_source, kA.tier_source);
  EXPECT_EQ(asked->tier_epoch, kA.tier_epoch);
  EXPECT_EQ(asked->source, outbox_->source());
  EXPECT_EQ(asked->lo, 1U);
  EXPECT_EQ(asked->hi, 4U);

  receive(FrameType::kIncluded, answer_to(*asked, false, 4, {span(1, 4)}), 0);
  EXPECT_EQ(stats().rows, 4U);  // not fenced: nothing follows
  rows(0);
  // A part of the answer; the rest is asked for at once.
  receive(FrameType::kIncluded, answer_to(*asked, true, 2, {span(2, 2)}), 0);
  EXPECT_EQ(rows(0, FrameType::kData), Seqs{1});
  tick();
  const auto rest = question(0);
  ASSERT_TRUE(rest.has_value());
  EXPECT_EQ(rest->lo, 3U);
  rows(0);
  receive(FrameType::kIncluded, answer_to(*rest, true, 4, {}), 0);
  EXPECT_EQ(rows(0, FrameType::kData), (Seqs{3, 4}));
  EXPECT_EQ(stats().rows, 3U);
  EXPECT_EQ(stats().acked_data_mass, 1U);
}

TEST_F(UplinkTest, ASilentTierIsAskedAboutOnlyAfterAWhileAndOverAnyLink) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  append();
  tick();
  rows(1);
  stay_connected(890s, {1});
  EXPECT_FALSE(question(1).has_value());
  stay_connected(15s, {1});
  const auto asked = question(1);
  ASSERT_TRUE(asked.has_value());
  rows(1);
  receive(FrameType::kIncluded, answer_to(*asked, true, 1, {}), 1);
  EXPECT_EQ(rows(1, FrameType::kData), Seqs{1});
  EXPECT_EQ(uplink_->stats().fenced_targets, 1U);
}

TEST_F(UplinkTest, AQuestionIsAskedAgainEverLater) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  append();
  tick();
  receive(FrameType::kWelcome, welcome({kA.tier_source, 2}), 0);
  stay_connected(600s, {0, 1});
  const uint64_t asked = uplink_->stats().asked;
  EXPECT_GT(asked, 20U);
  EXPECT_LT(asked, 80U);
}

TEST_F(UplinkTest, ATierThatDoesNotKnowOfItsFenceGetsNoNewRows) {
  restart(2);
  connect(welcome(kA), 0);
  connect(welcome(kB), 1);
  append();
  tick();
  rows(0);
  const AskIncluded about{kA.tier_source, kA.tier_epoch, outbox_->source(), outbox_->epoch(), 1, 1};
  receive(FrameType::kIncluded, answer_to(about, true, 1, {}), 1);
  EXPECT_EQ(uplink_->target(), kB);
  EXPECT_EQ(rows(1, FrameType::kData), Seqs{1});
  connect(welcome(kA), 0);
  stay_connected(60s, {0, 1});
  EXPECT_EQ(uplink_->target(), kB);
  connect(welcome({kA.tier_source, 2}), 0);
  stay_connected(31s, {0, 1});
  EXPECT_EQ(uplink_->target(), (Target{kA.tier_source, 2}));
}

TEST_F(UplinkTest, QuestionsAndAnswersOfOthersPassThrough) {
  std::vector<Included> answers;
  UplinkOptions options;
  options.on_included = [&](const Included& answer) { answers.push_back(answer); };
  restart(1, options);
  const AskIncluded about{kB.tier_source, 1, SourceId{std::byte{9}}, 5, 1, 3};
  EXPECT_FALSE(uplink_->ask(about));
  connect(welcome(kA));
  EXPECT_TRUE(uplink_->ask(about));
  EXPECT_EQ(question(0), about);
  append();
  tick();
  receive(FrameType::kIncluded, answer_to(about, true, 3, {}));
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].source, about.source);
  EXPECT_EQ(stats().rows, 1U);
}

}  // namespace
}  // namespace weir
