#include "common/outbox.h"

#include <gtest/gtest.h>

#include "common/keys.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/outbox_rows.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using std::chrono::seconds;

constexpr Window kWindow{1'700'000'040, 60};
constexpr size_t kAll = 1 << 20;
constexpr Target kA{{std::byte{0xA}}, 1};
constexpr Target kB{{std::byte{0xB}}, 7};

class OutboxTest : public testing::Test {
 protected:
  OutboxTest() : db_(*Database::open(dir_.file("edge.db"))) {}

  ~OutboxTest() override {
    const auto stats = *open().stats();
    EXPECT_EQ(stats.pushed_mass, stats.acked_mass() + stats.outbox_mass + stats.discarded_mass);
    auto sums = *db_.prepare(
        "SELECT count(*), coalesce(sum(mass),0), sum(kind = 2), "
        "(SELECT count(*) FROM outbox_assign) FROM outbox");
    EXPECT_TRUE(*sums.step());
    EXPECT_EQ(sums.unsigned_integer(0), stats.rows);
    EXPECT_EQ(sums.unsigned_integer(1), stats.outbox_mass);
    EXPECT_EQ(sums.unsigned_integer(2), stats.tombstones);
    EXPECT_EQ(sums.unsigned_integer(3), stats.rows);  // every row has one target, or nobody
  }

  Outbox open(OutboxOptions options = {}) {
    auto outbox = Outbox::open(db_, std::move(options));
    WEIR_CHECK(outbox.ok());
    return *std::move(outbox);
  }

  static uint64_t push(Outbox& outbox, uint64_t mass = 10, std::optional<Target> target = {},
                       Window window = kWindow) {
    const auto seq = outbox.append(window, counter_batch(window, mass), target);
    WEIR_CHECK(seq.ok());
    return *seq;
  }

  static std::vector<uint64_t> seqs(Outbox& outbox, const std::optional<Target>& target) {
    std::vector<uint64_t> out;
    const auto entries = outbox.pending(target, 0, kAll);
    for (const auto& entry : *entries) out.push_back(entry.seq);
    return out;
  }

  using Seqs = std::vector<uint64_t>;

  TempDir dir_;
  Database db_;
  const size_t size_ = counter_batch(kWindow, 10).body.size();
};

TEST_F(OutboxTest, KeepsABatchUntilTheLastTierHasIt) {
  Outbox outbox = open();
  EXPECT_EQ(push(outbox, 10, kA), 1U);
  EXPECT_EQ(push(outbox, 20, kA), 2U);

  auto entries = *outbox.pending(kA, 0, kAll);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].kind, RowKind::kData);
  EXPECT_EQ(entries[0].epoch, outbox.epoch());
  EXPECT_EQ(entries[0].seq, 1U);
  EXPECT_EQ(entries[0].window, kWindow);
  EXPECT_EQ(entries[0].mass, 10U);
  EXPECT_EQ(entries[0].raw_len, entries[0].body.size());

  EXPECT_EQ(*outbox.acknowledged(kA, {{outbox.epoch(), 1, 1}}), 1U);
  EXPECT_EQ(seqs(outbox, kA), Seqs{2});
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.rows, 1U);
  EXPECT_EQ(stats.bytes, size_);
  EXPECT_EQ(stats.pushed_mass, 30U);
  EXPECT_EQ(stats.acked_data_mass, 10U);
  EXPECT_EQ(stats.outbox_mass, 20U);
  EXPECT_EQ(stats.oldest_data_s, kWindow.start_s);
}

TEST_F(OutboxTest, EachBatchCarriesTheMassOfItsEpochSoFar) {
  Outbox outbox = open();
  push(outbox, 10);
  push(outbox, 5);
  EXPECT_EQ(decode_batch(unassigned_rows(outbox)[1].body)->cum_mass, 15U);
  EXPECT_EQ(unassigned_rows(outbox)[1].cum_mass, 15U);
  Outbox restarted = open();
  push(restarted, 7);
  EXPECT_EQ(decode_batch(unassigned_rows(outbox)[2].body)->cum_mass, 7U);
}

