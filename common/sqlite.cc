#include "common/sqlite.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include <sqlite3.h>

#include "common/check.h"
#include "common/crash_point.h"

namespace weir {
namespace {

Errc code_of(int sqlite_code) {
  // The shared-memory file finds no room: the disk is full, not broken.
  if (sqlite_code == SQLITE_IOERR_SHMSIZE) return Errc::kLimit;
  switch (sqlite_code & 0xff) {  // the low byte of an extended code is the primary one
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
      return Errc::kUnavailable;
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
      return Errc::kLimit;
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return Errc::kIo;
    case SQLITE_NOMEM:
      WEIR_CHECK(false && "out of memory in SQLite");
      return Errc::kInternal;
    case SQLITE_MISUSE:
      return Errc::kInternal;
    default:  // an int, not an enum: the rest is a statement or a constraint the data broke
      return Errc::kInvalid;
  }
}

Error error_of(sqlite3* db, int code, std::string_view sql) {
  std::string message = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  if (!sql.empty()) message.append(" in '").append(sql.substr(0, 200)).append("'");
  return {code_of(code), "SQLite: " + message};
}

// A null pointer would bind NULL, and an empty blob is not NULL.
int bind_bytes(sqlite3_stmt* stmt, int index, ByteView blob, sqlite3_destructor_type keep) {
  if (blob.empty()) return sqlite3_bind_zeroblob(stmt, index, 0);
  return sqlite3_bind_blob64(stmt, index, blob.data(), blob.size(), keep);
}

}  // namespace

// Statements that nobody uses, the newest last.
class StatementPool {
 public:
  StatementPool() = default;
  StatementPool(const StatementPool&) = delete;
  StatementPool& operator=(const StatementPool&) = delete;

  ~StatementPool() {
    WEIR_CHECK(lent_ == 0);  // no Statement outlives its Database
    for (const Idle& one : idle_) sqlite3_finalize(one.stmt);
  }

  // Null: there is none with this text.
  sqlite3_stmt* take(std::string_view sql) {
    const auto found = std::ranges::find(idle_.rbegin(), idle_.rend(), sql, &Idle::sql);
    if (found == idle_.rend()) return nullptr;
    sqlite3_stmt* const stmt = found->stmt;
    idle_.erase(std::next(found).base());
    return stmt;
  }

  Statement lend(sqlite3_stmt* stmt) {
    ++lent_;
    return {stmt, this};
  }

  void put(sqlite3_stmt* stmt) {
    --lent_;
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    if (idle_.size() == Database::kStatements) {
      sqlite3_finalize(idle_.front().stmt);
      idle_.erase(idle_.begin());
    }
    idle_.push_back({sqlite3_sql(stmt), stmt});
  }

 private:
  struct Idle {
    std::string_view sql;  // the statement's own copy
    sqlite3_stmt* stmt;
  };

