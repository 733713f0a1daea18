#include "aggregator/intake.h"

#include <optional>
#include <set>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/zstd.h"
#include "tests/fakes/batches.h"

namespace weir::aggregator {
namespace {

constexpr int64_t kNow = 1'700'000'070;
constexpr Window kWindow{1'700'000'040, 60};
constexpr SourceId kSource{std::byte{1}};
constexpr SourceId kOther{std::byte{2}};
constexpr uint64_t kEpoch = 77;
constexpr uint64_t kTierEpoch = 5;  // of this tier
constexpr SourceId kTier{std::byte{200}};

class RecordingDoor final : public Door {
 public:
  struct Sent {
    PeerId peer;
    FrameHeader header;
    ControlMessage message;
  };

  bool send(const PeerId& peer, ByteView header, ByteView body) override {
    sent.push_back({peer, *decode_header(header), *decode_control(body)});
    return true;
  }

  void on_receive(Receiver) override {}

  [[nodiscard]] std::string endpoint() const override { return {}; }

  [[nodiscard]] uint64_t bad_frame_count() const override { return 0; }

  std::vector<Sent> sent;
};

class IntakeTest : public testing::Test {
 protected:
  IntakeTest() { start({}); }

  void start(IntakeLimits limits) {
    limits.source = kTier;
    limits.epoch = kTierEpoch;
    intake_.emplace(door_, limits, [this](StoreRequest&& request) {
      if (!store_has_room_) return false;
      if (auto* batch = std::get_if<AcceptedBatch>(&request)) {
        stored_.push_back(std::move(*batch));
      } else {
        asked_.push_back(std::move(request));
      }
      return true;
    });
  }

  [[nodiscard]] Instant now() const { return {UnixTime(std::chrono::seconds(now_)), mono_}; }

  void commit(std::vector<Acknowledgement> acks) {
    Answers answers;
    answers.acks = std::move(acks);
    intake_->committed(answers);
  }

  void give(const PeerId& peer, ByteView header, ByteView body) {
    intake_->on_message(now(), peer, identity_, header, body);
  }

  void give_control(FrameType type, const ControlMessage& message, const SourceId& source = kSource,
                    const PeerId& peer = "p1") {
    FrameHeader header;
    header.type = type;
    header.source = source;
    header.epoch = kEpoch;
    const Bytes body = encode_control(message);
    give(peer, encode_header_for(header, body), body);
  }

  void greet(const SourceId& source = kSource, const PeerId& peer = "p1") {
    Hello hello;
    hello.name = "edge-1";
    hello.tier = "edge";
    hello.epoch = kEpoch;
    give_control(FrameType::kHello, hello, source, peer);
  }

  static FrameHeader header_of(uint64_t seq) {
    FrameHeader header;
    header.source = kSource;
    header.epoch = kEpoch;
    header.seq = seq;
    header.target_epoch = kTierEpoch;
    return header;
  }

  void give_batch(uint64_t seq, const Window& window = kWindow, uint64_t mass = 5,
                  const PeerId& peer = "p1") {
    const Bytes body = counter_batch(window, mass).body;
    give(peer, encode_header_for(header_of(seq), body), body);
  }

  // Our clock minus the source's, said often enough to be believed.
  void know_clock(int64_t offset_s, int times = 3) {
    Ping ping;
    ping.clock_offset_ns = offset_s * 1'000'000'000;
    for (int i = 0; i < times; ++i) give_control(FrameType::kPing, ping);
  }

  template <class T>
  T last() {
    EXPECT_FALSE(door_.sent.empty());
    return std::get<T>(door_.sent.back().message);
  }

  void expect_refused(const std::string& reason, bool permanent) {
    const Nack nack = last<Nack>();
    EXPECT_EQ(nack.reason, reason);
    EXPECT_EQ(nack.permanent, permanent);
    EXPECT_EQ(rejected(reason), 1U) << reason;
    EXPECT_TRUE(stored_.empty());
  }

  uint64_t count(const std::string& name) { return intake_->counters().at(name); }

  uint64_t rejected(const std::string& reason) {
    return count("weir_intake_rejected_total{reason=\"" + reason + "\"}");
  }

  // Every message is counted once as received and once by what became of it.
  uint64_t outcomes() {
    uint64_t sum = 0;
    for (const auto& [name, value] : intake_->counters()) {
      if (name.starts_with("weir_intake_rejected_total")) sum += value;
    }
    for (const char* name :
         {"weir_intake_hellos_total", "weir_intake_pings_total", "weir_intake_batches_total",
          "weir_intake_duplicates_total", "weir_intake_duplicates_waiting_total"}) {
      sum += count(name);
    }
    return sum;
  }

  int64_t now_ = kNow;
  std::optional<Identity> identity_;  // of who gives; none: a plain door
  RecordingDoor door_;
  bool store_has_room_ = true;
  std::vector<AcceptedBatch> stored_;
  std::vector<StoreRequest> asked_;  // what is no batch
  MonoTime mono_{std::chrono::hours(1)};
  std::optional<Intake> intake_;
};

TEST_F(IntakeTest, AGoodBatchReachesTheStoreWholeAndIsNotAcknowledgedYet) {
  greet();
  door_.sent.clear();
  give_batch(1);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].type, FrameType::kData);
  EXPECT_EQ(stored_[0].source, kSource);
  EXPECT_EQ(stored_[0].epoch, kEpoch);
  EXPECT_EQ(stored_[0].seq, 1U);
  EXPECT_EQ(stored_[0].window, kWindow);
  EXPECT_EQ(stored_[0].mass, 5U);
  EXPECT_EQ(stored_[0].rows, 1U);
  EXPECT_EQ(stored_[0].body, counter_batch(kWindow, 5).body);
  EXPECT_TRUE(door_.sent.empty());
  EXPECT_EQ(intake_->bytes_at_store(), stored_[0].body.size());
}

TEST_F(IntakeTest, AKeySpeaksForItsOwnSourceOnly) {
  identity_ = Identity{kSource, Role::kEdge};
  greet();
  give_batch(1);
  EXPECT_EQ(stored_.size(), 1U);
  stored_.clear();
  identity_ = Identity{kOther, Role::kEdge};
  give_batch(2);
  expect_refused("foreign_source", false);
  greet(kSource, "thief");  // must not take the answers of the one who is there
  EXPECT_EQ(rejected("foreign_source"), 2U);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  EXPECT_EQ(door_.sent.back().peer, "p1");
  EXPECT_EQ(outcomes(), count("weir_intake_messages_total"));
}

TEST_F(IntakeTest, AGroupOfMorePartsThanAnyFoldMakesIsRefused) {
  greet();
  const Metric metric{"requests_total", Kind::kCounter, "", 0};
  const Value value = Counter{1};
  std::vector<Labels> labels;
  for (int i = 0; i < 300; ++i) {
    labels.push_back({{"path", std::string(200, 'a') + std::to_string(i)}});
  }
  std::vector<BatchRow> rows;
  for (const Labels& each : labels) rows.push_back({&metric, &each, &value});
  const auto parts = encode_batches({kWindow, {}, {}}, rows, 1);
  ASSERT_GT(parts.size(), 128U);
  const Bytes& body = parts.front().body;
  give("p1", encode_header_for(header_of(1), body), body);
  expect_refused("batch", true);
}

TEST_F(IntakeTest, AnEdgesKeySendsNothingThatIsARegionsToSend) {
  identity_ = Identity{kSource, Role::kEdge};
  greet();
  FrameHeader header = header_of(1);
  header.type = FrameType::kOut;
  const Bytes body = counter_batch(kWindow, 5).body;
  give("p1", encode_header_for(header, body), body);
  expect_refused("role", false);
  Hello hello;
  hello.name = "eu-1";
  hello.tier = "region";
  hello.epoch = kEpoch;
  give_control(FrameType::kHello, hello);
  EXPECT_EQ(rejected("role"), 2U);
  identity_ = Identity{kSource, Role::kGlobal};  // it connects to nobody
  greet();
  EXPECT_EQ(rejected("role"), 3U);
  EXPECT_EQ(outcomes(), count("weir_intake_messages_total"));
}

TEST_F(IntakeTest, ACommitIsAcknowledgedOnceForAllItsRangesAndCountedForTheSource) {
  greet();
  for (const uint64_t seq : {1U, 2U, 4U}) give_batch(seq);
  door_.sent.clear();
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}},
          {kSource, kEpoch, 2, 2, FrameType::kAckR, {}, {}},
          {kSource, kEpoch, 4, 4, FrameType::kAckR, {}, {}}});
  ASSERT_EQ(door_.sent.size(), 1U);
  EXPECT_EQ(door_.sent[0].peer, "p1");
  EXPECT_EQ(door_.sent[0].header.type, FrameType::kAckR);
  EXPECT_EQ(last<Ack>().spans, (std::vector<SeqSpan>{{kEpoch, 1, 2}, {kEpoch, 4, 4}}));
  EXPECT_EQ(intake_->bytes_at_store(), 0U);
  ASSERT_EQ(intake_->sources().size(), 1U);
  EXPECT_EQ(intake_->sources()[0].batches, 3U);
  EXPECT_EQ(intake_->sources()[0].mass, 15U);
}