TEST_F(OutboxTest, OnlyTheTargetOfARowAcknowledgesIt) {
  Outbox outbox = open();
  push(outbox, 1, kA);
  push(outbox, 2, kB);
  push(outbox, 4);
  const std::vector<SeqSpan> all = {{outbox.epoch(), 1, 3}};
  EXPECT_EQ(*outbox.acknowledged({kA.tier_source, 2}, all), 0U);  // another life of A
  EXPECT_EQ(*outbox.acknowledged(kB, all), 1U);
  EXPECT_EQ(seqs(outbox, kA), Seqs{1});
  EXPECT_EQ(seqs(outbox, std::nullopt), Seqs{3});
  EXPECT_EQ((*outbox.stats()).acked_data_mass, 2U);
}

TEST_F(OutboxTest, RepeatedForeignAndEndlessAcknowledgementsAreHarmless) {
  Outbox outbox = open();
  for (int i = 0; i < 5; ++i) push(outbox, 7, kA);
  const uint64_t epoch = outbox.epoch();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(outbox.acknowledged(kA, {{epoch, 2, 3}, {epoch, 3, 3}, {epoch + 1, 1, 9}}).ok());
  }
  const uint64_t revision = outbox.revision();
  EXPECT_EQ(*outbox.acknowledged(kA, {{epoch, 2, 3}}), 0U);
  EXPECT_EQ(outbox.revision(), revision);  // nothing needs to be read again
  EXPECT_EQ((*outbox.stats()).rows, 3U);
  EXPECT_EQ(*outbox.acknowledged(kA, {{epoch, 0, UINT64_MAX}}), 3U);
  EXPECT_EQ((*outbox.stats()).acked_mass(), 35U);
}

TEST_F(OutboxTest, ATargetWithoutRowsIsNotTakenForTheNextOne) {
  Outbox outbox = open();
  push(outbox, 1, kA);
  EXPECT_EQ(seqs(outbox, kA), Seqs{1});
  EXPECT_EQ(*outbox.acknowledged(kA, {{outbox.epoch(), 1, 1}}), 1U);
  push(outbox, 1, kB);  // gets the number that A had
  EXPECT_EQ(*outbox.acknowledged(kA, {{outbox.epoch(), 1, 2}}), 0U);
  EXPECT_EQ(seqs(outbox, kA), Seqs{});
  EXPECT_EQ(seqs(outbox, kB), Seqs{2});
}

TEST_F(OutboxTest, ARowIsAssignedOnceAndStaysAcrossReopening) {
  {
    Outbox outbox = open();
    push(outbox);
    push(outbox);
    ASSERT_TRUE(outbox.assign(kA, {1}).ok());
    ASSERT_TRUE(outbox.assign(kB, {1, 2, 99}).ok());  // 1 has a target, 99 does not exist
  }
  db_ = *Database::open(dir_.file("edge.db"));
  Outbox outbox = open();
  EXPECT_EQ(seqs(outbox, kA), Seqs{1});
  EXPECT_EQ(seqs(outbox, kB), Seqs{2});
  const auto assigned = *outbox.assigned();
  ASSERT_EQ(assigned.size(), 2U);
  EXPECT_EQ(assigned[0].target, kA);
  EXPECT_EQ(assigned[0].oldest.lo, 1U);
  EXPECT_EQ(assigned[0].oldest.hi, 2U);  // the epoch's last
}

TEST_F(OutboxTest, WhatAFencedTierTookIsAcknowledgedAndTheRestIsFreeAgain) {
  Outbox outbox = open();
  for (int i = 0; i < 4; ++i) push(outbox, 1, kA);
  push(outbox, 1, kB);
  push(outbox, 1, kA);
  const uint64_t epoch = outbox.epoch();
  for (int i = 0; i < 2; ++i) {  // also when it is said again
    ASSERT_TRUE(outbox.included(kA, epoch, 1, 5, {{epoch, 2, 2}, {epoch, 4, 5}}).ok());
    EXPECT_EQ(seqs(outbox, std::nullopt), (Seqs{1, 3}));
    EXPECT_EQ(seqs(outbox, kB), Seqs{5});  // it was never A's
    EXPECT_EQ(seqs(outbox, kA), Seqs{6});  // beyond what the answer covers
    EXPECT_EQ((*outbox.stats()).acked_data_mass, 2U);
  }
  ASSERT_TRUE(outbox.assign(kB, {1, 3}).ok());
  EXPECT_EQ(seqs(outbox, kB), (Seqs{1, 3, 5}));
}