  std::vector<Idle> idle_;
  size_t lent_ = 0;
};

Statement& Statement::operator=(Statement&& other) noexcept {
  if (this != &other) {
    give_back();
    stmt_ = std::exchange(other.stmt_, nullptr);
    pool_ = other.pool_;
    bind_error_ = other.bind_error_;
  }
  return *this;
}

Statement::~Statement() { give_back(); }

void Statement::give_back() {
  if (stmt_ != nullptr) pool_->put(stmt_);
}

void Statement::before_bind() {
  WEIR_CHECK(stmt_ != nullptr);
  if (sqlite3_stmt_busy(stmt_) != 0) sqlite3_reset(stmt_);
}

void Statement::after_bind(int code) {
  if (code != SQLITE_OK && bind_error_ == SQLITE_OK) bind_error_ = code;
}

Statement& Statement::bind(int index, int64_t value) {
  before_bind();
  after_bind(sqlite3_bind_int64(stmt_, index, value));
  return *this;
}

Statement& Statement::bind(int index, uint64_t value) {
  return bind(index, static_cast<int64_t>(value));
}

Statement& Statement::bind(int index, double value) {
  before_bind();
  after_bind(sqlite3_bind_double(stmt_, index, value));
  return *this;
}

Statement& Statement::bind(int index, std::string_view text) {
  before_bind();
  // A null pointer would bind NULL, and an empty text is not NULL.
  const char* data = text.empty() ? "" : text.data();
  after_bind(sqlite3_bind_text64(stmt_, index, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind(int index, ByteView blob) {
  before_bind();
  after_bind(bind_bytes(stmt_, index, blob, SQLITE_TRANSIENT));
  return *this;
}

Statement& Statement::bind_lent(int index, ByteView blob) {
  before_bind();
  after_bind(bind_bytes(stmt_, index, blob, SQLITE_STATIC));
  return *this;
}

Statement& Statement::bind_null(int index) {
  before_bind();
  after_bind(sqlite3_bind_null(stmt_, index));
  return *this;
}

Result<bool> Statement::step() {
  WEIR_CHECK(stmt_ != nullptr);
  sqlite3* db = sqlite3_db_handle(stmt_);
  if (bind_error_ != SQLITE_OK) {
    const int code = std::exchange(bind_error_, SQLITE_OK);
    return error_of(nullptr, code, sqlite3_sql(stmt_)).with("bind");
  }
  const int code = sqlite3_step(stmt_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    sqlite3_reset(stmt_);
    return false;
  }
  Error error = error_of(db, code, sqlite3_sql(stmt_));
  sqlite3_reset(stmt_);
  return error;
}

Status Statement::run() {
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, step());
    if (!row) return {};
  }
}

void Statement::reset() {
  WEIR_CHECK(stmt_ != nullptr);
  sqlite3_reset(stmt_);
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(stmt_, column) == SQLITE_NULL;
}

int64_t Statement::integer(int column) const { return sqlite3_column_int64(stmt_, column); }

uint64_t Statement::unsigned_integer(int column) const {
  return static_cast<uint64_t>(sqlite3_column_int64(stmt_, column));
}

double Statement::real(int column) const { return sqlite3_column_double(stmt_, column); }

std::string_view Statement::text(int column) const {
  const auto bytes = blob(column);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ByteView Statement::blob(int column) const {
  const void* data = sqlite3_column_blob(stmt_, column);
  if (data == nullptr) return {};
  const int size = sqlite3_column_bytes(stmt_, column);
  return {static_cast<const std::byte*>(data), static_cast<size_t>(size)};
}

// After so many pages in the WAL they are written back: what SQLite's own hook does, but for
// keeping the reason when that fails.
struct Database::Checkpoints {
  static int after_commit(void* self, sqlite3* db, const char*, int pages) {
    auto& checkpoints = *static_cast<Checkpoints*>(self);
    if (pages >= checkpoints.every_pages) checkpoints.run(db);
    return SQLITE_OK;  // the commit itself is durable
  }

  void run(sqlite3* db) {
    crash_point("db.checkpoint_before");
    const int code =
        sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    crash_point("db.checkpoint_after");
    // A reader may be in the way; the next commit tries again.
    if (code != SQLITE_OK && code_of(code) != Errc::kUnavailable) {
      failure = error_of(db, code, "checkpoint");
    }
  }

  int every_pages = 0;
  Status failure;
};

Database::Database(sqlite3* db, OpenMode mode)
    : db_(db), mode_(mode), pool_(std::make_unique<StatementPool>()) {}

Result<Database> Database::open(const std::string& path, const DatabaseOptions& options) {
  const bool writes = options.mode == OpenMode::kReadWriteCreate;
  const int flags = writes ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
  const char* vfs = options.vfs.empty() ? nullptr : options.vfs.c_str();
  const bool shared_memory = options.in_memory && options.vfs.empty();
  if (shared_memory) vfs = "memdb";
  sqlite3* raw = nullptr;
  // No mutex: one thread per connection. interrupt() is allowed from any thread all the same.
  const std::string name = shared_memory ? "/" + path : path;  // with a slash: shared
  const int code = sqlite3_open_v2(name.c_str(), &raw, flags | SQLITE_OPEN_NOMUTEX, vfs);
  Database db(raw, options.mode);  // closes on every path below
  Status done = code == SQLITE_OK ? db.set_up(options) : error_of(raw, code, {});
  if (!done.ok()) return std::move(done).error().with(path);
  db.user_ = {};
  return db;
}

Status Database::set_up(const DatabaseOptions& options) {
  sqlite3_extended_result_codes(db_, 1);
  busy_timeout_ms_ = options.busy_timeout_ms;
  sqlite3_busy_timeout(db_, busy_timeout_ms_);
  WEIR_TRY(exec("PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-" +
                std::to_string(options.cache_kib)));
  if (mode_ == OpenMode::kReadOnly) return exec("PRAGMA query_only=ON;");
  // SQLite falls back to reading where it may not write.
  if (sqlite3_db_readonly(db_, "main") != 0) {
    return Error{Errc::kUnavailable, "the file or its file system is read-only"};
  }
  WEIR_TRY(exec("PRAGMA page_size=" + std::to_string(options.page_size) +
                "; PRAGMA auto_vacuum=NONE; PRAGMA foreign_keys=ON; PRAGMA secure_delete=" +
                (options.secure_delete ? "ON" : "OFF")));
  if (options.in_memory) return exec("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF");
  WEIR_TRY(exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"));
  // Memory and some network file systems refuse WAL without an error: readers would block.
  WEIR_TRY_ASSIGN(auto mode, prepare("PRAGMA journal_mode"));
  WEIR_TRY_ASSIGN(const bool row, mode.step());
  if (!row || mode.text(0) != "wal") {
    return Error{Errc::kUnavailable, "the file system does not support SQLite's WAL"};
  }
  int persist = 1;  // the WAL outlives the last writer, so read-only connections always open
  sqlite3_file_control(db_, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
  checkpoints_ = std::make_unique<Checkpoints>();
  checkpoints_->every_pages = options.wal_autocheckpoint;
  sqlite3_wal_hook(db_, Checkpoints::after_commit, checkpoints_.get());
  return {};
}

Status Database::take_checkpoint_failure() {
  check_thread();
  return checkpoints_ ? std::exchange(checkpoints_->failure, Status()) : Status();
}

Result<bool> Database::write_back(std::chrono::milliseconds wait) {
  check_thread();
  sqlite3_busy_timeout(db_, static_cast<int>(wait.count()));
  crash_point("db.checkpoint_before");
  const int code =
      sqlite3_wal_checkpoint_v2(db_, "main", SQLITE_CHECKPOINT_RESTART, nullptr, nullptr);
  crash_point("db.checkpoint_after");
  sqlite3_busy_timeout(db_, busy_timeout_ms_);
  if (code != SQLITE_OK && code_of(code) != Errc::kUnavailable) {
    return error_of(db_, code, "checkpoint");
  }
  return code == SQLITE_OK;
}

Database::Database(Database&& other) noexcept
    : db_(std::exchange(other.db_, nullptr)),
      mode_(other.mode_),
      busy_timeout_ms_(other.busy_timeout_ms_),
      checkpoints_(std::move(other.checkpoints_)),
      pool_(std::move(other.pool_)),
      user_(other.user_) {}

Database& Database::operator=(Database&& other) noexcept {
  if (this != &other) {
    pool_ = std::move(other.pool_);
    sqlite3_close_v2(db_);
    db_ = std::exchange(other.db_, nullptr);
    mode_ = other.mode_;
    busy_timeout_ms_ = other.busy_timeout_ms_;
    checkpoints_ = std::move(other.checkpoints_);
    user_ = other.user_;
  }
  return *this;
}

Database::~Database() {
  pool_.reset();
  sqlite3_close_v2(db_);
}

void Database::check_thread() {
  WEIR_CHECK(db_ != nullptr);
#ifndef NDEBUG
  if (user_ == std::thread::id{}) user_ = std::this_thread::get_id();
  WEIR_CHECK(user_ == std::this_thread::get_id());
#endif
}

Status Database::exec(std::string_view sql) {
  check_thread();
  const std::string text(sql);
  const int code = sqlite3_exec(db_, text.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error_of(db_, code, sql);
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  check_thread();
  if (sqlite3_stmt* const known = pool_->take(sql)) return pool_->lend(known);
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (code != SQLITE_OK) return error_of(db_, code, sql);
  WEIR_CHECK(raw != nullptr);  // an empty statement is our own mistake
  return pool_->lend(raw);
}

Status Database::run(std::string_view sql) {
  WEIR_TRY_ASSIGN(Statement statement, prepare(sql));
  return statement.run();
}

int64_t Database::last_insert_rowid() const { return sqlite3_last_insert_rowid(db_); }

int64_t Database::changes() const { return sqlite3_changes64(db_); }

Status Database::transaction(const std::function<Status()>& fn) {
  check_thread();
  WEIR_CHECK(!in_transaction());  // transactions do not nest
  WEIR_TRY(run(mode_ == OpenMode::kReadOnly ? "BEGIN" : "BEGIN IMMEDIATE"));
  Status done = fn();
  if (done.ok() && !in_transaction()) {
    // A statement whose failure fn passed over has ended the transaction: what followed it stands
    // alone, and no commit can join it to the rest.
    return Error{Errc::kIo, "SQLite: a transaction was rolled back by itself half way"};
  }
  if (done.ok()) done = run("COMMIT");
  // After some failures SQLite has rolled back by itself.
  if (!done.ok() && in_transaction()) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
  if (!done.ok() && done.error().code == Errc::kLimit && checkpoints_) checkpoints_->run(db_);
  return done;
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

void Database::interrupt() { sqlite3_interrupt(db_); }

}  // namespace weir