TEST_F(IntakeTest, ACopyOfABatchAtTheStoreIsIgnoredAndOfACommittedOneAcknowledgedAgain) {
  greet();
  give_batch(1);
  door_.sent.clear();
  give_batch(1);
  EXPECT_EQ(stored_.size(), 1U);
  EXPECT_TRUE(door_.sent.empty());
  EXPECT_EQ(count("weir_intake_duplicates_waiting_total"), 1U);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  give_batch(1);
  EXPECT_EQ(stored_.size(), 1U);
  EXPECT_EQ(door_.sent.back().header.type, FrameType::kAckR);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckG, {}, {}}});
  give_batch(1);
  EXPECT_EQ(door_.sent.back().header.type, FrameType::kAckG);
  EXPECT_EQ(last<Ack>().spans, (std::vector<SeqSpan>{{kEpoch, 1, 1}}));
  EXPECT_EQ(count("weir_intake_duplicates_total"), 2U);
}

TEST_F(IntakeTest, AnotherBatchByTheNameOfOneThatIsHereIsAConflictAndRefusedForGood) {
  greet();
  give_batch(1);
  stored_.clear();
  give_batch(1, kWindow, 6);
  expect_refused("conflict", true);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  give_batch(1, kWindow, 6);
  EXPECT_EQ(rejected("conflict"), 2U);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckG, {}, {}}});  // forgotten: acknowledged unread
  give_batch(1, kWindow, 6);
  EXPECT_EQ(rejected("conflict"), 2U);
  EXPECT_EQ(count("weir_intake_duplicates_total"), 1U);
}

