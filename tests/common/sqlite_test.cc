#include "common/sqlite.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/file_size_limit.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

Database open_or_die(const std::string& path, const DatabaseOptions& options = {}) {
  auto db = Database::open(path, options);
  WEIR_CHECK(db.ok());
  return *std::move(db);
}

std::string pragma(Database& db, const std::string& name) {
  auto statement = db.prepare("PRAGMA " + name);
  WEIR_CHECK(statement.ok() && *statement->step());
  return std::string(statement->text(0));
}

int64_t count(Database& db, const std::string& table) {
  auto statement = db.prepare("SELECT count(*) FROM " + table);
  WEIR_CHECK(statement.ok() && *statement->step());
  return statement->integer(0);
}

TEST(Sqlite, WritersAreDurableAndPagesAreOfTheAskedSize) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"), {.page_size = 16384});
  EXPECT_EQ(pragma(db, "journal_mode"), "wal");
  EXPECT_EQ(pragma(db, "synchronous"), "2");
  EXPECT_EQ(pragma(db, "page_size"), "16384");
  EXPECT_EQ(pragma(db, "secure_delete"), "0");
  EXPECT_EQ(pragma(db, "mmap_size"), "0");
}

TEST(Sqlite, EveryTypeReadsBackAsBound) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a,b,c,d,e,f,g)").ok());
  auto insert = db.prepare("INSERT INTO t VALUES(?,?,?,?,?,?,?)");
  ASSERT_TRUE(insert.ok());
  const Bytes blob{std::byte{0}, std::byte{255}};
  insert->bind(1, int64_t{-5})
      .bind(2, UINT64_MAX)
      .bind(3, 0.5)
      .bind(4, std::string_view("hé\0x", 5));
  insert->bind(5, ByteView(blob)).bind(6, ByteView{}).bind_null(7);
  ASSERT_TRUE(insert->run().ok());
  auto select = db.prepare("SELECT * FROM t");
  ASSERT_TRUE(select.ok());
  ASSERT_TRUE(*select->step());
  EXPECT_EQ(select->integer(0), -5);
  EXPECT_EQ(select->unsigned_integer(1), UINT64_MAX);
  EXPECT_EQ(select->real(2), 0.5);
  EXPECT_EQ(select->text(3), std::string_view("hé\0x", 5));
  EXPECT_EQ(Bytes(select->blob(4).begin(), select->blob(4).end()), blob);
  EXPECT_TRUE(select->blob(5).empty());
  EXPECT_FALSE(select->is_null(5));
  EXPECT_TRUE(select->is_null(6));
  EXPECT_FALSE(*select->step());
}

TEST(Sqlite, StatementOfTheSameTextComesBackRewoundAndUnbound) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1),(2)").ok());
  const char* const sql = "SELECT a, ?1 FROM t ORDER BY a";
  {
    auto first = db.prepare(sql);
    auto second = db.prepare(sql);  // the first is in use
    ASSERT_TRUE(*first->bind(1, int64_t{7}).step());
    ASSERT_TRUE(*first->step());
    ASSERT_TRUE(*second->bind(1, int64_t{8}).step());
    EXPECT_EQ(first->integer(0), 2);
    EXPECT_EQ(first->integer(1), 7);
    EXPECT_EQ(second->integer(0), 1);
    EXPECT_EQ(second->integer(1), 8);
  }
  {
    auto again = db.prepare(sql);
    ASSERT_TRUE(*again->step());
    EXPECT_EQ(again->integer(0), 1);
    EXPECT_TRUE(again->is_null(1));
  }
  EXPECT_TRUE(db.exec("DROP TABLE t").ok());  // nobody reads it any more
  for (size_t i = 0; i < 2 * Database::kStatements; ++i) {
    ASSERT_TRUE(db.run("SELECT " + std::to_string(i)).ok());
  }
}

TEST(Sqlite, FailedTransactionLeavesNothing) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a)").ok());
  const auto failed = db.transaction([&]() -> Status {
    WEIR_TRY(db.exec("INSERT INTO t VALUES(1)"));
    return invalid("changed my mind");
  });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message, "changed my mind");
  EXPECT_EQ(count(db, "t"), 0);
  ASSERT_TRUE(db.transaction([&] { return db.exec("INSERT INTO t VALUES(1)"); }).ok());
  EXPECT_EQ(count(db, "t"), 1);
}

TEST(Sqlite, ErrorsNameTheStatementAndTheKind) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  const auto bad = db.exec("SELEKT 1");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code, Errc::kInvalid);
  EXPECT_NE(bad.error().message.find("SELEKT 1"), std::string::npos);
  EXPECT_FALSE(db.prepare("SELECT * FROM nowhere").ok());
  EXPECT_EQ(Database::open(dir.file("no/such/dir.db")).error().code, Errc::kUnavailable);
}

