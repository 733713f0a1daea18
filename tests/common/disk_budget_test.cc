#include "common/disk_budget.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "tests/fakes/fault_vfs.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

constexpr uint64_t kStep = uint64_t{1} << 20;
constexpr uint64_t kReserve = uint64_t{2} << 20;

class DiskBudgetTest : public testing::Test {
 protected:
  DiskBudgetTest() { open(); }

  void open() {
    budget_.reset();
    db_.reset();
    db_ = *Database::open(path_, {.page_size = 4096,
                                  .wal_autocheckpoint = checkpoint_pages(options(), 4096),
                                  .vfs = disk_.vfs()});
    ASSERT_TRUE(db_->exec("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, a BLOB)").ok());
    auto budget = DiskBudget::open(*db_, path_, options());
    ASSERT_TRUE(budget.ok()) << budget.error().message;
    budget_ = *std::move(budget);
  }

  DiskBudgetOptions options() {
    return {.step_bytes = kStep,
            .reserve_bytes = kReserve,
            .quota_bytes = quota_,
            .space = [this](const std::string&) {
              return Result<DiskSpace>(DiskSpace{uint64_t{16} << 20, free_});
            }};
  }

  Status store(uint64_t bytes) {
    return db_->exec("INSERT INTO t(a) VALUES(zeroblob(" + std::to_string(bytes) + "))");
  }

  Status budgeted_store(uint64_t bytes) {
    WEIR_TRY(budget_->make_room(bytes));
    return store(bytes);
  }

  uint64_t number(const std::string& sql) {
    auto statement = db_->prepare(sql);
    WEIR_CHECK(statement.ok() && *statement->step());
    return statement->unsigned_integer(0);
  }

  TempDir dir_;
  const std::string path_ = dir_.file("a.db");
  FaultDisk disk_;
  uint64_t free_ = uint64_t{14} << 20;
  uint64_t quota_ = 0;
  std::optional<Database> db_;
  std::optional<DiskBudget> budget_;
};