TEST_F(OutboxTest, EachProcessBeginsAnEpochOfItsOwnAtItsFirstAppend) {
  SourceId source{};
  uint64_t epoch = 0;
  {
    Outbox first = open();
    push(first);
    push(first);
    source = first.source();
    epoch = first.epoch();
  }
  db_ = *Database::open(dir_.file("edge.db"));
  Outbox second = open();
  EXPECT_EQ(second.source(), source);
  EXPECT_NE(second.epoch(), epoch);
  EXPECT_EQ(*second.next_seq(), 1U);
  EXPECT_EQ(*second.epochs(9), std::vector<uint64_t>{epoch});
  EXPECT_EQ(push(second), 1U);
  EXPECT_EQ(*second.next_seq(), 2U);
  EXPECT_EQ(*second.epochs(9), (std::vector<uint64_t>{second.epoch(), epoch}));
  EXPECT_EQ(*second.epochs(1), std::vector<uint64_t>{second.epoch()});
  const auto rows = unassigned_rows(second);  // in the order of appending, whatever the epochs
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].epoch, epoch);
  EXPECT_EQ(rows[2].epoch, second.epoch());
}

TEST_F(OutboxTest, AHandedOutEpochSurvivesAndTheNextDiscardsWhatIsThere) {
  const OutboxOptions options{.epoch_rule = EpochRule::kHandedOut};
  Outbox outbox = open(options);
  EXPECT_EQ(outbox.epoch(), 0U);
  EXPECT_EQ(outbox.append(kWindow, counter_batch(kWindow, 1)).error().code, Errc::kUnavailable);
  ASSERT_TRUE(outbox.begin_epoch(3).ok());
  EXPECT_EQ(push(outbox, 5, kA), 1U);
  outbox = open(options);
  EXPECT_EQ(outbox.epoch(), 3U);
  ASSERT_TRUE(outbox.begin_epoch(3).ok());  // said again
  EXPECT_EQ(push(outbox, 6), 2U);
  ASSERT_TRUE(outbox.begin_epoch(4).ok());
  EXPECT_EQ(push(outbox, 7), 1U);
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.rows, 1U);
  EXPECT_EQ(stats.discarded_mass, 11U);
  EXPECT_EQ(stats.outbox_mass, 7U);
  EXPECT_TRUE((*outbox.assigned()).empty());
}

// Keys are turned on and replaced later: what the error prints makes the pair that fits.
TEST_F(OutboxTest, ADatabaseMadeWithoutKeysTakesThePairThatItsErrorSaysHowToMake) {
  const SourceId plain = open().source();
  const auto stranger = KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever);
  const auto refused = Outbox::open(db_, {.source = stranger.line().owner.source});
  ASSERT_FALSE(refused.ok());
  const std::string option = "weir keys new --role ROLE --source ";
  const size_t at = refused.error().message.find(option);
  ASSERT_NE(at, std::string::npos) << refused.error().message;
  const auto told = parse_uuid(refused.error().message.substr(at + option.size(), 36));
  ASSERT_TRUE(told.has_value()) << refused.error().message;
  const auto first = KeyPair::generate({*told, Role::kEdge}, PublicLine::kNever);
  EXPECT_EQ(open({.source = first.line().owner.source}).source(), plain);
  const auto next = KeyPair::generate(first.line().owner, PublicLine::kNever);
  EXPECT_EQ(open({.source = next.line().owner.source}).source(), plain);
}

TEST_F(OutboxTest, ADatabaseOfAnotherSourceIsRefusedWithTheFix) {
  const SourceId mine{std::byte{1}};
  EXPECT_EQ(open({.source = mine}).source(), mine);
  EXPECT_EQ(open({.source = mine}).source(), mine);
  const auto other = Outbox::open(db_, {.source = SourceId{std::byte{2}}});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Errc::kInvalid);
  EXPECT_NE(other.error().message.find("move the data directory away"), std::string::npos);
}

TEST_F(OutboxTest, ANewDatabaseIsANewSource) {
  auto other_db = *Database::open(dir_.file("other.db"));
  EXPECT_NE(open().source(), (*Outbox::open(other_db, {})).source());
}

