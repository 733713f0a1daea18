#pragma once
// What an edge stores on: the database in its data_dir, or memory when the disk cannot be used, so
// that a broken disk costs a host its outbox and not its measurements.
//
// Owner: run_daemon(). Thread: the loop. Promise: what a database holds never fails a start
// (common/database_file.h); a data_dir that is full, read-only or forbidden gives memory, with the
// reason; only another process in the same data_dir is an error.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/disk_budget.h"
#include "common/fd.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::daemon {

// Of an outbox in memory, at most.
constexpr uint64_t kMemoryOutboxBytes = uint64_t{64} << 20;

struct EdgeDisk {
  std::string path;              // of the database
  Fd lock;                       // of data_dir
  std::unique_ptr<Database> db;  // where the budget finds it
  std::optional<DiskBudget> budget;
  std::string fault;  // why this is memory; empty: it is the disk

  [[nodiscard]] bool in_memory() const { return !fault.empty(); }
};

// `use` opens everything the edge keeps in the database; kInvalid from it is an error here.
Result<EdgeDisk> open_edge_disk(const std::string& data_dir, const DiskBudgetOptions& budget,
                                const std::function<Status(Database&)>& use);

}  // namespace weir::daemon
