#include "tests/sim/sim_disk.h"

#include <utility>

#include "common/check.h"

namespace weir::sim {
namespace {

uint64_t next_number() {
  static uint64_t last = 0;  // of this process: all worlds share SQLite's names
  return ++last;
}

}  // namespace

DatabaseOptions Disk::options() {
  DatabaseOptions options;
  options.in_memory = true;
  options.vfs = kMemoryVfs;
  options.page_size = 2048;  // thousands of small databases
  return options;
}

Disk::Disk(const std::string& name) : file_(name + "." + std::to_string(next_number())) {}

void Disk::lose() {
  committed_.reset();
  file_.replace({});
}

void Disk::restore() {
  WEIR_CHECK(copy_.has_value());
  const Bytes old = *std::exchange(copy_, {});
  old.empty() ? lose() : file_.replace(old);
}

Database& Disk::committed() {
  if (!committed_) {
    auto db = Database::open(path(), options());
    WEIR_CHECK(db.ok());
    committed_.emplace(*std::move(db));
  }
  return *committed_;
}

void Disk::roll_back() {
  if (!committed_) return;
  [[maybe_unused]] const Status done = committed_->exec("ROLLBACK");  // fails without a transaction
}

void flip_outbox_bit(Database& db, uint64_t random) {
  auto count = db.prepare("SELECT count(*) FROM outbox WHERE kind=1");
  if (!count.ok() || !*count->step()) return;  // it has no tables yet
  const uint64_t rows = count->unsigned_integer(0);
  count->reset();
  if (rows == 0) return;
  auto read = *db.prepare("SELECT id, body FROM outbox WHERE kind=1 LIMIT 1 OFFSET ?");
  const auto row = read.bind(1, random % rows).step();
  WEIR_CHECK(row.ok() && *row);
  const ByteView stored = read.blob(1);
  Bytes body;
  body.assign(stored.begin(), stored.end());
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