TEST_F(OutboxTest, ARolledBackCallerLeavesNothing) {
  Outbox outbox = open();
  const Status failed = db_.transaction([&]() -> Status {
    push(outbox, 5, kA);
    return invalid("the caller changed its mind");
  });
  EXPECT_FALSE(failed.ok());
  EXPECT_EQ((*outbox.stats()).rows, 0U);
  EXPECT_EQ((*outbox.stats()).pushed_mass, 0U);
  EXPECT_TRUE((*outbox.assigned()).empty());
  EXPECT_EQ(push(outbox, 5, kA), 1U);
}

TEST_F(OutboxTest, WhenFullTheOldestWindowsBecomeTombstones) {
  Outbox outbox = open({.max_bytes = 3 * size_});
  push(outbox, 1, kA);
  push(outbox, 2, {}, {kWindow.start_s - 60, 60});
  push(outbox, 4);
  push(outbox, 8);
  const auto tombstone = (*outbox.entry(2)).value();
  EXPECT_EQ(tombstone.kind, RowKind::kTombstone);
  EXPECT_EQ(tombstone.reason, "outbox_bytes");
  EXPECT_EQ(tombstone.mass, 2U);
  EXPECT_EQ(tombstone.cum_mass, 3U);
  EXPECT_TRUE(tombstone.body.empty());
  EXPECT_EQ(tombstone.window.start_s, kWindow.start_s - 60);
  const auto losses = *outbox.losses();
  EXPECT_EQ(losses.at("outbox_bytes").mass,
            (*outbox.stats()).pushed_mass - 8U - 4U - ((*outbox.entry(1))->kind == RowKind::kData));
  EXPECT_LE((*outbox.stats()).bytes, 3 * size_);
  EXPECT_EQ(seqs(outbox, kA), Seqs{1});  // whatever it is now, it is A's
}

TEST_F(OutboxTest, ATombstoneIsAcknowledgedAsALoss) {
  Outbox outbox = open();
  push(outbox, 3, kA);
  push(outbox, 4, kA);
  EXPECT_EQ(*outbox.drop_oldest(1, "disk_full"), size_ - Outbox::kTombstoneBytes);
  ASSERT_TRUE(outbox.acknowledged(kA, {{outbox.epoch(), 1, 2}}).ok());
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.acked_lost_mass, 3U);
  EXPECT_EQ(stats.acked_data_mass, 4U);
  EXPECT_EQ(stats.bytes, 0U);
  EXPECT_EQ(stats.tombstones, 0U);
}