TEST_F(IntakeTest, TheWelcomeNamesWhatIsHeldAtBothLevels) {
  intake_->restore({{kSource, kEpoch, 1, 9}, {kSource, kEpoch, 11, 11}, {kOther, 5, 1, 1}},
                   {{kSource, kEpoch, 1, 4}});
  greet();
  const auto welcome = last<Welcome>();
  EXPECT_EQ(welcome.here, (std::vector<SeqSpan>{{kEpoch, 1, 9}, {kEpoch, 11, 11}}));
  EXPECT_EQ(welcome.last_tier, (std::vector<SeqSpan>{{kEpoch, 1, 4}}));
  EXPECT_EQ(welcome.credit_bytes, uint64_t{4} << 20);
  EXPECT_EQ(intake_->sources()[1].last_seen, UnixTime{});  // known, not seen
}

TEST_F(IntakeTest, CreditIsSharedByTheSourcesThatAreHere) {
  IntakeLimits limits;
  limits.max_bytes = size_t{6} << 20;
  start(limits);
  greet(kSource, "p1");
  EXPECT_EQ(last<Welcome>().credit_bytes, uint64_t{4} << 20);
  greet(kOther, "p2");
  EXPECT_EQ(last<Welcome>().credit_bytes, uint64_t{3} << 20);
}

TEST_F(IntakeTest, APeerThatDidNotSayHelloIsAskedTo) {
  give_batch(1);
  expect_refused(kNackNoHello, false);
  EXPECT_EQ(last<Nack>().seq, 0U);
  greet();
  give_batch(1, kWindow, 5, "p2");  // another connection
  EXPECT_EQ(rejected("no_hello"), 2U);
  EXPECT_TRUE(stored_.empty());
}

TEST_F(IntakeTest, AcknowledgementsFollowTheSourceToItsNewConnection) {
  greet();
  give_batch(1);
  greet(kSource, "p2");
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  EXPECT_EQ(door_.sent.back().peer, "p2");
}

TEST_F(IntakeTest, APingIsEchoedAndItsReportKept) {
  greet();
  Ping ping{1, 42, {"edge-1", "edge", {{"requests", 1, "", ""}}, {{"x", 3}}, 60, 9}};
  give_control(FrameType::kPing, ping);
  EXPECT_EQ(last<Pong>().echo_mono_ns, 42);
  EXPECT_TRUE(last<Pong>().waiting.empty());
  EXPECT_EQ(intake_->sources()[0].report, ping.report);
  EXPECT_EQ(intake_->sources()[0].last_seen, UnixTime(std::chrono::seconds(kNow)));
}

TEST_F(IntakeTest, APongSaysWhatWaitsAtTheStore) {
  greet();
  for (const uint64_t seq : {1U, 2U, 4U}) give_batch(seq);
  const auto waiting = [&] {
    give_control(FrameType::kPing, Ping{});
    return last<Pong>().waiting;
  };
  EXPECT_EQ(waiting(), (std::vector<SeqSpan>{{kEpoch, 1, 2}, {kEpoch, 4, 4}}));
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  EXPECT_EQ(waiting(), (std::vector<SeqSpan>{{kEpoch, 2, 2}, {kEpoch, 4, 4}}));
}

