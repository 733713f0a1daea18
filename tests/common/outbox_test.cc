#include "common/outbox.h"

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

constexpr Window kWindow{1'700'000'040, 60};
constexpr uint64_t kRoomy = 1 << 20;

EncodedBatch batch(std::string_view text, uint64_t mass) {
  const ByteView bytes = as_bytes(text);
  return {Bytes(bytes.begin(), bytes.end()), mass, 1};
}

class OutboxTest : public testing::Test {
 protected:
  OutboxTest() : db_(*Database::open(dir_.file("edge.db"))) {}

  Outbox open(uint64_t max_bytes = kRoomy) { return *Outbox::open(db_, max_bytes); }

  static void expect_balanced(Outbox& outbox) {
    const auto stats = *outbox.stats();
    EXPECT_EQ(stats.pushed_mass, stats.acked_mass + stats.outbox_mass + stats.quarantined_mass);
  }

  TempDir dir_;
  Database db_;
};

TEST_F(OutboxTest, KeepsABatchUntilTheLastTierHasIt) {
  Outbox outbox = open();
  EXPECT_EQ(*outbox.append(kWindow, batch("one", 10)), 1U);
  EXPECT_EQ(*outbox.append(kWindow, batch("two", 20)), 2U);

  auto entries = *outbox.pending(0, 0, kRoomy);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].epoch, outbox.epoch());
  EXPECT_EQ(entries[0].seq, 1U);
  EXPECT_EQ(entries[0].window, kWindow);
  EXPECT_EQ(entries[0].mass, 10U);
  EXPECT_EQ(entries[0].raw_len, 3U);
  EXPECT_EQ(entries[0].body, batch("one", 0).body);

  ASSERT_TRUE(outbox.acknowledged({{outbox.epoch(), 1, 1}}).ok());
  entries = *outbox.pending(0, 0, kRoomy);
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].seq, 2U);
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.rows, 1U);
  EXPECT_EQ(stats.bytes, 3U);
  EXPECT_EQ(stats.pushed_mass, 30U);
  EXPECT_EQ(stats.acked_mass, 10U);
  EXPECT_EQ(stats.outbox_mass, 20U);
}

TEST_F(OutboxTest, RepeatedForeignAndEndlessAcknowledgementsAreHarmless) {
  Outbox outbox = open();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(outbox.append(kWindow, batch("x", 7)).ok());
  const uint64_t epoch = outbox.epoch();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(outbox.acknowledged({{epoch, 2, 3}, {epoch, 3, 3}, {epoch + 1, 1, 9}}).ok());
  }
  EXPECT_EQ((*outbox.stats()).rows, 3U);
  ASSERT_TRUE(outbox.acknowledged({{epoch, 0, UINT64_MAX}}).ok());
  EXPECT_EQ((*outbox.stats()).rows, 0U);
  EXPECT_EQ((*outbox.stats()).acked_mass, 35U);
  expect_balanced(outbox);
}

TEST_F(OutboxTest, IdentityAndNumberingSurviveReopening) {
  SourceId source{};
  uint64_t epoch = 0;
  {
    Outbox outbox = open();
    source = outbox.source();
    epoch = outbox.epoch();
    ASSERT_TRUE(outbox.append(kWindow, batch("one", 1)).ok());
    ASSERT_TRUE(outbox.acknowledged({{epoch, 1, 1}}).ok());
  }
  db_ = *Database::open(dir_.file("edge.db"));
  Outbox again = open();
  EXPECT_EQ(again.source(), source);
  EXPECT_EQ(again.epoch(), epoch);
  EXPECT_EQ(*again.append(kWindow, batch("two", 1)), 2U);  // never 1 again
}

TEST_F(OutboxTest, ANewDatabaseIsANewSourceAndEpoch) {
  Outbox outbox = open();
  auto other_db = *Database::open(dir_.file("other.db"));
  Outbox other = *Outbox::open(other_db, kRoomy);
  EXPECT_NE(outbox.source(), other.source());
  EXPECT_NE(outbox.epoch(), other.epoch());
}