TEST_F(OutboxTest, ARefusingOutboxKeepsWhatItHas) {
  Outbox outbox = open({.max_bytes = 2 * size_, .when_full = WhenFull::kRefuse});
  push(outbox);
  push(outbox);
  const auto refused = outbox.append(kWindow, counter_batch(kWindow, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_EQ((*outbox.stats()).pushed_mass, 20U);
  acknowledge(outbox, {{outbox.epoch(), 1, 1}});
  EXPECT_EQ(push(outbox), 3U);  // the refused one took no number
}

TEST_F(OutboxTest, AnOutboxOfTombstonesRefusesWhatHasNoRoom) {
  Outbox outbox = open({.max_bytes = size_ + Outbox::kTombstoneBytes});
  push(outbox);
  push(outbox);
  const auto refused = outbox.append(kWindow, counter_batch(kWindow, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_EQ((*outbox.stats()).tombstones, 1U);  // a refused batch costs no other one
}

TEST_F(OutboxTest, InAFullDatabaseTheOldestMakesRoomInOneTransactionWithTheNew) {
  Outbox outbox = open();
  for (int i = 0; i < 200; ++i) push(outbox, 1);
  ASSERT_TRUE(db_.exec("PRAGMA max_page_count = 1").ok());  // as many as there are
  for (int i = 0; i < 200; ++i) {
    Status done = Error{Errc::kLimit, ""};
    for (uint64_t bytes = 0; !done.ok(); bytes = 2 * bytes + size_) {
      ASSERT_EQ(done.error().code, Errc::kLimit);
      done = db_.transaction([&]() -> Status {
        if (bytes > 0) WEIR_TRY(outbox.drop_oldest(bytes, "disk_full"));
        WEIR_TRY(outbox.append(kWindow, counter_batch(kWindow, 1)));
        return {};
      });
    }
  }
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.pushed_mass, 400U);
  EXPECT_GT(stats.tombstones, 0U);
  EXPECT_LT(stats.tombstones, 400U);
  EXPECT_EQ((*outbox.losses()).at("disk_full").rows, stats.tombstones);
  EXPECT_EQ((*outbox.entry(400))->kind, RowKind::kData);
}

TEST_F(OutboxTest, WhatWaitedTooLongBecomesTombstonesWhateverItsWindowSays) {
  constexpr seconds kAge{500};
  const MonoTime start{seconds(77)};
  Outbox outbox = open();
  const auto drop = [&](int64_t at_s, size_t limit = 256) {
    return *outbox.drop_older_than(kAge, start + seconds(at_s), "outbox_age", limit);
  };
  EXPECT_EQ(drop(0), 0U);
  push(outbox, 1, {}, {0, 60});
  push(outbox, 1, {}, {kWindow.start_s + 86400, 60});
  EXPECT_EQ(drop(100), 0U);
  push(outbox);
  for (int64_t at_s = 101; at_s < 590; at_s += 7) EXPECT_EQ(drop(at_s), 0U) << at_s;
  EXPECT_EQ(drop(601, 1), 1U);
  EXPECT_EQ(drop(601, 1), 1U);
  EXPECT_EQ(drop(601, 1), 0U);
  EXPECT_EQ((*outbox.entry(3))->kind, RowKind::kData);
  EXPECT_EQ(drop(610), 1U);
  EXPECT_EQ((*outbox.losses()).at("outbox_age").rows, 3U);
  EXPECT_EQ(drop(5000), 0U);
}

TEST_F(OutboxTest, AgeIsRememberedAcrossRestartsAndDoesNotGrowWhileNobodyRuns) {
  constexpr seconds kAge{500};
  {
    Outbox outbox = open();
    push(outbox);
    for (int64_t at_s = 0; at_s <= 300; at_s += 10) {
      EXPECT_EQ(*outbox.drop_older_than(kAge, MonoTime(seconds(at_s)), "outbox_age"), 0U);
    }
  }
  Outbox outbox = open();  // on another clock: the machine was off for a year
  const auto drop = [&](int64_t after_s) {
    return *outbox.drop_older_than(kAge, MonoTime(seconds(31'000'000 + after_s)), "outbox_age");
  };
  for (int64_t after_s = 0; after_s < 195; ++after_s) EXPECT_EQ(drop(after_s), 0U) << after_s;
  EXPECT_EQ(drop(202), 1U);
}

TEST_F(OutboxTest, NoTimeIsWrittenDownWhileNothingWaits) {
  Outbox outbox = open();
  const auto marks = [&](int64_t at_s) {
    EXPECT_EQ(*outbox.drop_older_than(seconds(500), MonoTime(seconds(at_s)), "outbox_age"), 0U);
    auto count = *db_.prepare("SELECT count(*) FROM outbox_age");
    WEIR_CHECK(*count.step());
    return count.integer(0);
  };
  EXPECT_EQ(marks(0), 0);
  EXPECT_EQ(marks(100), 0);
  push(outbox, 1, kA);
  EXPECT_EQ(marks(200), 1);
  ASSERT_EQ(*outbox.acknowledged(kA, {{outbox.epoch(), 1, 1}}), 1U);
  EXPECT_EQ(marks(300), 1);
}

TEST_F(OutboxTest, ReadsInOrderWithinTheByteBudgetButAtLeastOne) {
  Outbox outbox = open();
  for (int i = 0; i < 4; ++i) push(outbox);
  EXPECT_EQ((*outbox.pending(std::nullopt, 0, 2 * size_)).size(), 2U);
  const auto one = *outbox.pending(std::nullopt, 2, 1);
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].seq, 3U);
  EXPECT_TRUE((*outbox.pending(std::nullopt, 4, kAll)).empty());
  EXPECT_TRUE((*outbox.pending(std::nullopt, UINT64_MAX, kAll)).empty());
  EXPECT_TRUE((*outbox.pending(kA, 0, kAll)).empty());
}

TEST_F(OutboxTest, ADamagedRowTravelsAsATombstoneAndItsNeighboursAsTheyAre) {
  Outbox outbox = open();
  for (int i = 0; i < 3; ++i) push(outbox, 10, kA);
  ASSERT_TRUE(db_.exec("UPDATE outbox SET body = x'3132333436' WHERE seq = 2").ok());
  const auto entries = *outbox.pending(kA, 0, kAll);
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[1].kind, RowKind::kTombstone);
  EXPECT_EQ(entries[1].reason, "damaged");
  EXPECT_EQ(entries[1].mass, 10U);
  EXPECT_EQ(entries[2].kind, RowKind::kData);
  EXPECT_EQ((*outbox.stats()).quarantined, 1U);
  EXPECT_EQ((*outbox.stats()).tombstones, 1U);
}