TEST_F(IntakeTest, WindowsTooOldOrOfAnotherWidthAreRefusedForGoodAndOnesAheadForNow) {
  const auto refuse = [&](const Window& window, const char* reason, bool permanent = true) {
    start({});
    greet();
    if (permanent) know_clock(0);
    give_batch(1, window);
    expect_refused(reason, permanent);
  };
  const int64_t old = kWindow.start_s - 72 * 3600;
  refuse({old - 60, 60}, "window_old");
  refuse({kWindow.start_s + 180, 60}, "window_ahead", false);
  refuse({1'700'000'100, 300}, "window_width");
  refuse({1'700'000'041, 60}, "batch");  // not where a window starts
  start({});
  greet();
  give_batch(1, {old, 60});
  give_batch(2, {kWindow.start_s + 120, 60});
  EXPECT_EQ(stored_.size(), 2U);
}

TEST_F(IntakeTest, EachLieOfAHeaderHasItsOwnReason) {
  const Bytes body = counter_batch(kWindow, 5).body;
  const auto refuse = [&](auto change, const char* reason, bool permanent) {
    start({});
    greet();
    const HeaderBytes good = encode_header_for(header_of(1), body);
    FrameHeader header = *decode_header(good);
    change(header);
    give("p1", encode_header(header), body);
    expect_refused(reason, permanent);
    EXPECT_EQ(outcomes(), count("weir_intake_messages_total"));
  };
  refuse([](FrameHeader& h) { h.type = FrameType{99}; }, "type", true);
  refuse([](FrameHeader& h) { h.type = FrameType::kTombstone; }, "control", true);
  refuse([](FrameHeader& h) { ++h.body_len; }, "body_len", false);
  refuse([](FrameHeader& h) { h.codec = BodyCodec{7}; }, "codec", true);
  refuse([](FrameHeader& h) { ++h.raw_len; }, "raw_len", true);
  refuse([](FrameHeader& h) { h.raw_len = UINT32_MAX; }, "raw_len", true);
  refuse([](FrameHeader& h) { h.seq = 0; }, "seq", true);
  refuse([](FrameHeader& h) { h.seq = UINT64_MAX; }, "seq", true);
  refuse([](FrameHeader& h) { ++h.body_crc32c; }, "body_crc", false);
  refuse([](FrameHeader& h) { h.codec = BodyCodec::kZstd; }, "zstd", true);
}

TEST_F(IntakeTest, ACompressedBatchMustBeExactlyAsLongAsItSays) {
  greet();
  const Bytes raw = counter_batch(kWindow, 5).body;
  const Bytes packed = *zstd_compress(raw, 1);
  FrameHeader header = header_of(1);
  header.codec = BodyCodec::kZstd;
  header.raw_len = static_cast<uint32_t>(raw.size()) - 1;
  give("p1", encode_header_for(header, packed), packed);
  expect_refused("zstd", true);
  header.raw_len = static_cast<uint32_t>(raw.size());
  give("p1", encode_header_for(header, packed), packed);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].raw_len, raw.size());
  EXPECT_EQ(stored_[0].body, packed.size() < raw.size() ? packed : raw);
  EXPECT_EQ(stored_[0].crc32c, crc32c(stored_[0].body));
  EXPECT_EQ(intake_->bytes_at_store(), stored_[0].body.size());
}

TEST_F(IntakeTest, ABatchIsHeldAsItCameWhereThatIsShorter) {
  greet();
  std::vector<Labels> labels;
  std::vector<Value> values(100, Counter{1});
  std::vector<BatchRow> rows;
  for (int i = 0; i < 100; ++i) labels.push_back({{"path", "/items/" + std::to_string(i)}});
  const Metric metric{"requests", Kind::kCounter, "", 0};
  for (size_t i = 0; i < labels.size(); ++i) rows.push_back({&metric, &labels[i], &values[i]});
  auto encoded = encode_batches({kWindow, {}, {}}, rows);
  ASSERT_EQ(encoded.size(), 1U);
  const Bytes raw = std::move(encoded[0].body);
  uint64_t seq = 0;
  for (const int level : {1, -100'000}) {  // the fastest makes it longer
    const Bytes packed = *zstd_compress(raw, level);
    FrameHeader header = header_of(++seq);
    header.codec = BodyCodec::kZstd;
    header.raw_len = static_cast<uint32_t>(raw.size());
    give("p1", encode_header_for(header, packed), packed);
    ASSERT_EQ(stored_.size(), seq) << level;
    EXPECT_EQ(stored_.back().body, packed.size() < raw.size() ? packed : raw);
    EXPECT_EQ(stored_.back().crc32c, crc32c(stored_.back().body));
    EXPECT_EQ(stored_.back().raw_len, raw.size());
  }
  EXPECT_LT(stored_.front().body.size(), raw.size());
}

TEST_F(IntakeTest, BytesThatAreNoBatchAreRefusedForGood) {
  greet();
  const Bytes junk(100, std::byte{1});
  give("p1", encode_header_for(header_of(1), junk), junk);
  expect_refused("batch", true);
}

TEST_F(IntakeTest, EveryTruncationAndEveryFlippedBitLandsInExactlyOneCounter) {
  const Bytes body = counter_batch(kWindow, 5).body;
  const HeaderBytes header = encode_header_for(header_of(1), body);
  greet();
  uint64_t before = outcomes();
  const auto expect_one_more = [&] {
    ASSERT_EQ(outcomes(), ++before);
    ASSERT_EQ(outcomes(), count("weir_intake_messages_total"));
    ASSERT_TRUE(stored_.empty());
  };
  for (size_t bit = 0; bit < header.size() * 8; ++bit) {
    HeaderBytes bad = header;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    give("p1", bad, body);
    expect_one_more();
  }
  for (size_t size = 0; size < header.size(); ++size) {
    give("p1", ByteView(header).first(size), body);
    expect_one_more();
  }
  EXPECT_EQ(rejected("header_size"), 64U);
  EXPECT_EQ(rejected("header_magic"), 32U);
  EXPECT_EQ(rejected("header_crc"), 480U);
  for (size_t bit = 0; bit < body.size() * 8; ++bit) {
    Bytes bad = body;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    give("p1", header, bad);
    expect_one_more();
  }
  for (size_t size = 0; size < body.size(); ++size) {
    give("p1", header, ByteView(body).first(size));
    expect_one_more();
  }
  EXPECT_EQ(rejected("body_crc"), body.size() * 8);
  EXPECT_EQ(rejected("body_len"), body.size());
  give("p1", header, body);  // and the good one beside them counts
  EXPECT_EQ(stored_.size(), 1U);
}

TEST_F(IntakeTest, DamagedControlMessagesAreRefusedAndTheProcessLives) {
  FrameHeader header;
  header.type = FrameType::kHello;
  header.source = kSource;
  header.epoch = kEpoch;
  Hello hello;
  hello.epoch = kEpoch;
  const Bytes good = encode_control(hello);
  const HeaderBytes good_header = encode_header_for(header, good);
  give("p1", good_header, Bytes(good.size()));
  const Bytes pong = encode_control(Pong{});
  give("p1", encode_header_for(header, pong), pong);
  hello.epoch = kEpoch + 1;  // not the header's
  give_control(FrameType::kHello, hello);
  EXPECT_EQ(rejected("control"), 3U);
  hello.epoch = kEpoch;
  hello.minor_min = hello.minor_max = kWireMinor + 1;
  give_control(FrameType::kHello, hello);
  EXPECT_EQ(last<Nack>().reason, "version");
  EXPECT_TRUE(intake_->sources().empty());
}

TEST_F(IntakeTest, WhenTheStoreIsFullBatchesAreRefusedForNowAndComeAgain) {
  greet();
  door_.sent.clear();
  store_has_room_ = false;
  give_batch(1);
  EXPECT_EQ(rejected("overload"), 1U);
  EXPECT_EQ(last<Nack>().reason, kNackOverload);
  EXPECT_FALSE(last<Nack>().permanent);
  EXPECT_EQ(intake_->bytes_at_store(), 0U);
  store_has_room_ = true;
  give_batch(1);
  EXPECT_EQ(stored_.size(), 1U);

  IntakeLimits limits;
  limits.max_bytes = 2 * stored_[0].body.size();
  start(limits);
  stored_.clear();
  greet();
  for (const uint64_t seq : {1U, 2U, 3U}) give_batch(seq);
  EXPECT_EQ(stored_.size(), 2U);
  EXPECT_EQ(rejected("overload"), 1U);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  give_batch(3);
  EXPECT_EQ(stored_.size(), 3U);
}

TEST_F(IntakeTest, WhatTheStoreRefusesIsToldToTheSenderAndMayComeAgain) {
  greet();
  give_batch(1);
  commit({{kSource, kEpoch, 1, 1, FrameType::kNack, Refusal::kForNow, "too many gaps"}});
  EXPECT_EQ(last<Nack>(), (Nack{kEpoch, 1, "too many gaps", false}));
  EXPECT_EQ(rejected("store_retry"), 1U);
  give_batch(1);
  EXPECT_EQ(stored_.size(), 2U);
  EXPECT_EQ(intake_->sources()[0].batches, 0U);
}

TEST_F(IntakeTest, BatchDamagedAfterItsCommitIsTakenAgain) {
  greet();
  for (const uint64_t seq : {1U, 2U, 3U}) give_batch(seq);
  commit({{kSource, kEpoch, 1, 3, FrameType::kAckR, {}, {}}});
  commit({{kSource, kEpoch, 2, 2, FrameType::kNack, Refusal::kForNow, "damaged"}});
  EXPECT_EQ(last<Nack>(), (Nack{kEpoch, 2, "damaged", false}));
  for (const uint64_t seq : {1U, 2U, 3U}) give_batch(seq);
  ASSERT_EQ(stored_.size(), 4U);
  EXPECT_EQ(stored_[3].seq, 2U);
}

TEST_F(IntakeTest, SourcesAreBoundedAndOnlyALongSilentOneMakesRoom) {
  IntakeLimits limits;
  limits.max_sources = 1;
  start(limits);
  greet(kSource, "p1");
  greet(kOther, "p2");
  EXPECT_EQ(last<Nack>().reason, "sources");
  now_ += 3600;
  greet(kOther, "p2");
  EXPECT_EQ(intake_->sources().size(), 1U);
  EXPECT_EQ(intake_->sources()[0].id, kOther);
}

TEST_F(IntakeTest, LivesOfOneSourceAreBounded) {
  greet();
  for (uint64_t epoch = 1; epoch <= 100; ++epoch) {
    const Bytes body = counter_batch(kWindow, 5).body;
    FrameHeader header = header_of(1);
    header.epoch = epoch;
    give("p1", encode_header_for(header, body), body);
  }
  EXPECT_EQ(stored_.size(), 100U);
  EXPECT_LE(intake_->bytes_at_store(), kMaxHelloEpochs * stored_[0].body.size());
}

// ---- failover ----

TEST_F(IntakeTest, WhatIsMeantForAnotherLifeOfThisTierIsRefusedForNow) {
  greet();
  FrameHeader header = header_of(1);
  header.target_epoch = kTierEpoch + 1;
  const Bytes body = counter_batch(kWindow, 5).body;
  give("p1", encode_header_for(header, body), body);
  expect_refused(kNackTargetEpoch, false);
}

TEST_F(IntakeTest, TheWelcomeNamesThisTierAndOnlyTheEpochsThatWereNamed) {
  intake_->restore({{kSource, kEpoch, 1, 9}, {kSource, 8, 1, 3}, {kSource, 9, 1, 2}}, {});
  Hello hello;
  hello.tier = "edge";
  hello.epoch = kEpoch;
  hello.epochs = {9};
  give_control(FrameType::kHello, hello);
  const auto welcome = last<Welcome>();
  EXPECT_EQ(welcome.tier_source, kTier);
  EXPECT_EQ(welcome.tier_epoch, kTierEpoch);
  EXPECT_EQ(welcome.your_epoch, 0U);
  EXPECT_EQ(welcome.here, (std::vector<SeqSpan>{{9, 1, 2}, {kEpoch, 1, 9}}));
}

TEST_F(IntakeTest, ATierIsWelcomedWhenItsEpochIsOnDiskAndAskedForOnce) {
  Hello hello;
  hello.name = "eu-1";
  hello.tier = "region";
  FrameHeader header;
  header.type = FrameType::kHello;
  header.source = kSource;
  const Bytes body = encode_control(hello);
  give("p1", encode_header_for(header, body), body);
  give("p2", encode_header_for(header, body), body);  // it reconnected meanwhile
  EXPECT_TRUE(door_.sent.empty());
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(std::get<Greeting>(asked_[0]).name, "eu-1");
  Answers answers;
  answers.greeted.push_back({kSource, 3});
  intake_->committed(answers);
  EXPECT_EQ(last<Welcome>().your_epoch, 3U);
  EXPECT_EQ(door_.sent.back().peer, "p2");
}

TEST_F(IntakeTest, WithoutAnEpochNobodyIsWelcome) {
  IntakeLimits limits;
  intake_.emplace(door_, limits, [](StoreRequest&&) { return true; });
  greet();
  EXPECT_EQ(last<Nack>().reason, kNackNoEpoch);
  EXPECT_FALSE(last<Nack>().permanent);
  Answers answers;
  answers.own_epoch = 7;
  intake_->committed(answers);
  greet();
  EXPECT_EQ(last<Welcome>().tier_epoch, 7U);
}

TEST_F(IntakeTest, ANewEpochForgetsWhatIsNotAtTheLastTierAndAllMustGreetAnew) {
  greet();
  give_batch(1);
  give_batch(2);
  commit({{kSource, kEpoch, 1, 2, FrameType::kAckR, {}, {}},
          {kSource, kEpoch, 1, 1, FrameType::kAckG, {}, {}}});
  Answers answers;
  answers.own_epoch = kTierEpoch + 1;
  intake_->committed(answers);
  give_batch(3);
  EXPECT_EQ(rejected("no_hello"), 1U);
  greet();
  EXPECT_EQ(last<Welcome>().tier_epoch, kTierEpoch + 1);
  EXPECT_EQ(last<Welcome>().here, (std::vector<SeqSpan>{{kEpoch, 1, 1}}));
  EXPECT_EQ(last<Welcome>().last_tier, (std::vector<SeqSpan>{{kEpoch, 1, 1}}));
}

TEST_F(IntakeTest, AFencedEpochIsToldAndMayNotBeHeldAnyMore) {
  greet();
  give_batch(1);
  commit({{kSource, kEpoch, 1, 1, FrameType::kFenced, {}, {}}});
  EXPECT_EQ(last<Fenced>().epoch, kEpoch);
  EXPECT_EQ(rejected("fenced"), 1U);
  EXPECT_EQ(intake_->bytes_at_store(), 0U);
}

TEST_F(IntakeTest, AQuestionIsPassedOnOnceAndItsAnswerGoesToWhoAsked) {
  greet();
  const AskIncluded ask{kOther, 2, kSource, kEpoch, 1, 9};
  give_control(FrameType::kAskIncluded, ask);
  give_control(FrameType::kAskIncluded, ask);
  ASSERT_EQ(asked_.size(), 1U);
  EXPECT_EQ(std::get<Question>(asked_[0]).ask, ask);
  EXPECT_EQ(count("weir_intake_questions_waiting_total"), 1U);
  Answers answers;
  answers.told.push_back({kSource, {kOther, 2, kSource, kEpoch, 1, 9, true, {{kEpoch, 2, 3}}}});
  intake_->committed(answers);
  EXPECT_EQ(last<Included>(), answers.told[0].included);
  give_control(FrameType::kAskIncluded, ask);
  EXPECT_EQ(asked_.size(), 2U);
  AskIncluded foreign = ask;
  foreign.source = kOther;
  give_control(FrameType::kAskIncluded, foreign);
  EXPECT_EQ(rejected("control"), 1U);
}

TEST_F(IntakeTest, SilenceCountsOnlyWhileThisProcessListened) {
  greet(kOther, "p2");
  greet();
  const auto silence = [&] {
    give_control(FrameType::kAskIncluded, AskIncluded{kOther, 2, kSource, kEpoch, 1, 9});
    Answers answers;
    answers.told.push_back({kSource, {kOther, 2, kSource, kEpoch, 1, 0, false, {}}});
    intake_->committed(answers);
    return std::get<Question>(asked_.back()).silent_s;
  };
  const auto tick_for = [&](int seconds) {
    for (int i = 0; i < seconds; ++i) {
      mono_ += std::chrono::seconds(1);
      intake_->tick(now());
    }
  };
  EXPECT_EQ(silence(), 0);  // not since the host was started
  tick_for(100);
  EXPECT_EQ(silence(), 100);
  mono_ += std::chrono::hours(1);  // stopped
  tick_for(10);
  EXPECT_EQ(silence(), 9);
}

// ---- tombstones, clocks ----

TEST_F(IntakeTest, ATombstoneIsTakenHoweverOldAndCountsInAWindowThatIsKept) {
  greet();
  const Tombstone tombstone{{kWindow.start_s - 30 * 86400, 60}, 9, 40, "outbox_age", {}};
  const Bytes body = encode_control(tombstone);
  FrameHeader header = header_of(1);
  header.type = FrameType::kTombstone;
  give("p1", encode_header_for(header, body), body);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].type, FrameType::kTombstone);
  EXPECT_EQ(stored_[0].mass, 9U);
  EXPECT_EQ(stored_[0].cum_mass, 40U);
  EXPECT_EQ(stored_[0].body, body);
  EXPECT_EQ(stored_[0].window, window_at(kNow - 72 * 3600, 60));
}

TEST_F(IntakeTest, WindowsOfAClockThatIsFarOffAreMovedByWholeWidthsAndCounted) {
  const auto window_with = [&](int64_t offset_s) {
    start({});
    stored_.clear();
    greet();
    know_clock(offset_s, 1);
    give_batch(1);
    return stored_.at(0).window.start_s - kWindow.start_s;
  };
  EXPECT_EQ(window_with(30), 0);
  EXPECT_EQ(count("weir_intake_rewindowed_total"), 0U);
  EXPECT_EQ(window_with(31), 60);
  EXPECT_EQ(count("weir_intake_rewindowed_total"), 1U);
  EXPECT_EQ(window_with(-3600), -3600);
  EXPECT_EQ(window_with(-89), -60);
}

TEST_F(IntakeTest, ATombstoneOfAClockThatIsFarOffIsMovedAndThenKeptInRange) {
  for (const int64_t offset_s : {int64_t{1'700'000'000}, int64_t{-9'000'000'000}, int64_t{600}}) {
    start({});
    stored_.clear();
    greet();
    know_clock(offset_s);
    const Tombstone tombstone{{kWindow.start_s - 600, 60}, 9, 40, "outbox_age", {}};
    const Bytes body = encode_control(tombstone);
    FrameHeader header = header_of(1);
    header.type = FrameType::kTombstone;
    give("p1", encode_header_for(header, body), body);
    ASSERT_EQ(stored_.size(), 1U);
    const int64_t expected_s = offset_s == 600 ? kWindow.start_s : kWindow.start_s - 600;
    EXPECT_EQ(stored_[0].window.start_s, expected_s) << offset_s;
  }
}

TEST_F(IntakeTest, ABatchAheadOfBothClocksWaitsOnlyUntilTheyAreKnown) {
  const Window ahead{kWindow.start_s + 86400, 60};
  greet();
  know_clock(0, 2);
  give_batch(1, ahead);
  expect_refused("window_ahead", false);
  know_clock(0, 1);
  give_batch(1, ahead);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].window, kWindow);
  EXPECT_EQ(count("weir_intake_rewindowed_total"), 1U);
}

