#include "daemon/edge_disk.h"

#include <utility>

#include "common/data_dir.h"
#include "common/database_file.h"
#include "common/log.h"

namespace weir::daemon {
namespace {

constexpr int kPageSize = 16384;

Status open_on_disk(const std::string& data_dir, const DiskBudgetOptions& budget,
                    const std::function<Status(Database&)>& use, EdgeDisk& disk) {
  WEIR_TRY_ASSIGN(disk.lock, lock_data_dir(data_dir));
  DatabaseOptions options;
  options.page_size = kPageSize;
  options.wal_autocheckpoint = checkpoint_pages(budget, kPageSize);
  return open_or_replace(disk.path, options, [&]() -> Status {
    disk.budget.reset();
    disk.db.reset();
    WEIR_TRY_ASSIGN(auto db, Database::open(disk.path, options));
    disk.db = std::make_unique<Database>(std::move(db));
    const auto opened = [&]() -> Status {
      WEIR_TRY(use(*disk.db));
      WEIR_TRY_ASSIGN(disk.budget, DiskBudget::open(*disk.db, disk.path, budget));
      return {};
    };
    const Status done = opened();
    if (!done) disk.db.reset();
    return done;
  });
}

}  // namespace

Result<EdgeDisk> open_edge_disk(const std::string& data_dir, const DiskBudgetOptions& budget,
                                const std::function<Status(Database&)>& use) {
  EdgeDisk disk;
  disk.path = data_dir + "/outbox.db";
  const Status opened = open_on_disk(data_dir, budget, use, disk);
  if (opened) return disk;
  const bool locked_out = !disk.lock.valid() && opened.error().code == Errc::kUnavailable;
  if (locked_out || opened.error().code == Errc::kInvalid) return opened.error();
  disk.fault = opened.error().message;
  log::error(
      "data_dir cannot be used ({}): the outbox is in memory, at most {} MiB, and is lost "
      "when this process ends; make {} writable with free space, then restart",
      disk.fault, kMemoryOutboxBytes >> 20, data_dir);
  WEIR_TRY_ASSIGN(auto db, Database::open(disk.path, {.page_size = kPageSize, .in_memory = true}));
  disk.db = std::make_unique<Database>(std::move(db));
  WEIR_TRY(use(*disk.db));
  return disk;
}

}  // namespace weir::daemon
