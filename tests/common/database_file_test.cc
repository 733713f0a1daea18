#include "common/database_file.h"

#include <filesystem>
#include <fstream>
#include <optional>

#include <gtest/gtest.h>

#include "tests/fakes/fault_vfs.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

class DatabaseFileTest : public testing::Test {
 protected:
  static Status use(Database& db) {
    WEIR_TRY(db.exec("CREATE TABLE IF NOT EXISTS t(a)"));
    WEIR_TRY_ASSIGN(auto read, db.prepare("SELECT count(*) FROM t"));
    return read.run();
  }

  Result<Database> open() {
    const DatabaseOptions options{.vfs = disk_.vfs()};
    std::optional<Database> db;
    const auto open_and_use = [&]() -> Status {
      db.reset();
      WEIR_TRY_ASSIGN(auto opened, Database::open(path_, options));
      WEIR_TRY(use(opened));
      db = std::move(opened);
      return {};
    };
    WEIR_TRY(open_or_replace(path_, options, open_and_use));
    return *std::move(db);
  }

  // Rows of t; none: there is no usable database.
  std::optional<int64_t> rows() {
    auto db = open();
    if (!db.ok()) return std::nullopt;
    auto read = db->prepare("SELECT count(*) FROM t");
    if (!read.ok() || !read->step().ok()) return std::nullopt;
    return read->integer(0);
  }

  void make(int count) {
    auto db = open();
    ASSERT_TRUE(db.ok());
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(db->exec("INSERT INTO t VALUES(zeroblob(9000))").ok());
    }
    ASSERT_TRUE(*db->write_back(std::chrono::milliseconds(0)));
    db = Error{};
    forget_log();
  }

  // What is in the file is then read from the file.
  void forget_log() const {
    fs::remove(path_ + "-wal");
    fs::remove(path_ + "-shm");
  }

  void overwrite(int64_t offset, const std::string& bytes) const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offset);
    file << bytes;
    ASSERT_TRUE(file.good());
  }

  [[nodiscard]] bool exists(const std::string& suffix) const { return fs::exists(path_ + suffix); }

  TempDir dir_;
  std::string path_ = dir_.file("a.db");
  FaultDisk disk_;
};

TEST_F(DatabaseFileTest, AGoodFileIsUsedAsItIs) {
  make(3);
  EXPECT_EQ(rows(), 3);
  EXPECT_FALSE(exists(".bad-1"));
}

TEST_F(DatabaseFileTest, GarbageIsPutAsideAndANewOneBegins) {
  std::ofstream(path_) << std::string(100'000, 'x');
  EXPECT_EQ(rows(), 0);
  EXPECT_EQ(fs::file_size(path_ + ".bad-1"), 100'000U);
  EXPECT_EQ(rows(), 0);
  EXPECT_FALSE(exists(".bad-2"));
}

TEST_F(DatabaseFileTest, ADamagedHeaderSchemaOrTableIsPutAsideWithItsLog) {
  for (const int64_t offset : {0, 100, 8192}) {  // header, sqlite_schema, the table's root
    make(3);
    std::ofstream(path_ + "-wal") << "what was not written back yet";
    overwrite(offset, std::string(64, '\xFF'));
    EXPECT_EQ(rows(), 0) << offset;
  }
  EXPECT_TRUE(exists(".bad-3"));
  EXPECT_TRUE(exists(".bad-3-wal"));
}

TEST_F(DatabaseFileTest, TheNewestThreeAreKept) {
  for (int i = 1; i <= 5; ++i) {
    fs::remove(path_);
    forget_log();
    std::ofstream(path_) << std::string(static_cast<size_t>(1000 * i), 'x');
    EXPECT_EQ(rows(), 0);
  }
  EXPECT_FALSE(exists(".bad-1"));
  EXPECT_FALSE(exists(".bad-2"));
  for (int i = 3; i <= 5; ++i) {
    EXPECT_EQ(fs::file_size(path_ + ".bad-" + std::to_string(i)), static_cast<size_t>(1000 * i));
  }
}

TEST_F(DatabaseFileTest, DamageFoundWhileRunningIsLookedForByTheNextStart) {
  make(30);
  overwrite(5 * 8192, std::string(8192, '\x7F'));  // somewhere in the rows: no start reads it
  EXPECT_EQ(rows(), 30);
  EXPECT_FALSE(exists(".bad-1"));
  mark_suspect(path_);
  EXPECT_EQ(rows(), 0);
  EXPECT_TRUE(exists(".bad-1"));
  EXPECT_FALSE(exists(".suspect"));
}

TEST_F(DatabaseFileTest, ASuspectThatIsGoodStaysAndIsNotCheckedAgain) {
  make(3);
  mark_suspect(path_);
  EXPECT_EQ(rows(), 3);
  EXPECT_FALSE(exists(".suspect"));
  EXPECT_FALSE(exists(".bad-1"));
}

TEST_F(DatabaseFileTest, ADiskThatFailsAtEveryTryKeepsTheFileItHad) {
  make(3);
  overwrite(0, std::string(64, '\xFF'));
  const auto old_size = fs::file_size(path_);
  for (int i = 0; i < 5; ++i) {
    disk_.arm(DiskFault::kWriteError, 1, FaultDisk::Strikes::kFromThere);
    const auto opened = open();
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, Errc::kIo);
    disk_.disarm();
  }
  EXPECT_EQ(fs::file_size(path_ + ".bad-1"), old_size);
  EXPECT_FALSE(exists(".bad-2"));
  EXPECT_EQ(rows(), 0);
}

TEST_F(DatabaseFileTest, AFullDiskAndAMistakeOfTheCallerLeaveTheFileAlone) {
  make(3);
  for (const Errc code : {Errc::kInvalid, Errc::kLimit, Errc::kUnavailable}) {
    const auto failed = open_or_replace(path_, {}, [&] { return Status(Error{code, "no"}); });
    EXPECT_EQ(failed.error().code, code);
  }
  EXPECT_FALSE(exists(".bad-1"));
  EXPECT_EQ(rows(), 3);
}

TEST_F(DatabaseFileTest, AFileWhoseSizeCannotBeToldIsNotDeleted) {
  fs::create_symlink(path_, path_);  // looking at it is an error, and not that it is missing
  const auto damaged = []() -> Status { return Error{Errc::kIo, "disk I/O error"}; };
  EXPECT_FALSE(open_or_replace(path_, {}, damaged).ok());
  EXPECT_TRUE(fs::is_symlink(path_ + ".bad-1"));
}

}  // namespace
}  // namespace weir
