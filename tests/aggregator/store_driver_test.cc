// An edge, a region and global in one thread with a fake clock and databases in memory: Uplink,
// Intake and StoreDriver as they are, over wires without sockets. What the edge pushed is at global
// once, also when the region loses its disk or is woken after a fence.

#include "aggregator/store_driver.h"

#include <filesystem>
#include <optional>

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_link.h"
#include "tests/fakes/temp_dir.h"

namespace weir::aggregator {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kStart = 1'700'002'800;

Tier tier_of(const std::string& kind) {
  Tier tier;
  tier.kind = kind;
  tier.name = kind + "-1";
  if (kind == "region") {
    tier.upstream = "inproc://global";
    return tier;
  }
  if (kind == "zone") {
    tier.in_s = 300;
    tier.out_s = 900;
    tier.upstream = "inproc://global";
    return tier;
  }
  tier.in_s = 300;
  tier.out_s = 3600;
  tier.keep_in_s = 30 * 86400;
  tier.keep_out_s = 400 * 86400;
  return tier;
}

// One aggregator: what its loop and its store thread do, without them.
class Node {
 public:
  Node(const FakeClock& clock, Tier tier, const std::string& database, FakeWire& below,
       FakeWire* above)
      : clock_(clock) {
    StoreThreadConfig config;
    config.path = database;
    config.tier = tier;
    config.store.database.in_memory = true;
    config.detectors = Detectors::kOff;
    std::vector<UpwardLink> links;
    if (above != nullptr) {
      above->connect();
      links.push_back({tier.upstream, &above->link()});
    }
    auto driver = StoreDriver::open(config, clock, links, [this](const Answers& answers) {
      answers_.push_back(answers);
      return true;
    });
    WEIR_CHECK(driver.ok());
    driver_ = *std::move(driver);
    IntakeLimits limits;
    limits.kind = tier.kind;
    limits.source = driver_->source();
    limits.epoch = driver_->epoch();
    limits.window_width_s = tier.in_s;
    intake_.emplace(below.door(), limits, [this](StoreRequest&& request) {
      requests_.push_back(std::move(request));
      return true;
    });
    intake_->restore(driver_->held_here(), driver_->held_at_last_tier());
    below.door().on_receive(
        [this](const PeerId& peer, const std::optional<Identity>& identity, ByteView header,
               ByteView body) { intake_->on_message(now(), peer, identity, header, body); });
  }

  void turn() {
    driver_->take(std::exchange(requests_, {}));
    driver_->tick();
    for (const Answers& answers : std::exchange(answers_, {})) intake_->committed(answers);
    intake_->tick(now());
    WEIR_CHECK(!driver_->failed());
  }

  [[nodiscard]] StoreDriver& driver() { return *driver_; }

  [[nodiscard]] uint64_t count(const std::string& name) {
    return driver_->store().counters().at(name);
  }

 private:
  [[nodiscard]] Instant now() const { return {clock_.now(), clock_.mono()}; }

  const FakeClock& clock_;
  std::vector<StoreRequest> requests_;
  std::vector<Answers> answers_;
  std::unique_ptr<StoreDriver> driver_;
  std::optional<Intake> intake_;
};

class Chain : public testing::Test {
 protected:
  Chain() {
    start_global();
    start_region("region-a");
    edge_db_ = *Database::open("edge", {.in_memory = true});
    start_edge();
  }

  void start_edge() {
    uplink_.reset();
    outbox_ = *Outbox::open(*edge_db_, {});
    UplinkOptions options;
    options.session.name = "edge-1";
    options.session.tier = "edge";
    uplink_.emplace(*outbox_, std::move(options));
    uplink_->add("inproc://region", to_region_.link());
    to_region_.link().on_receive([this](ByteView header, ByteView body) {
      WEIR_CHECK(uplink_->on_message(0, clock_.mono(), clock_.now(), header, body).ok());
    });
    to_region_.connect();
  }

  void start_global() { global_.emplace(clock_, tier_of("global"), "global", to_global_, nullptr); }

  void start_region(const std::string& database) {
    region_.reset();
    region_.emplace(clock_, tier_of("region"), database, to_region_,
                    zone_ ? &to_zone_ : &to_global_);
  }

  // One more tier between the region and global.
  void put_between() {
    Tier wider = tier_of("global");
    wider.in_s = 900;
    global_.emplace(clock_, wider, "wider", to_global_, nullptr);
    zone_.emplace(clock_, tier_of("zone"), "zone", to_zone_, &to_global_);
    start_region("region-b");
  }

  void push(uint64_t mass) {
    const Window window = window_at(unix_seconds(clock_.now()) - 60, 60);
    ASSERT_TRUE(outbox_->append(window, counter_batch(window, mass)).ok());
    pushed_ += mass;
  }