TEST_F(DiskBudgetTest, TheFileGrowsByStepsAheadOfNeedAndNeverByItself) {
  ASSERT_TRUE(budget_->make_room(10'000).ok());
  const DiskUsage usage = *budget_->usage();
  EXPECT_EQ(usage.grown, 1U);
  EXPECT_GE(usage.file_bytes - usage.used_bytes, kStep);
  EXPECT_GE(std::filesystem::file_size(path_),
            usage.file_bytes);  // blocks of the disk, not of the WAL
  const uint64_t pages = number("PRAGMA page_count");
  Status done;
  while (done.ok()) done = store(50'000);
  EXPECT_EQ(done.error().code, Errc::kLimit);
  EXPECT_EQ(number("PRAGMA page_count"), pages);
  EXPECT_GE(number("SELECT sum(length(a)) FROM t"), kStep * 9 / 10);
}

TEST_F(DiskBudgetTest, OnAFullDiskAppendsFailAndRowsCanStillBeDeletedAndMadeSmaller) {
  ASSERT_TRUE(budget_->make_room(1).ok());
  free_ = 0;
  disk_.set_room(0);  // not a byte more, of any file
  uint64_t stored = 0;
  Status done;
  while ((done = budgeted_store(20'000)).ok()) ++stored;
  EXPECT_EQ(done.error().code, Errc::kLimit);
  EXPECT_GT(stored, 30U);
  EXPECT_EQ(budget_->usage()->refused, 1U);
  for (uint64_t id = 1; id <= stored; ++id) {  // each in a transaction of its own
    const std::string row = " WHERE id = " + std::to_string(id);
    if (id % 2 == 0) {
      ASSERT_TRUE(db_->exec("UPDATE t SET a = zeroblob(0)" + row).ok());
    } else {
      ASSERT_TRUE(db_->exec("DELETE FROM t" + row).ok());
    }
  }
  EXPECT_EQ(number("SELECT count(*) FROM t"), stored / 2);
  uint64_t again = 0;
  while (budgeted_store(20'000).ok()) ++again;
  EXPECT_GE(again + 2, stored);  // the room is there again, without a byte of the disk
  EXPECT_TRUE(db_->take_checkpoint_failure().ok());
}

TEST_F(DiskBudgetTest, ThousandsOfCommitsAndTrimsPassWithNothingFree) {
  ASSERT_TRUE(budget_->make_room(1).ok());
  free_ = 0;
  disk_.set_room(0);
  for (int i = 0; i < 2000; ++i) {
    const Status stored = budgeted_store(20'000);
    if (!stored.ok()) {
      ASSERT_EQ(stored.error().code, Errc::kLimit) << stored.error().message;
      ASSERT_TRUE(db_->exec("DELETE FROM t WHERE id < (SELECT min(id) + 10 FROM t)").ok());
    }
  }
  EXPECT_TRUE(db_->take_checkpoint_failure().ok());
}

TEST_F(DiskBudgetTest, WhatWasGrownStaysAfterAStartWithNothingFree) {
  ASSERT_TRUE(budget_->make_room(1).ok());
  free_ = 0;
  open();
  disk_.set_room(64 * 1024);  // the log of an opened database begins anew
  EXPECT_TRUE(budgeted_store(100'000).ok());
  EXPECT_EQ(budget_->usage()->grown, 0U);
}

TEST_F(DiskBudgetTest, ItGrowsOnlyAboveTheReserveAndWithinTheQuota) {
  free_ = kReserve + 3 * kStep;  // not more than that
  EXPECT_EQ(budget_->make_room(1).error().code, Errc::kLimit);
  EXPECT_EQ(budget_->usage()->grown, 0U);
  free_ += 1;
  EXPECT_TRUE(budget_->make_room(1).ok());
  free_ = uint64_t{14} << 20;
  quota_ = number("PRAGMA page_count") * 4096 + kStep - 1;
  open();
  EXPECT_EQ(budget_->make_room(2 * kStep).error().code, Errc::kLimit);
  quota_ += 3 * kStep;
  open();
  EXPECT_TRUE(budget_->make_room(2 * kStep).ok());
  EXPECT_EQ(budget_->usage()->quota_bytes, quota_);
}

TEST_F(DiskBudgetTest, ManyStepsAreTakenForALargeTransaction) {
  ASSERT_TRUE(budget_->make_room(3 * kStep).ok());
  EXPECT_TRUE(store(3 * kStep).ok());
}

TEST_F(DiskBudgetTest, AReaderThatHoldsTheWalOnlyDelaysGrowth) {
  ASSERT_TRUE(store(100).ok());
  {
    auto reader = *Database::open(path_, {.mode = OpenMode::kReadOnly});
    ASSERT_TRUE(reader.exec("BEGIN").ok());
    auto read = *reader.prepare("SELECT count(*) FROM t");
    ASSERT_TRUE(*read.step());
    EXPECT_EQ(budget_->make_room(1).error().code, Errc::kLimit);
    EXPECT_EQ(number("SELECT count(*) FROM disk_filler"), 1U);
  }
  EXPECT_TRUE(budget_->make_room(1).ok());
  EXPECT_EQ(budget_->usage()->grown, 1U);
  EXPECT_EQ(number("SELECT count(*) FROM disk_filler"), 0U);
}

TEST_F(DiskBudgetTest, OnAFullDiskALogThatAReaderKeptAtItsEndBeginsAnewWhenTheReaderIsGone) {
  ASSERT_TRUE(budget_->make_room(1).ok());
  const auto write = [&] {
    return db_->transaction([&] { return db_->exec("INSERT OR REPLACE INTO t VALUES(1, 'a')"); });
  };
  ASSERT_TRUE(write().ok());
  free_ = 0;
  disk_.set_room(32 * 1024);  // of the index of the log
  {
    auto reader = *Database::open(path_, {.mode = OpenMode::kReadOnly, .vfs = disk_.vfs()});
    ASSERT_TRUE(reader.exec("BEGIN").ok());
    auto read = *reader.prepare("SELECT count(*) FROM t");
    ASSERT_TRUE(*read.step());
    Status done;
    for (int i = 0; i < 10'000 && done.ok(); ++i) done = write();
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().code, Errc::kLimit);
  }
  const Status first = write();  // may find the log as it was
  EXPECT_TRUE(first.ok() || write().ok());
}

TEST_F(DiskBudgetTest, AFullDiskAtAStepOfGrowingLosesNothingAndDoesNotWedge) {
  ASSERT_TRUE(store(100).ok());
  bool met_every_step = false;
  for (uint64_t step = 1; !met_every_step; step += step < 16 ? 1 : step / 4) {
    disk_.arm(DiskFault::kFull, step, FaultDisk::Strikes::kFromThere);
    const Status room = budget_->make_room(kStep / 4);
    met_every_step = !disk_.struck();
    disk_.disarm();
    ASSERT_TRUE(room.ok() || room.error().code == Errc::kLimit) << room.error().message;
    ASSERT_EQ(number("SELECT count(*) FROM t"), 1U);
    ASSERT_TRUE(budgeted_store(kStep / 2).ok()) << "at step " << step;
    ASSERT_TRUE(db_->exec("DELETE FROM t WHERE length(a) > 100; VACUUM").ok());
    open();
  }
}

TEST_F(DiskBudgetTest, AnIoErrorAtAStepOfGrowingIsAnErrorAndTheNextStartTidiesUp) {
  ASSERT_TRUE(store(100).ok());
  for (const DiskFault fault : {DiskFault::kWriteError, DiskFault::kSyncError}) {
    bool met_every_step = false;
    for (uint64_t step = 1; !met_every_step; step += step < 8 ? 1 : step / 2) {
      disk_.arm(fault, step, FaultDisk::Strikes::kFromThere);
      const Status room = budget_->make_room(kStep / 4);
      met_every_step = !disk_.struck();
      ASSERT_EQ(room.ok(), met_every_step) << "at step " << step;
      ASSERT_TRUE(room.ok() || room.error().code == Errc::kIo) << room.error().message;
      disk_.disarm();
      open();
      ASSERT_EQ(number("SELECT count(*) FROM t"), 1U);
      ASSERT_TRUE(budgeted_store(kStep / 2).ok()) << "at step " << step;
      ASSERT_TRUE(db_->exec("DELETE FROM t WHERE length(a) > 100; VACUUM").ok());
      open();
    }
  }
}

TEST(DiskSpace, IsThatOfTheFileSystem) {
  const TempDir dir;
  const auto space = disk_space(dir.path());
  ASSERT_TRUE(space.ok());
  EXPECT_GE(space->total, space->free);
  EXPECT_GT(space->total, 0U);
  EXPECT_FALSE(disk_space(dir.file("nothing/here")).ok());
}

}  // namespace
}  // namespace weir