TEST_F(IntakeTest, AClockThatNobodyTellsOfIsDoubtedForFiveMinutesHoweverOftenItGreets) {
  const Window ahead{kWindow.start_s + 86400, 60};
  greet();
  for (int i = 0; i < 30; ++i) {
    mono_ += std::chrono::seconds(10);
    now_ += 10;
    EXPECT_TRUE(stored_.empty());
    greet();
    give_batch(1, ahead);
  }
  EXPECT_EQ(stored_.size(), 1U);
}

TEST_F(IntakeTest, ASourceThatComesBackWithAnotherClockIsDoubtedAgain) {
  const Window back{kWindow.start_s - 5 * 86400, 60};
  greet();
  know_clock(0);
  mono_ += std::chrono::hours(1);
  now_ += 3600;
  Hello hello;
  hello.epoch = kEpoch;
  hello.unix_ns = (now_ - 5 * 86400) * 1'000'000'000;
  give_control(FrameType::kHello, hello);
  give_batch(1, back);
  expect_refused("window_old", false);
}

TEST_F(IntakeTest, OurOwnClockThatIsSetAheadDestroysNothing) {
  greet();
  know_clock(0);
  now_ += 5 * 86400;
  give_batch(1);
  expect_refused("window_old", false);  // until the others have measured us again
  know_clock(5 * 86400);
  give_batch(1);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].window.start_s, kWindow.start_s + 5 * 86400);
}

