// One source, two tiers and the last tier behind them, over wires that lose, repeat, reorder and
// damage, while the source crashes at any moment, tiers lose their disks and are fenced, and the
// outbox gives rows up: what was pushed is merged or lost, each exactly once, and all of it is
// accounted for.

#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "common/uplink.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_tier.h"

namespace weir {
namespace {

using namespace std::chrono_literals;

constexpr Window kWindow{1'700'000'040, 60};

class Simulation {
 public:
  Simulation(uint64_t seed, Faults faults)
      : random_(seed),
        name_("uplink-faults-" + std::to_string(seed)),
        keeper_(*Database::open(name_, {.in_memory = true})) {
    for (size_t i = 0; i < 2; ++i) {
      wires_.push_back(std::make_unique<FakeWire>(seed * 2 + i, faults));
      tiers_.push_back(std::make_unique<FakeTier>(SourceId{static_cast<std::byte>(i + 1)},
                                                  *wires_.back(), last_));
      wires_.back()->connect();
    }
    start();
  }

  void step() {
    clock_.advance(std::chrono::milliseconds(20 + random_() % 200));
    if (chance(30)) push();
    if (chance(2)) start();
    if (chance(1)) WEIR_CHECK(outbox_->drop_oldest(1 + random_() % 2000, "outbox_age").ok());
    for (size_t i = 0; i < 2; ++i) {
      if (chance(1)) wires_[i]->connect();
      if (chance(1)) wires_[i]->disconnect();
      if (chance(1)) tiers_[i]->restart();
      if (random_() % 400 == 0) tiers_[i]->lose_disk();
      if (random_() % 300 == 0) last_.call_silent(tiers_[i]->target().tier_source, chance(50));
      if (chance(20)) tiers_[i]->fold(1 + random_() % 4);
      wires_[i]->deliver(random_() % 6);
      if (chance(1)) start();  // between any two messages
    }
    tick();
  }

  void finish() {
    for (size_t i = 0; i < 2; ++i) {
      wires_[i]->set_faults({});
      wires_[i]->connect();
      last_.call_silent(tiers_[i]->target().tier_source, false);
    }
    for (int i = 0; i < 20'000 && (*outbox_->stats()).rows > 0; ++i) {
      clock_.advance(500ms);
      for (size_t n = 0; n < 2; ++n) {
        tiers_[n]->fold(100);
        wires_[n]->deliver();
      }
      tick();
    }
  }

  void check() {
    const auto stats = *outbox_->stats();
    EXPECT_EQ(stats.rows, 0U);
    EXPECT_EQ(stats.pushed_mass, pushed_mass_);
    EXPECT_EQ(stats.acked_mass(), pushed_mass_);
    EXPECT_EQ(last_.doubled, 0U);
    EXPECT_EQ(last_.merged.size(), pushed_);
    uint64_t mass = 0;
    for (const auto& [key, row] : last_.merged) mass += row.mass;
    EXPECT_EQ(mass, pushed_mass_);
    fenced_ += uplink_->stats().fenced_targets;
  }

  [[nodiscard]] uint64_t fenced() const { return fenced_; }

 private:
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  void push() {
    const uint64_t mass = 1 + random_() % 1000;
    const auto target = chance(70) ? uplink_->target() : std::nullopt;
    WEIR_CHECK(outbox_->append(kWindow, counter_batch(kWindow, mass), target).ok());
    pushed_mass_ += mass;
    ++pushed_;
    const auto stats = *outbox_->stats();
    WEIR_CHECK(stats.pushed_mass == stats.acked_mass() + stats.outbox_mass);
  }

  // What was not committed is lost, as with kill -9.
  void start() {
    if (uplink_) fenced_ += uplink_->stats().fenced_targets;
    uplink_.reset();
    outbox_.reset();
    db_.reset();
    db_ = *Database::open(name_, {.in_memory = true});
    outbox_ = *Outbox::open(*db_, {.source = SourceId{std::byte{9}}, .random = random_});
    UplinkOptions options;
    options.offers.compress = false;
    options.session.name = "edge-1";
    options.session.tier = "edge";
    options.fence_after = 20s;
    options.return_after = 5s;
    uplink_.emplace(*outbox_, options);
    for (size_t i = 0; i < 2; ++i) {
      uplink_->add("tcp://" + std::to_string(i), wires_[i]->link());
      wires_[i]->link().on_receive([this, i](ByteView header, ByteView body) {
        WEIR_CHECK(uplink_->on_message(i, clock_.mono(), clock_.now(), header, body).ok());
      });
    }
  }

  void tick() { WEIR_CHECK(uplink_->tick(clock_.mono(), clock_.now()).ok()); }

  std::mt19937_64 random_;
  FakeClock clock_;
  std::string name_;
  Database keeper_;  // of the memory
  FakeLastTier last_;
  std::vector<std::unique_ptr<FakeWire>> wires_;
  std::vector<std::unique_ptr<FakeTier>> tiers_;
  std::optional<Database> db_;
  std::optional<Outbox> outbox_;
  std::optional<Uplink> uplink_;
  uint64_t pushed_ = 0;
  uint64_t pushed_mass_ = 0;
  uint64_t fenced_ = 0;
};

class UplinkFaults : public testing::TestWithParam<uint64_t> {};

TEST_P(UplinkFaults, WhatWasPushedIsMergedOrLostExactlyOnce) {
  const auto seed = static_cast<unsigned>(GetParam());
  Faults faults;
  faults.drop_percent = seed % 3 * 5;
  faults.duplicate_percent = seed % 4 * 4;
  faults.reorder_percent = seed % 5 * 5;
  faults.damage_percent = seed % 2 * 3;
  Simulation simulation(seed, faults);
  for (int i = 0; i < 1500; ++i) simulation.step();
  simulation.finish();
  simulation.check();
  EXPECT_GT(simulation.fenced(), 0U);  // or the test does not see what it is for
}

INSTANTIATE_TEST_SUITE_P(Seeds, UplinkFaults, testing::Range<uint64_t>(1, 31));

}  // namespace
}  // namespace weir