TEST_F(OutboxTest, OnAFullDiskADamagedRowIsNotInTheWayOfThoseBehindIt) {
  Outbox outbox = open();
  for (int i = 0; i < 2; ++i) push(outbox, 10, kA);
  ASSERT_TRUE(db_.exec("UPDATE outbox SET raw_len = 1000000, body = zeroblob(1000000) "
                       "WHERE seq = 1; UPDATE outbox_meta SET bytes = bytes + 1000000")
                  .ok());
  ASSERT_TRUE(db_.exec("PRAGMA max_page_count = 1").ok());  // as many as there are
  const auto entries = outbox.pending(kA, 0, kAll);
  ASSERT_TRUE(entries.ok()) << entries.error().message;
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ(entries->at(0).kind, RowKind::kTombstone);
  EXPECT_EQ(entries->at(0).reason, "damaged");
  EXPECT_EQ(entries->at(1).kind, RowKind::kData);
  EXPECT_EQ((*outbox.stats()).quarantined, 1U);
  auto copies = *db_.prepare("SELECT count(*) FROM outbox_quarantine");
  ASSERT_TRUE(*copies.step());
  EXPECT_EQ(copies.integer(0), 0);  // there is no room for one
}

TEST_F(OutboxTest, QuarantineKeepsTheReasonAndTheNewestBodiesAndLeavesATombstone) {
  Outbox outbox = open();
  for (uint64_t seq = 1; seq <= 70; ++seq) {
    push(outbox, 1, kA);
    ASSERT_TRUE(outbox.quarantine(kB, outbox.epoch(), seq, "not B's to say").ok());
    ASSERT_TRUE(outbox.quarantine(kA, outbox.epoch(), seq, "refused:window_old").ok());
    ASSERT_TRUE(outbox.quarantine(kA, outbox.epoch(), seq, "again").ok());
  }
  auto count = *db_.prepare("SELECT count(*), min(seq), max(reason) FROM outbox_quarantine");
  ASSERT_TRUE(*count.step());
  EXPECT_EQ(count.integer(0), 64);
  EXPECT_EQ(count.integer(1), 7);
  EXPECT_EQ(count.text(2), "refused:window_old");
  EXPECT_EQ((*outbox.stats()).quarantined, 70U);
  EXPECT_EQ((*outbox.losses()).at("refused:window_old").mass, 70U);
  EXPECT_EQ((*outbox.pending(kA, 0, kAll))[0].reason, "refused:window_old");
}

TEST_F(OutboxTest, AStrangersReasonsAreWordsAndFew) {
  Outbox outbox = open();
  for (uint64_t seq = 1; seq <= 100; ++seq) {
    push(outbox, 1, kA);
    const std::string reason = "Never \"mind\" " + std::to_string(seq);
    ASSERT_TRUE(outbox.quarantine(kA, outbox.epoch(), seq, reason).ok());
  }
  const auto losses = *outbox.losses();
  EXPECT_EQ(losses.size(), 65U);
  EXPECT_TRUE(losses.contains("_ever__mind__1"));
  EXPECT_EQ(losses.at("other").rows, 36U);
}

TEST_F(OutboxTest, MassIsExactModuloTwoToTheSixtyFour) {
  Outbox outbox = open();
  EncodedBatch large = counter_batch(kWindow, 1);
  large.mass = UINT64_MAX;
  ASSERT_TRUE(outbox.append(kWindow, large, kA).ok());
  push(outbox, 2, kA);
  EXPECT_EQ((*outbox.stats()).pushed_mass, 1U);
  ASSERT_TRUE(outbox.acknowledged(kA, {{outbox.epoch(), 1, 1}}).ok());
  EXPECT_EQ((*outbox.stats()).outbox_mass, 2U);
}

}  // namespace
}  // namespace weir
