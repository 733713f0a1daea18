// One edge and one tier, both with real databases, over a wire that loses, repeats, reorders and
// damages, while either side restarts at random: what was pushed is merged, exactly once.

#include <optional>

#include <gtest/gtest.h>

#include "aggregator/intake.h"
#include "aggregator/ledger.h"
#include "aggregator/store/inbox_body.h"
#include "common/outbox.h"
#include "common/uplink.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_link.h"
#include "tests/fakes/temp_dir.h"

namespace weir::aggregator {
namespace {

using namespace std::chrono_literals;

constexpr Window kWindow{1'700'000'040, 60};

Database open_without_sync(const std::string& path) {
  Database db = *Database::open(path);
  // The test restarts objects, not the machine; the syncs would only cost its time.
  WEIR_CHECK(db.exec("PRAGMA synchronous=OFF").ok());
  return db;
}

class Simulation {
 public:
  Simulation(uint64_t seed, Faults faults) : random_(seed), wire_(seed, faults) {
    start_edge();
    start_tier();
  }

  void step() {
    clock_.advance(50ms);
    if (chance(20)) push();
    if (chance(1)) start_edge();
    if (chance(1)) start_tier();
    if (chance(2)) connect();
    WEIR_CHECK(uplink_->tick(clock_.mono(), clock_.now()).ok());
    wire_.deliver(random_() % 8);
    if (chance(30)) commit();
    if (chance(10)) reach_last_tier();
  }

  // No more faults: everything must arrive by itself.
  void finish() {
    wire_.set_faults({});
    for (int i = 0; i < 20'000 && (*outbox_->stats()).rows > 0; ++i) {
      clock_.advance(50ms);
      WEIR_CHECK(uplink_->tick(clock_.mono(), clock_.now()).ok());
      wire_.deliver();
      commit();
      reach_last_tier();
    }
    wire_.deliver();
  }

  void expect_exact() {
    const auto stats = *outbox_->stats();
    EXPECT_EQ(stats.rows, 0U);
    EXPECT_EQ(stats.bytes, 0U);
    EXPECT_EQ(stats.quarantined, 0U);
    EXPECT_EQ(stats.pushed_mass, pushed_mass_);
    EXPECT_EQ(stats.acked_mass(), pushed_mass_);
    auto merged = *tier_db_->prepare(
        "SELECT count(*), count(DISTINCT epoch || '/' || seq), sum(mass) FROM merged");
    WEIR_CHECK(*merged.step());
    EXPECT_EQ(merged.unsigned_integer(0), pushed_batches_);
    EXPECT_EQ(merged.unsigned_integer(1), pushed_batches_);
    EXPECT_EQ(merged.unsigned_integer(2), pushed_mass_);
    EXPECT_EQ(uplink_->stats().in_flight_bytes, 0U);
    EXPECT_EQ(intake_->bytes_at_store(), 0U);
  }

  [[nodiscard]] uint64_t pushed_batches() const { return pushed_batches_; }

  [[nodiscard]] uint64_t damaged() const { return wire_.damaged(); }

 private:
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  void push() {
    const uint64_t mass = 1 + random_() % 1000;
    WEIR_CHECK(outbox_->append(kWindow, counter_batch(kWindow, mass)).ok());
    pushed_mass_ += mass;
    ++pushed_batches_;
  }

  void connect() {
    wire_.connect();
    wire_.link().on_receive([this](ByteView header, ByteView body) {
      WEIR_CHECK(uplink_->on_message(0, clock_.mono(), clock_.now(), header, body).ok());
    });
    wire_.door().on_receive(
        [this](const PeerId& peer, const std::optional<Identity>& identity, ByteView header,
               ByteView body) { intake_->on_message(now(), peer, identity, header, body); });
  }

  void start_edge() {
    uplink_.reset();
    outbox_.reset();
    edge_db_.reset();
    edge_db_ = open_without_sync(dir_.file("edge.db"));
    outbox_ = *Outbox::open(*edge_db_, {});
    UplinkOptions options;
    options.offers.compress = chance(50);
    options.session.name = "e";
    options.session.tier = "edge";
    uplink_.emplace(*outbox_, std::move(options));
    uplink_->add("inproc://fake", wire_.link());
    connect();
  }

  // What was accepted and not committed is lost, as with kill -9.
  void start_tier() {
    inbox_.clear();
    questions_.clear();
    ledger_.reset();
    tier_db_.reset();
    tier_db_ = open_without_sync(dir_.file("tier.db"));
    WEIR_CHECK(
        tier_db_
            ->exec("CREATE TABLE IF NOT EXISTS merged(seq INTEGER, mass INTEGER, epoch INTEGER)")
            .ok());
    ledger_ = *Ledger::open(*tier_db_);
    IntakeLimits limits;
    limits.source = SourceId{std::byte{9}};
    limits.epoch = 1;
    intake_.emplace(wire_.door(), limits, [this](StoreRequest&& request) {
      if (inbox_.size() >= 16) return false;
      if (const auto* question = std::get_if<Question>(&request)) {
        questions_.push_back(*question);
      } else {
        inbox_.push_back(std::get<AcceptedBatch>(std::move(request)));
      }
      return true;
    });
    intake_->restore(*ledger_->all(LedgerLevel::kHere), *ledger_->all(LedgerLevel::kLastTier));
    connect();
  }

  // Data and dedup key in one transaction; acknowledged only after it.
  void commit() {
    Answers answers;
    const Status done = tier_db_->transaction([&]() -> Status {
      WEIR_TRY_ASSIGN(auto insert, tier_db_->prepare("INSERT INTO merged VALUES(?1, ?2, ?3)"));
      for (const AcceptedBatch& batch : inbox_) {
        const auto decoded = decode_stored(batch.body, batch.raw_len);
        WEIR_CHECK(decoded.ok() && decoded->rows.size() == 1);
        WEIR_TRY_ASSIGN(const bool fresh,
                        ledger_->claim(LedgerLevel::kHere, batch.source, batch.epoch, batch.seq));
        if (fresh) {
          WEIR_TRY(insert.bind(1, batch.seq)
                       .bind(2, std::get<Counter>(decoded->rows[0].value).delta)
                       .bind(3, batch.epoch)
                       .run());
        }
        answers.acks.push_back(
            {batch.source, batch.epoch, batch.seq, batch.seq, FrameType::kAckR, {}, {}});
      }
      return {};
    });
    WEIR_CHECK(done.ok());
    inbox_.clear();
    for (const Question& question : questions_) answers.told.push_back(answer_to(question));
    questions_.clear();
    intake_->committed(answers);
  }

  // A part of what is held here becomes durable above.
  void reach_last_tier() {
    Answers answers;
    for (const SeqRange& range : held_here()) {
      const uint64_t hi = range.lo + random_() % (range.hi - range.lo + 1);
      WEIR_CHECK(
          ledger_->add(LedgerLevel::kLastTier, {range.source, range.epoch, range.lo, hi}).ok());
      answers.acks.push_back({range.source, range.epoch, range.lo, hi, FrameType::kAckG, {}, {}});
    }
    intake_->committed(answers);
  }

  // About rows that are nobody's since before a restart: what the last tier has.
  Told answer_to(const Question& question) {
    const AskIncluded& ask = question.ask;
    WEIR_CHECK(ask.tier_epoch == 0);
    Included told{ask.tier_source, 0, ask.source, ask.epoch, ask.lo, ask.hi, true, {}};
    const auto held = *ledger_->all(LedgerLevel::kLastTier);
    for (const SeqRange& range : held) {
      const SeqSpan span{range.epoch, std::max(range.lo, ask.lo), std::min(range.hi, ask.hi)};
      if (span.epoch == ask.epoch && span.lo <= span.hi) told.spans.push_back(span);
    }
    return {question.asker, told};
  }

  [[nodiscard]] Instant now() const { return {clock_.now(), clock_.mono()}; }

  std::vector<SeqRange> held_here() { return *ledger_->all(LedgerLevel::kHere); }

  std::mt19937_64 random_;
  FakeClock clock_;
  TempDir dir_;
  FakeWire wire_;
  std::optional<Database> edge_db_;
  std::optional<Outbox> outbox_;
  std::optional<Uplink> uplink_;
  std::optional<Database> tier_db_;
  std::optional<Ledger> ledger_;
  std::optional<Intake> intake_;
  std::vector<AcceptedBatch> inbox_;
  std::vector<Question> questions_;
  uint64_t pushed_mass_ = 0;
  uint64_t pushed_batches_ = 0;
};

TEST(Delivery, EverythingIsMergedExactlyOnceWhateverTheWireAndRestartsDo) {
  uint64_t batches = 0;
  uint64_t damaged = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const auto percent = static_cast<unsigned>(seed % 5) * 8;  // a fifth of the runs without faults
    Simulation simulation(seed, {percent, percent, percent, percent / 8});
    for (int i = 0; i < 200; ++i) simulation.step();
    simulation.finish();
    simulation.expect_exact();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    batches += simulation.pushed_batches();
    damaged += simulation.damaged();
  }
  EXPECT_GT(batches, 5000U);
  EXPECT_GT(damaged, 200U);
}

}  // namespace
}  // namespace weir::aggregator