TEST(Sqlite, InMemoryDatabaseIsSharedByNameAndGoesWithItsLastConnection) {
  {
    auto writer = open_or_die("shared", {.in_memory = true});
    ASSERT_TRUE(writer.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)").ok());
    auto reader = open_or_die("shared", {.mode = OpenMode::kReadOnly, .in_memory = true});
    EXPECT_EQ(count(reader, "t"), 1);
    EXPECT_FALSE(reader.exec("INSERT INTO t VALUES(2)").ok());
    ASSERT_TRUE(writer.transaction([&] { return writer.exec("INSERT INTO t VALUES(2)"); }).ok());
    EXPECT_EQ(count(reader, "t"), 2);
    auto other = open_or_die("other", {.in_memory = true});
    EXPECT_FALSE(other.prepare("SELECT * FROM t").ok());
  }
  auto again = open_or_die("shared", {.in_memory = true});
  EXPECT_FALSE(again.prepare("SELECT * FROM t").ok());
}

TEST(Sqlite, WalIsWrittenBackAfterSoManyPages) {
  const TempDir dir;
  const auto size = [&] { return std::filesystem::file_size(dir.file("a.db")); };
  auto db = open_or_die(dir.file("a.db"), {.page_size = 8192, .wal_autocheckpoint = 20});
  ASSERT_TRUE(db.exec("CREATE TABLE t(a)").ok());
  const auto before = size();
  ASSERT_TRUE(db.exec("INSERT INTO t VALUES(zeroblob(8192 * 10))").ok());
  EXPECT_EQ(size(), before);
  ASSERT_TRUE(db.exec("INSERT INTO t VALUES(zeroblob(8192 * 10))").ok());
  EXPECT_GT(size(), before + 20 * 8192);
  EXPECT_TRUE(db.take_checkpoint_failure().ok());
}

TEST(Sqlite, BadBindIndexIsReportedByStep) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  auto statement = db.prepare("SELECT ?");
  ASSERT_TRUE(statement.ok());
  statement->bind(7, int64_t{1});
  EXPECT_FALSE(statement->step().ok());
}

TEST(Sqlite, ReaderSeesOneMomentAndCannotWrite) {
  const TempDir dir;
  auto writer = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(writer.exec("CREATE TABLE t(a); INSERT INTO t VALUES(1)").ok());
  auto reader = open_or_die(dir.file("a.db"), {.mode = OpenMode::kReadOnly});
  EXPECT_FALSE(reader.exec("INSERT INTO t VALUES(2)").ok());
  const auto done = reader.transaction([&]() -> Status {
    EXPECT_EQ(count(reader, "t"), 1);
    EXPECT_TRUE(writer.exec("INSERT INTO t VALUES(2)").ok());
    EXPECT_EQ(count(reader, "t"), 1);
    return {};
  });
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(count(reader, "t"), 2);
}

TEST(Sqlite, FileThatIsNoDatabaseIsAnError) {
  const TempDir dir;
  std::ofstream(dir.file("a.db")) << std::string(4096, 'x');
  const auto db = Database::open(dir.file("a.db"));
  ASSERT_FALSE(db.ok());
  EXPECT_EQ(db.error().code, Errc::kIo);
}

TEST(Sqlite, CommitThatCannotBeWrittenIsAnIoErrorAndLeavesNothing) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a)").ok());
  {
    const FileSizeLimit limit(0);
    const auto failed = db.transaction([&] { return db.exec("INSERT INTO t VALUES(1)"); });
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code, Errc::kIo);
  }
  EXPECT_EQ(count(db, "t"), 0);
  auto other = open_or_die(dir.file("a.db"));
  EXPECT_EQ(count(other, "t"), 0);
}

// RAISE(ROLLBACK) ends the transaction as some full disks do.
TEST(Sqlite, FailureThatEndedTheTransactionIsNotCommittedOver) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a); CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.a = 2 "
                      "BEGIN SELECT RAISE(ROLLBACK, 'no'); END")
                  .ok());
  const auto failed = db.transaction([&]() -> Status {
    WEIR_TRY(db.exec("INSERT INTO t VALUES(1)"));
    EXPECT_FALSE(db.exec("INSERT INTO t VALUES(2)").ok());  // and passes over it
    return {};
  });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Errc::kIo);
  EXPECT_EQ(count(db, "t"), 0);
}

TEST(Sqlite, FullDatabaseIsALimit) {
  const TempDir dir;
  auto db = open_or_die(dir.file("a.db"));
  ASSERT_TRUE(db.exec("CREATE TABLE t(a); PRAGMA max_page_count=10").ok());
  const auto full = db.exec("INSERT INTO t VALUES(zeroblob(1000000))");
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, Errc::kLimit);
  EXPECT_TRUE(db.exec("INSERT INTO t VALUES(1)").ok());
}

}  // namespace
}  // namespace weir
