#include "aggregator/ledger.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

#include "aggregator/interval_set.h"
#include "tests/fakes/temp_dir.h"

namespace weir::aggregator {
namespace {

constexpr SourceId kSource{std::byte{1}};
constexpr SourceId kOther{std::byte{2}};
constexpr uint64_t kEpoch = 77;
constexpr auto kHere = LedgerLevel::kHere;

class LedgerTest : public testing::Test {
 protected:
  LedgerTest() : db_(*Database::open(dir_.file("tier.db"))) {}

  Ledger open(size_t max_intervals = 1024) { return *Ledger::open(db_, max_intervals); }

  TempDir dir_;
  Database db_;
};

TEST_F(LedgerTest, ANumberIsNewExactlyOnce) {
  Ledger ledger = open();
  EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch, 5));
  EXPECT_FALSE(*ledger.claim(kHere, kSource, kEpoch, 5));
  EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch + 1, 5));
  EXPECT_TRUE(*ledger.claim(kHere, kOther, kEpoch, 5));
  EXPECT_TRUE(*ledger.claim(LedgerLevel::kLastTier, kSource, kEpoch, 5));
}

TEST_F(LedgerTest, AgreesWithASetForEveryOrderOfClaimsAndRanges) {
  Ledger ledger = open();
  std::mt19937 random(1);
  for (uint64_t epoch = 1; epoch <= 20; ++epoch) {
    std::set<uint64_t> held;
    IntervalSet intervals;
    ASSERT_TRUE(db_.exec("BEGIN").ok());
    for (int i = 0; i < 200; ++i) {
      const uint64_t lo = 1 + random() % 100;
      if (random() % 8 == 0) {
        const uint64_t hi = lo + random() % 10;
        ASSERT_TRUE(ledger.add(kHere, {kSource, epoch, lo, hi}).ok());
        intervals.add(lo, hi);
        for (uint64_t seq = lo; seq <= hi; ++seq) held.insert(seq);
      } else {
        ASSERT_EQ(intervals.contains(lo), held.contains(lo));
        ASSERT_EQ(*ledger.claim(kHere, kSource, epoch, lo), held.insert(lo).second);
        intervals.add(lo, lo);
      }
    }
    ASSERT_TRUE(db_.exec("COMMIT").ok());
    std::vector<SeqRange> expected;  // maximal runs
    for (const uint64_t seq : held) {
      if (expected.empty() || expected.back().hi + 1 != seq) {
        expected.push_back({kSource, epoch, seq, seq});
      }
      expected.back().hi = seq;
    }
    std::vector<SeqRange> stored = *ledger.ranges(kHere, kSource);
    std::erase_if(stored, [epoch](const SeqRange& range) { return range.epoch != epoch; });
    EXPECT_EQ(stored, expected);
    std::vector<SeqRange> in_memory;
    for (const auto& [lo, hi] : intervals.ranges()) in_memory.push_back({kSource, epoch, lo, hi});
    EXPECT_EQ(in_memory, expected);
  }
}

TEST_F(LedgerTest, ARolledBackClaimIsFreeAgainAndACommittedOneSurvivesReopening) {
  {
    Ledger ledger = open();
    const Status failed = db_.transaction([&]() -> Status {
      WEIR_TRY(ledger.claim(kHere, kSource, kEpoch, 1));
      return invalid("the batch could not be stored");
    });
    EXPECT_FALSE(failed.ok());
    EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch, 1));
  }
  db_ = *Database::open(dir_.file("tier.db"));
  Ledger again = open();
  EXPECT_FALSE(*again.claim(kHere, kSource, kEpoch, 1));
}

TEST_F(LedgerTest, BeyondTheLimitNewGapsAreRefusedAndOldOnesStillClose) {
  Ledger ledger = open(3);
  for (const uint64_t seq : {2U, 4U, 6U}) ASSERT_TRUE(*ledger.claim(kHere, kSource, kEpoch, seq));
  const auto refused = ledger.claim(kHere, kSource, kEpoch, 9);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
  EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch, 3));
  EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch, 5));
  EXPECT_EQ((*ledger.ranges(kHere, kSource)).size(), 1U);
  EXPECT_TRUE(*ledger.claim(kHere, kSource, kEpoch, 9));
}

TEST_F(LedgerTest, TellsEverySourceAndLevelApart) {
  Ledger ledger = open();
  ASSERT_TRUE(ledger.add(kHere, {kSource, kEpoch, 1, 9}).ok());
  ASSERT_TRUE(ledger.add(kHere, {kOther, kEpoch, 3, 4}).ok());
  ASSERT_TRUE(ledger.add(LedgerLevel::kLastTier, {kSource, kEpoch, 1, 2}).ok());
  EXPECT_EQ(*ledger.all(kHere),
            (std::vector<SeqRange>{{kSource, kEpoch, 1, 9}, {kOther, kEpoch, 3, 4}}));
  EXPECT_EQ(*ledger.all(LedgerLevel::kLastTier), (std::vector<SeqRange>{{kSource, kEpoch, 1, 2}}));
}

TEST_F(LedgerTest, WhatIsRemovedCanBeClaimedAgainAndNothingElse) {
  Ledger ledger = open();
  for (const uint64_t seq : {1U, 3U, 5U, 7U}) {  // an edge, a middle, an edge, beside it
    ASSERT_TRUE(ledger.add(kHere, {kSource, kEpoch, 1, 5}).ok());
    ASSERT_TRUE(ledger.remove(kHere, kSource, kEpoch, seq).ok());
    for (uint64_t n = 1; n <= 5; ++n) EXPECT_EQ(*ledger.claim(kHere, kSource, kEpoch, n), n == seq);
  }
  EXPECT_EQ(*ledger.all(kHere), (std::vector<SeqRange>{{kSource, kEpoch, 1, 5}}));
}

TEST_F(LedgerTest, NumbersOutsideTheRangeAreRefused) {
  Ledger ledger = open();
  EXPECT_FALSE(ledger.claim(kHere, kSource, kEpoch, 0).ok());
  EXPECT_FALSE(ledger.claim(kHere, kSource, kEpoch, UINT64_MAX).ok());
  EXPECT_FALSE(ledger.add(kHere, {kSource, kEpoch, 5, 4}).ok());
}

}  // namespace
}  // namespace weir::aggregator
