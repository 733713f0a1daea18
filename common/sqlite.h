#pragma once
// SQLite behind one wrapper: Database, Statement, Transaction. The only file that includes
// sqlite3.h is common/sqlite.cc.
//
// Owner: whoever opened it; a Database and its Statements belong to the thread that used it first
// (checked in debug builds). Promise: every failure is a Result with SQLite's message and the
// statement; a Transaction that was not committed rolls back. Writers use WAL and synchronous=FULL.
// Codes: kLimit: the disk (or max_page_count) is full, and the statement did nothing; kIo: the disk
// failed or the file is damaged; kUnavailable: busy, missing, read-only or forbidden.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "common/bytes.h"
#include "common/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace weir {

enum class OpenMode : uint8_t { kReadWriteCreate, kReadOnly };

struct DatabaseOptions {
  OpenMode mode = OpenMode::kReadWriteCreate;
  int page_size = 8192;  // fixed when the file is made
  bool secure_delete = false;
  int wal_autocheckpoint = 1000;  // pages
  int cache_kib = 2000;           // of pages; a transaction that needs more writes some twice
  int busy_timeout_ms = 5000;
  // No file: `path` is a name that all connections of this process share, and the last one to close
  // takes it along. No WAL, nothing durable. For a process without a disk, and for simulations.
  bool in_memory = false;
  // A registered SQLite VFS instead of the system's: tests of disk faults, and simulations.
  std::string vfs{};
};

class StatementPool;

// A prepared statement. Bind indexes from 1, columns from 0, like SQLite. A failed bind is reported
// by the next step. Binding while a row is there rewinds first. Must not outlive its Database,
// which keeps what it prepared for the next one with the same text.
class Statement {
 public:
  Statement() = default;

  Statement(sqlite3_stmt* stmt, StatementPool* pool) : stmt_(stmt), pool_(pool) {}

  Statement(Statement&& other) noexcept
      : stmt_(std::exchange(other.stmt_, nullptr)),
        pool_(other.pool_),
        bind_error_(other.bind_error_) {}

  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  Statement& bind(int index, int64_t value);
  Statement& bind(int index, uint64_t value);  // stored as the same 64 bits
  Statement& bind(int index, double value);
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, ByteView blob);
  Statement& bind_lent(int index, ByteView blob);  // not copied: stays valid until run() is over
  Statement& bind_null(int index);

  // True: a row is there. False: done, and rewound. Bound values stay until bound again; reset()
  // rewinds.
  Result<bool> step();
  Status run();  // step to the end, then reset: for statements without rows
  void reset();

  [[nodiscard]] bool is_null(int column) const;
  [[nodiscard]] int64_t integer(int column) const;
  [[nodiscard]] uint64_t unsigned_integer(int column) const;
  [[nodiscard]] double real(int column) const;
  [[nodiscard]] std::string_view text(int column) const;  // valid until the next step
  [[nodiscard]] ByteView blob(int column) const;          // valid until the next step

 private:
  void before_bind();
  void after_bind(int code);
  void give_back();
  sqlite3_stmt* stmt_ = nullptr;
  StatementPool* pool_ = nullptr;
  int bind_error_ = 0;
};

class Database {
 public:
  static Result<Database> open(const std::string& path, const DatabaseOptions& options = {});
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  ~Database();

  Status exec(std::string_view sql);  // one or more statements, no results, parsed each time
  // Parsed once: while it is not in use the newest kStatements texts are kept.
  static constexpr size_t kStatements = 64;
  Result<Statement> prepare(std::string_view sql);
  Status run(std::string_view sql);  // the same, without bindings and rows
  [[nodiscard]] int64_t last_insert_rowid() const;
  [[nodiscard]] int64_t changes() const;
  // BEGIN IMMEDIATE (readers: BEGIN), fn, COMMIT; ROLLBACK when fn or COMMIT fails. kIo from here
  // means that nobody knows whether a COMMIT is on the disk; after any other error it is not. After
  // kLimit the WAL is written back: a reader may have kept it from beginning anew, and on a full
  // disk it cannot grow.
  Status transaction(const std::function<Status()>& fn);
  [[nodiscard]] bool in_transaction() const;
  // The WAL is written back by itself after commits; what went wrong with that since the last call.
  // Nothing is lost by it, the WAL keeps everything: but it grows, and the disk is suspect.
  Status take_checkpoint_failure();
  // Writes all of the WAL back, so that the next transaction begins at its front. False: a reader
  // was in the way for so long.
  Result<bool> write_back(std::chrono::milliseconds wait);
  // Interrupts a running statement from another thread (query deadlines).
  void interrupt();

 private:
  struct Checkpoints;

  Database(sqlite3* db, OpenMode mode);

  Status set_up(const DatabaseOptions& options);
  void check_thread();
  sqlite3* db_ = nullptr;
  OpenMode mode_ = OpenMode::kReadOnly;
  int busy_timeout_ms_ = 0;
  std::unique_ptr<Checkpoints> checkpoints_;  // of a writer; SQLite's hook points to it
  std::unique_ptr<StatementPool> pool_;       // Statements point to it
  std::thread::id user_;                      // set by the first use after open
};

}  // namespace weir
