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

void flip_outbox_bit(Database& db, uint64_t random) {
  if (number(db, "SELECT count(*) FROM sqlite_schema WHERE name='outbox'") == 0) return;
  const uint64_t rows = number(db, "SELECT count(*) FROM outbox WHERE kind=1");
  if (rows == 0) return;
  auto read = *db.prepare("SELECT id, body FROM outbox WHERE kind=1 LIMIT 1 OFFSET ?");
  const auto row = read.bind(1, random % rows).step();
  WEIR_CHECK(row.ok() && *row);
  Bytes body(read.blob(1).begin(), read.blob(1).end());
  if (body.empty()) return;
  const int64_t id = read.integer(0);
  read.reset();
  const uint64_t bit = random / rows % (body.size() * 8);
  body[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
  auto write = *db.prepare("UPDATE outbox SET body=? WHERE id=?");
  WEIR_CHECK(write.bind(1, ByteView(body)).bind(2, id).run().ok());
}

uint64_t number(Database& db, const std::string& sql) {
  auto read = db.prepare(sql);
  WEIR_CHECK(read.ok());
  const auto row = read->step();
  WEIR_CHECK(row.ok());
  return *row ? read->unsigned_integer(0) : 0;
}

}  // namespace weir::sim
