#pragma once
// Disk: what survives a simulated process: one database file in memory, by the same SQLite and the
// same statements as a real one.
//
// Owner: the World; one thread. Promise: a process's death (its connections closed) keeps exactly
// what was committed; lose() leaves nothing; restore() brings back an earlier copy(). committed()
// reads what would survive a death right now. Cost of a copy: that of its bytes.

#include <cstdint>
#include <optional>
#include <string>

#include "common/sqlite.h"
#include "tests/sim/memory_vfs.h"

namespace weir::sim {

class Disk {
 public:
  explicit Disk(const std::string& name);

  [[nodiscard]] const std::string& path() const { return file_.name(); }

  [[nodiscard]] static DatabaseOptions options();

  // Only while no process runs on it.
  void lose();

  void lose_rows(const Bytes& tables) { file_.replace(tables); }  // to these, which are empty

  void restore();

  // Of what is committed; replaces the copy before.
  void copy() { copy_ = contents(); }

  [[nodiscard]] const Bytes& contents() const { return file_.contents(); }

  [[nodiscard]] bool has_copy() const { return copy_.has_value(); }

  // A connection besides the process's own; or its own, kept over its deaths, each of which is
  // followed by roll_back().
  [[nodiscard]] Database& committed();
  void roll_back();

 private:
  MemoryFile file_;
  std::optional<Bytes> copy_;
  std::optional<Database> committed_;
};

// One bit of one body in the outbox, which `random` chooses, if there is one.
void flip_outbox_bit(Database& db, uint64_t random);

// The first column of the first row; 0 without one.
uint64_t number(Database& db, const std::string& sql);

}  // namespace weir::sim