  void turn() {
    clock_.advance(100ms);
    WEIR_CHECK(uplink_->tick(clock_.mono(), clock_.now()).ok());
    to_region_.deliver();
    if (region_) region_->turn();
    to_zone_.deliver();
    if (zone_) zone_->turn();
    to_global_.deliver();
    global_->turn();
    to_global_.deliver();
    if (zone_) zone_->turn();
    to_zone_.deliver();
    if (region_) region_->turn();
    to_region_.deliver();
  }

  template <class Done>
  bool turn_until(Done done) {
    for (int i = 0; i < 20'000; ++i) {
      if (done()) return true;
      turn();
    }
    return false;
  }

  bool all_acknowledged() {
    return turn_until([this] { return (*outbox_->stats()).rows == 0; });
  }

  void expect_exact() {
    EXPECT_EQ((*outbox_->stats()).acked_mass(), pushed_);
    EXPECT_TRUE(global_->driver().store().unbalanced()->empty());
    EXPECT_EQ(global_->count("weir_ledger_overlaps_total"), 0U);
    EXPECT_EQ(global_->count("weir_fold_imbalance_total"), 0U);
    auto db = Database::open("global", {.in_memory = true});
    auto read = *db->prepare("SELECT coalesce(sum(merged), 0) FROM account WHERE source = ?");
    WEIR_CHECK(*read.bind(1, ByteView(outbox_->source())).step());
    EXPECT_EQ(read.unsigned_integer(0), pushed_);
  }

