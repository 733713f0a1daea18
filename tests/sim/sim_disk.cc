#include "tests/sim/sim_disk.h"

#include <utility>

#include "common/check.h"

namespace weir::sim {
namespace {

Database open(const std::string& path) {
  auto db = Database::open(path, Disk::options());
  WEIR_CHECK(db.ok());
  return *std::move(db);
}

uint64_t next_name() {
  static uint64_t last = 0;  // of this process: all worlds share SQLite's names
  return ++last;
}

}  // namespace

DatabaseOptions Disk::options() {
  DatabaseOptions options;
  options.in_memory = true;
  options.page_size = 2048;  // thousands of small databases
  return options;
}

Disk::Disk(std::string name) : name_(std::move(name)) { lose(); }

Disk::Held Disk::open_new() {
  std::string path = name_ + "." + std::to_string(next_name());
  Database anchor = open(path);
  return {std::move(path), std::move(anchor)};
}

void Disk::lose() {
  Held fresh = open_new();
  path_ = fresh.path;
  anchor_.emplace(std::move(fresh.anchor));
}

void Disk::copy() {
  copy_.emplace(open_new());
  const auto done = anchor_->exec("VACUUM INTO '/" + copy_->path + "'");
  WEIR_CHECK(done.ok());
}

void Disk::restore() {
  WEIR_CHECK(copy_.has_value());
  path_ = copy_->path;
  anchor_.emplace(std::move(copy_->anchor));
  copy_.reset();
}

uint64_t number(Database& db, const std::string& sql) {
  auto read = db.prepare(sql);
  WEIR_CHECK(read.ok());
  const auto row = read->step();
  WEIR_CHECK(row.ok());
  return *row ? read->unsigned_integer(0) : 0;
}

}  // namespace weir::sim
