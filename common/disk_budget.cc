#include "common/disk_budget.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "common/crash_point.h"

namespace weir {
namespace {

constexpr int kMostCheckpointPages = 1000;  // what SQLite itself does
constexpr uint64_t kPagesOfFiller = 64;     // its table, row and chain
constexpr std::chrono::milliseconds kReaderWait{100};

Result<uint64_t> number(Statement& statement) {
  WEIR_TRY_ASSIGN(const bool row, statement.step());
  if (!row) return Error{Errc::kInternal, "SQLite: a pragma without a value"};
  const uint64_t value = statement.unsigned_integer(0);
  statement.reset();
  return value;
}

}  // namespace

Result<DiskSpace> disk_space(const std::string& path) {
  struct statvfs found {};

  if (::statvfs(path.c_str(), &found) != 0) {
    return Error{Errc::kIo, "statvfs " + path + ": " + std::system_category().message(errno)};
  }
  return DiskSpace{uint64_t{found.f_blocks} * found.f_frsize,
                   uint64_t{found.f_bavail} * found.f_frsize};
}

uint64_t disk_reserve(const DiskBudgetOptions& options, const DiskSpace& space) {
  return std::max(space.total / 20, options.reserve_bytes);
}

int checkpoint_pages(const DiskBudgetOptions& options, int page_size) {
  const uint64_t half = options.step_bytes / 2 / static_cast<uint64_t>(page_size);
  return static_cast<int>(std::clamp<uint64_t>(half, 1, kMostCheckpointPages));
}

std::vector<std::pair<std::string, uint64_t>> counters_of(const DiskUsage& usage) {
  return {{"weir_disk_used_bytes", usage.used_bytes},
          {"weir_disk_file_bytes", usage.file_bytes},
          {"weir_disk_quota_bytes", usage.quota_bytes},
          {"weir_disk_free_bytes", usage.disk_free_bytes},
          {"weir_disk_reserve_bytes", usage.disk_reserve_bytes},
          {"weir_disk_grown_total", usage.grown},
          {"weir_disk_refused_total", usage.refused}};
}

Result<DiskBudget> DiskBudget::open(Database& db, const std::string& path,
                                    DiskBudgetOptions options) {
  DiskBudget budget(db, path, std::move(options));
  WEIR_TRY_ASSIGN(budget.page_size_, db.prepare("PRAGMA page_size"));
  WEIR_TRY_ASSIGN(budget.page_count_, db.prepare("PRAGMA page_count"));
  WEIR_TRY_ASSIGN(budget.free_pages_, db.prepare("PRAGMA freelist_count"));
  WEIR_TRY_ASSIGN(auto filler, db.prepare("SELECT 1 FROM sqlite_schema WHERE name='disk_filler'"));
  WEIR_TRY_ASSIGN(const bool made, filler.step());
  filler.reset();
  if (made) {
    WEIR_TRY_ASSIGN(auto left, db.prepare("SELECT 1 FROM disk_filler LIMIT 1"));
    WEIR_TRY_ASSIGN(budget.filled_, left.step());
    left.reset();
  }
  WEIR_TRY(budget.finish_growth());
  WEIR_TRY(budget.set_page_limit(0));
  return budget;
}

Result<DiskBudget::Pages> DiskBudget::pages() {
  Pages out;
  WEIR_TRY_ASSIGN(out.size, number(page_size_));
  WEIR_TRY_ASSIGN(out.count, number(page_count_));
  WEIR_TRY_ASSIGN(out.free, number(free_pages_));
  return out;
}

// Never below what the file has: so 0 means as it is.
Status DiskBudget::set_page_limit(uint64_t pages) {
  return db_->exec("PRAGMA max_page_count=" + std::to_string(std::max<uint64_t>(pages, 1)));
}

Status DiskBudget::make_room(uint64_t bytes) {
  if (auto failed = db_->take_checkpoint_failure(); !failed && failed.error().code == Errc::kIo) {
    return failed;
  }
  // Pages of large rows are not quite full, and indexes take theirs.
  const uint64_t need = bytes + bytes / 8 + options_.step_bytes / 8;
  const uint64_t wanted = std::max(need, options_.step_bytes / 2);
  WEIR_TRY_ASSIGN(Pages now, pages());
  if (now.free_bytes() < wanted && filled_) {
    WEIR_TRY(finish_growth());
    WEIR_TRY_ASSIGN(now, pages());
  }
  if (now.free_bytes() < wanted && !filled_) {
    WEIR_TRY(grow(now, wanted - now.free_bytes()));
    WEIR_TRY_ASSIGN(now, pages());
  }
  if (now.free_bytes() >= need) return {};
  ++refused_;
  return Error{Errc::kLimit,
               fmt::format("no room on the disk for {} KiB: {} has {} KiB free pages and may not "
                           "grow (limits.disk_reserve)",
                           bytes >> 10, path_, now.free_bytes() >> 10)};
}

// By whole steps. Not at all is no error: then the caller finds no room.
Status DiskBudget::grow(const Pages& pages, uint64_t missing_bytes) {
  const uint64_t steps = (missing_bytes + options_.step_bytes - 1) / options_.step_bytes;
  const uint64_t more = steps * options_.step_bytes;
  if (options_.quota_bytes != 0 && pages.count * pages.size + more > options_.quota_bytes) {
    return {};
  }
  const uint64_t filler = pages.free_bytes() + more;  // it takes the free pages first
  WEIR_TRY_ASSIGN(const DiskSpace space, options_.space(path_));
  // For the file, for the WAL, and a step to spare.
  if (space.free <= disk_reserve(options_, space) + more + filler + options_.step_bytes) return {};
  crash_point("db.grow_before");
  WEIR_TRY(set_page_limit(pages.count + more / pages.size + kPagesOfFiller));
  const Status filled = db_->transaction([&]() -> Status {
    WEIR_TRY(db_->exec("CREATE TABLE IF NOT EXISTS disk_filler(body BLOB NOT NULL)"));
    return db_->exec(fmt::format("INSERT INTO disk_filler VALUES(zeroblob({}))", filler));
  });
  filled_ = filled.ok();
  if (filled.ok()) {
    grown_ += steps;
    crash_point("db.grow_after");
    WEIR_TRY(finish_growth());
  }
  WEIR_TRY(set_page_limit(0));
  // The disk may be fuller than it said.
  if (filled.ok() || filled.error().code == Errc::kLimit) return {};
  return Error(filled.error()).with("growing " + path_);
}

// In one transaction with the filler, no page of it would ever be written.
Status DiskBudget::finish_growth() {
  if (!filled_) return {};
  const auto written = db_->write_back(kReaderWait);
  if (!written.ok() && written.error().code == Errc::kIo) {
    return Error(written.error()).with("growing " + path_);
  }
  // A reader is in the way: the filler stays, so that nobody takes its pages.
  if (!written.ok() || !*written) return {};
  WEIR_TRY(db_->exec("DELETE FROM disk_filler"));
  filled_ = false;
  return {};
}

Result<DiskUsage> DiskBudget::usage() {
  WEIR_TRY_ASSIGN(const Pages now, pages());
  WEIR_TRY_ASSIGN(const DiskSpace space, options_.space(path_));
  return DiskUsage{.used_bytes = (now.count - now.free) * now.size,
                   .file_bytes = now.count * now.size,
                   .quota_bytes = options_.quota_bytes,
                   .disk_free_bytes = space.free,
                   .disk_reserve_bytes = disk_reserve(options_, space),
                   .grown = grown_,
                   .refused = refused_};
}

}  // namespace weir