  FakeClock clock_{kStart + 600};
  FakeWire to_region_;
  FakeWire to_zone_;
  FakeWire to_global_;
  std::optional<Node> global_;
  std::optional<Node> zone_;
  std::optional<Node> region_;
  std::optional<Database> edge_db_;
  std::optional<Outbox> outbox_;
  std::optional<Uplink> uplink_;
  uint64_t pushed_ = 0;
};

TEST_F(Chain, WhatTheEdgePushedIsAtGlobalOnceAndReleased) {
  for (uint64_t i = 1; i <= 20; ++i) push(i);
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
  EXPECT_EQ(region_->driver().epoch(), 1U);
}

TEST_F(Chain, ARegionThatLostItsDiskIsFencedAndTheRestComesAgain) {
  for (uint64_t i = 1; i <= 20; ++i) {
    push(i);
    for (int j = 0; j < 10; ++j) turn();
  }
  to_global_.disconnect();  // so that some of it is at the region only
  for (int j = 0; j < 150; ++j) turn();
  push(1000);
  for (int j = 0; j < 150; ++j) turn();
  start_region("region-b");
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
  EXPECT_EQ(region_->driver().epoch(), 2U);
  EXPECT_EQ(global_->count("weir_store_fences_total"), 1U);
}

TEST_F(Chain, AZombieDropsWhatWasRefusedAndGoesOnUnderANewEpoch) {
  push(1);
  ASSERT_TRUE(all_acknowledged());
  to_global_.disconnect();
  push(10);
  for (int j = 0; j < 300; ++j) turn();  // folded, and not at global
  ASSERT_TRUE(global_->driver()
                  .store()
                  .tell({outbox_->source(),
                         {region_->driver().source(), 1, outbox_->source(), outbox_->epoch(), 1, 9},
                         3600},
                        kStart)
                  .ok());
  to_global_.connect();
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
  EXPECT_EQ(region_->driver().epoch(), 2U);
  EXPECT_EQ(region_->count("weir_store_dropped_states_total"), 1U);
}

TEST_F(Chain, AnAnswerFindsItsWayBackThroughTwoTiers) {
  put_between();
  push(1);
  push(2);
  start_edge();  // which asks about them before it sends them
  push(4);
  ASSERT_TRUE(turn_until([&] { return outbox_->inherited(0)->has_value() == false; }));
  EXPECT_GE(uplink_->stats().asked, 1U);
}

TEST_F(Chain, ATierBetweenDoesNotPassOnWhatOnlyItCouldAnswer) {
  put_between();
  push(1);
  ASSERT_TRUE(
      turn_until([&] { return zone_->driver().store().knows_tier(region_->driver().source()); }));
  zone_->driver().take({Question{
      outbox_->source(), {region_->driver().source(), 1, outbox_->source(), 1, 1, 9}, 3600}});
  turn();
  EXPECT_EQ(zone_->driver().status().counters.at("weir_store_questions_unasked_total"), 1U);
}

TEST_F(Chain, ATierThatIsFencedWhileItIsIdleLearnsOfIt) {
  push(1);
  ASSERT_TRUE(all_acknowledged());
  auto& driver = global_->driver();
  Question question{outbox_->source(),
                    {region_->driver().source(), 1, outbox_->source(), outbox_->epoch(), 1, 9},
                    3600};
  driver.take({question});
  ASSERT_TRUE(turn_until([&] { return region_->driver().epoch() == 2; }));
  push(2);
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
}

TEST_F(Chain, WhatATierTookBeforeItsClockWasSetBackDoesNotWaitForThatTimeToComeAgain) {
  region_.reset();
  Tier tier = tier_of("region");
  tier.flush_every = 0ms;
  region_.emplace(clock_, tier, "region-a", to_region_, &to_global_);
  ASSERT_TRUE(turn_until([this] { return region_->driver().epoch() == 1; }));
  push(1);
  ASSERT_TRUE(turn_until([this] { return region_->driver().store().inbox_rows() == 1; }));
  clock_.set_unix(unix_seconds(clock_.now()) - 86400);
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
}

TEST_F(Chain, ATierWithADamagedManifestStartsAnewAndTheBooksBalance) {
  push(1);
  ASSERT_TRUE(all_acknowledged());
  to_global_.disconnect();
  for (uint64_t i = 1; i <= 20; ++i) push(i);
  for (int j = 0; j < 300; ++j) turn();  // folded, and not at global
  auto db = Database::open("region-a", {.in_memory = true});
  auto waiting = *db->prepare("SELECT count(*) FROM release");
  ASSERT_TRUE(*waiting.step() && waiting.integer(0) > 0);
  waiting.reset();
  ASSERT_TRUE(db->exec("UPDATE release SET manifest = CAST(substr(manifest, 1, 33) || x'7f' || "
                       "substr(manifest, 35) AS BLOB)")
                  .ok());
  to_global_.connect();
  ASSERT_TRUE(all_acknowledged());
  expect_exact();
  EXPECT_EQ(region_->driver().epoch(), 2U);
  EXPECT_EQ(region_->driver().status().counters.at("weir_upstream_damaged_total"), 1U);
}

// More comes in than one drain takes: it is acknowledged, and folded later, but not never.
TEST(StoreDriver, ABurstIsAcknowledgedBeforeItIsFolded) {
  FakeClock clock(kStart);
  StoreThreadConfig config;
  config.path = "burst";
  config.tier = tier_of("global");
  config.store.database.in_memory = true;
  config.detectors = Detectors::kOff;
  const auto driver = *StoreDriver::open(config, clock, {}, [](const Answers&) { return true; });
  const Window window = window_at(kStart - 300, 300);
  uint64_t seq = 0;
  const auto take = [&](uint64_t count) {
    std::vector<StoreRequest> requests;
    for (; count > 0; --count) {
      AcceptedBatch batch;
      batch.epoch = 7;
      batch.seq = ++seq;
      batch.target_epoch = driver->epoch();
      batch.window = window;
      batch.mass = batch.cum_mass = 1;
      batch.body = counter_batch(window, 1).body;
      batch.raw_len = static_cast<uint32_t>(batch.body.size());
      batch.crc32c = crc32c(batch.body);
      requests.emplace_back(std::move(batch));
    }
    driver->take(std::move(requests));
    driver->tick();
    clock.advance(100ms);
  };
  const auto folds = [&] { return driver->store().counters().at("weir_store_folds_total"); };
  clock.advance(config.tier.flush_every);  // one is due
  take(64);
  EXPECT_EQ(folds(), 0U);
  for (int tick = 0; tick < 50; ++tick) take(64);
  EXPECT_EQ(folds(), 0U);
  for (int tick = 0; tick < 50; ++tick) take(64);
  EXPECT_GT(folds(), 0U);  // it went on for 10 s
  EXPECT_EQ(driver->store().counters().at("weir_store_batches_total"), seq);

  take(0);
  take(0);
  take(0);  // the burst is over
  clock.advance(config.tier.flush_every);
  const uint64_t before = folds();
  take(1);
  EXPECT_EQ(folds(), before + 1);
  EXPECT_EQ(driver->store().inbox_rows(), 0U);
}

TEST(StoreDriver, AFileInWhichAnythingThatAStartReadsIsDamagedIsPutAside) {
  const TempDir dir;
  const FakeClock clock(kStart);
  StoreThreadConfig config;
  config.path = dir.file("weir.db");
  config.tier = tier_of("global");
  const auto open = [&] {
    return StoreDriver::open(config, clock, {}, [](const Answers&) { return true; });
  };
  ASSERT_TRUE(open().ok());
  auto db = Database::open(config.path);
  ASSERT_TRUE(db->exec("INSERT INTO ledger VALUES(1, x'01', 7, 1, 9)").ok());
  db = Error{};
  const auto opened = open();
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_TRUE((*opened)->held_here().empty());
  EXPECT_TRUE(std::filesystem::exists(config.path + ".bad-1"));
}

}  // namespace
}  // namespace weir::aggregator