TEST_F(IntakeTest, ASourceWhoseClockWasSetBackLosesNothingBeforeItIsMeasured) {
  greet();
  know_clock(7);
  know_clock(0, 1);  // it does not know any more
  const Window back{kWindow.start_s - 5 * 86400, 60};
  give_batch(1, back);
  expect_refused("window_old", false);
  know_clock(5 * 86400, 1);
  give_batch(1, back);
  ASSERT_EQ(stored_.size(), 1U);
  EXPECT_EQ(stored_[0].window, kWindow);
}

TEST_F(IntakeTest, ARollupIsNeverRefusedForGoodForItsWindow) {
  greet();
  know_clock(0);
  const auto give_rollup = [&](uint64_t seq, const Window& window) {
    const Bytes body = counter_batch(window, 5).body;
    FrameHeader header = header_of(seq);
    header.type = FrameType::kOut;
    give("p1", encode_header_for(header, body), body);
  };
  give_rollup(1, {kWindow.start_s - 400 * 86400, 60});
  give_rollup(2, {kWindow.start_s + 400 * 86400 / 60 * 60, 60});
  ASSERT_EQ(stored_.size(), 2U);
  EXPECT_EQ(stored_[0].window.start_s, kWindow.start_s - 400 * 86400);
  EXPECT_EQ(stored_[1].window, kWindow);
  stored_.clear();
  give_rollup(3, {1'700'000'100, 300});
  expect_refused("window_width", false);
}

// ---- credit, score ----

TEST_F(IntakeTest, CreditIsWithheldWhileTheStoreIsHalfFullAndGivenBackWhenItDrains) {
  IntakeLimits limits;
  limits.max_bytes = 3 * counter_batch(kWindow, 5).body.size();
  start(limits);
  greet();
  give_batch(1);
  commit({{kSource, kEpoch, 1, 1, FrameType::kAckR, {}, {}}});
  EXPECT_GT(last<Ack>().credit_bytes, 0U);
  give_batch(2);
  give_batch(3);
  greet();
  EXPECT_EQ(last<Welcome>().credit_bytes, 0U);
  EXPECT_EQ(count("weir_intake_credit_withheld_total"), 1U);
  commit({{kSource, kEpoch, 2, 3, FrameType::kAckR, {}, {}}});
  EXPECT_EQ(last<Ack>().credit_bytes, limits.max_bytes);
  greet();
  give_batch(4);
  give_batch(5);
  greet();
  EXPECT_EQ(last<Welcome>().credit_bytes, 0U);
  commit({{kSource, kEpoch, 4, 5, FrameType::kNack, Refusal::kForNow, "later"}});
  EXPECT_EQ(last<Credit>().bytes, limits.max_bytes);
}

TEST_F(IntakeTest, MoreUnderWayThanWasEverGrantedIsAnOverrunButOneBatchAlwaysPasses) {
  IntakeLimits limits;
  const size_t size = counter_batch(kWindow, 5).body.size();
  limits.max_bytes = 10 * size;
  start(limits);
  for (uint8_t i = 0; i < 20; ++i) greet(SourceId{std::byte{50}, std::byte{i}}, "other");
  greet();
  EXPECT_LT(last<Welcome>().credit_bytes, size);
  give_batch(1);
  EXPECT_EQ(stored_.size(), 1U);
  give_batch(2);
  EXPECT_EQ(rejected("overrun"), 1U);
  EXPECT_EQ(stored_.size(), 1U);
}

TEST_F(IntakeTest, TenBadMessagesSendTheirSourceAwayForTenMinutesAndTimeForgives) {
  greet();
  const Bytes junk(100, std::byte{1});
  const auto bad = [&](uint64_t seq) { give("p1", encode_header_for(header_of(seq), junk), junk); };
  for (uint64_t seq = 1; seq <= 9; ++seq) bad(seq);
  mono_ += std::chrono::minutes(10);  // ten points forgiven
  bad(10);
  EXPECT_EQ(count("weir_intake_goaways_total"), 0U);
  bad(11);
  EXPECT_EQ(count("weir_intake_goaways_total"), 1U);
  EXPECT_EQ(outcomes(), count("weir_intake_messages_total"));
  EXPECT_EQ(last<Goaway>().retry_after_ms, 600'000U);
  give_batch(20);
  EXPECT_TRUE(stored_.empty());
  mono_ += std::chrono::minutes(4);
  greet();
  EXPECT_EQ(last<Goaway>().retry_after_ms, 360'000U);
  mono_ += std::chrono::minutes(6);
  greet();
  give_batch(20);
  EXPECT_EQ(stored_.size(), 1U);
}

TEST_F(IntakeTest, AtTheEndEverybodyIsSentAwayAndNotAllComeBackAtOnce) {
  for (uint8_t i = 0; i < 100; ++i) greet(SourceId{std::byte{i}}, "p" + std::to_string(i));
  door_.sent.clear();
  intake_->say_goodbye();
  ASSERT_EQ(door_.sent.size(), 100U);
  std::set<uint64_t> delays;
  for (const auto& sent : door_.sent) delays.insert(std::get<Goaway>(sent.message).retry_after_ms);
  EXPECT_EQ(delays.size(), 100U);
  EXPECT_LT(*delays.rbegin(), 300U);
}

}  // namespace
}  // namespace weir::aggregator
