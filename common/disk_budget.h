#pragma once
// DiskBudget: room in a database's file before it is needed, so that a full disk stops appends and
// nothing else: rows can still be deleted and made smaller when not a byte is free.
//
// The file never grows by itself (max_page_count = page_count). While the file system has more than
// a reserve and three steps left, it is grown by a step ahead of need: a filler is committed,
// written back from the WAL, and deleted in a second transaction, so its pages are free ones with
// blocks of the disk behind them. The WAL keeps the length it got from that: it must not be
// truncated.
//
// Owner: whoever owns the Database. Thread: the Database's, between transactions. Promise: after
// make_room(n) returned good, a transaction that stores n bytes finds pages for them; an eighth of
// a step is kept for deletions. Killed at any moment, open() tidies up. Cost: three pragmas; when
// it grows, a step is written twice and synced (docs/adr/0015-disk-budget.md).

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "common/sqlite.h"

namespace weir {

struct DiskSpace {
  uint64_t total = 0;
  uint64_t free = 0;  // for this user
};

// Of the file system that holds `path`.
Result<DiskSpace> disk_space(const std::string& path);

struct DiskBudgetOptions {
  uint64_t step_bytes = uint64_t{32} << 20;
  uint64_t reserve_bytes = uint64_t{256} << 20;  // of the file system, or 5 % of it if that is more
  uint64_t quota_bytes = 0;                      // the file is not made larger; 0: no quota
  std::function<Result<DiskSpace>(const std::string&)> space = disk_space;
};

// What is left to others: of the options' reserve and 5 % of the file system, the larger.
[[nodiscard]] uint64_t disk_reserve(const DiskBudgetOptions& options, const DiskSpace& space);

// Pages until the WAL is written back (DatabaseOptions::wal_autocheckpoint), such that it stays
// within a step.
[[nodiscard]] int checkpoint_pages(const DiskBudgetOptions& options, int page_size);

struct DiskUsage {
  uint64_t used_bytes = 0;  // of the file; the rest of it is free pages
  uint64_t file_bytes = 0;
  uint64_t quota_bytes = 0;         // 0: none
  uint64_t disk_free_bytes = 0;     // of the file system
  uint64_t disk_reserve_bytes = 0;  // of these not to be taken
  uint64_t grown = 0;               // steps since the start
  uint64_t refused = 0;             // make_room() without room since the start
};

// As exported: weir_disk_used_bytes and so on.
[[nodiscard]] std::vector<std::pair<std::string, uint64_t>> counters_of(const DiskUsage& usage);

class DiskBudget {
 public:
  // `db` outlives it. `path` is the database's.
  static Result<DiskBudget> open(Database& db, const std::string& path, DiskBudgetOptions options);

  // Before a transaction that stores so many bytes. kLimit: there is no room for them. kIo: the
  // disk fails; the process must end.
  Status make_room(uint64_t bytes);

  Result<DiskUsage> usage();

 private:
  struct Pages {
    uint64_t size = 0;
    uint64_t count = 0;
    uint64_t free = 0;

    [[nodiscard]] uint64_t free_bytes() const { return free * size; }
  };

  DiskBudget(Database& db, std::string path, DiskBudgetOptions options)
      : db_(&db), path_(std::move(path)), options_(std::move(options)) {}

  Result<Pages> pages();
  Status grow(const Pages& pages, uint64_t missing_bytes);
  Status finish_growth();
  Status set_page_limit(uint64_t pages);

  Database* db_;
  std::string path_;
  DiskBudgetOptions options_;
  Statement page_size_, page_count_, free_pages_;
  bool filled_ = false;  // a filler is committed and not deleted yet
  uint64_t grown_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace weir