TEST_F(OutboxTest, ARolledBackCallerLeavesNothing) {
  Outbox outbox = open();
  const Status failed = db_.transaction([&]() -> Status {
    WEIR_TRY(outbox.append(kWindow, batch("lost", 5)));
    return invalid("the caller changed its mind");
  });
  EXPECT_FALSE(failed.ok());
  EXPECT_EQ((*outbox.stats()).rows, 0U);
  EXPECT_EQ((*outbox.stats()).pushed_mass, 0U);
  EXPECT_EQ(*outbox.append(kWindow, batch("kept", 5)), 1U);
}

TEST_F(OutboxTest, WhenFullItRefusesAndKeepsWhatItHas) {
  Outbox outbox = open(10);
  ASSERT_TRUE(outbox.append(kWindow, batch("12345", 1)).ok());
  ASSERT_TRUE(outbox.append(kWindow, batch("12345", 1)).ok());
  const auto refused = outbox.append(kWindow, batch("1", 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_EQ((*outbox.stats()).pushed_mass, 2U);
  ASSERT_TRUE(outbox.acknowledged({{outbox.epoch(), 1, 1}}).ok());
  EXPECT_EQ(*outbox.append(kWindow, batch("12345", 1)), 3U);  // the refused one took no number
}

TEST_F(OutboxTest, ReadsInOrderWithinTheByteBudgetButAtLeastOne) {
  Outbox outbox = open();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(outbox.append(kWindow, batch("12345", 1)).ok());
  EXPECT_EQ((*outbox.pending(0, 0, 10)).size(), 2U);
  const auto one = *outbox.pending(outbox.epoch(), 2, 1);
  ASSERT_EQ(one.size(), 1U);
  EXPECT_EQ(one[0].seq, 3U);
  EXPECT_TRUE((*outbox.pending(outbox.epoch(), 4, kRoomy)).empty());
  EXPECT_TRUE((*outbox.pending(UINT64_MAX, 0, kRoomy)).empty());
}

TEST_F(OutboxTest, ADamagedRowIsQuarantinedAndItsNeighboursTravel) {
  Outbox outbox = open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(outbox.append(kWindow, batch("12345", 10)).ok());
  ASSERT_TRUE(db_.exec("UPDATE outbox SET body = x'3132333436' WHERE seq = 2").ok());
  const auto entries = *outbox.pending(0, 0, kRoomy);
  ASSERT_EQ(entries.size(), 2U);
  EXPECT_EQ(entries[0].seq, 1U);
  EXPECT_EQ(entries[1].seq, 3U);
  const auto stats = *outbox.stats();
  EXPECT_EQ(stats.quarantined, 1U);
  EXPECT_EQ(stats.quarantined_mass, 10U);
  EXPECT_EQ(stats.rows, 2U);
  expect_balanced(outbox);
}

TEST_F(OutboxTest, QuarantineKeepsTheReasonAndTheNewestBodies) {
  Outbox outbox = open();
  for (uint64_t seq = 1; seq <= 70; ++seq) {
    ASSERT_TRUE(outbox.append(kWindow, batch("x", 1)).ok());
    ASSERT_TRUE(outbox.quarantine(outbox.epoch(), seq, "window_old").ok());
    ASSERT_TRUE(outbox.quarantine(outbox.epoch(), seq, "again").ok());  // no longer there
  }
  auto count = *db_.prepare("SELECT count(*), min(seq), max(reason) FROM outbox_quarantine");
  ASSERT_TRUE(*count.step());
  EXPECT_EQ(count.integer(0), 64);
  EXPECT_EQ(count.integer(1), 7);
  EXPECT_EQ(count.text(2), "window_old");
  EXPECT_EQ((*outbox.stats()).quarantined, 70U);
  expect_balanced(outbox);
}

TEST_F(OutboxTest, MassIsExactModuloTwoToTheSixtyFour) {
  Outbox outbox = open();
  ASSERT_TRUE(outbox.append(kWindow, batch("x", UINT64_MAX)).ok());
  ASSERT_TRUE(outbox.append(kWindow, batch("y", 2)).ok());
  EXPECT_EQ((*outbox.stats()).pushed_mass, 1U);
  ASSERT_TRUE(outbox.acknowledged({{outbox.epoch(), 1, 1}}).ok());
  EXPECT_EQ((*outbox.stats()).outbox_mass, 2U);
  expect_balanced(outbox);
}

}  // namespace
}  // namespace weir
