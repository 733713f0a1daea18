#pragma once
// Disk: what survives a simulated process: one database in memory, by the same SQLite and the same
// statements as a file.
//
// Owner: the World; one thread. Promise: a process's death (its connections closed) keeps exactly
// what was committed; lose() leaves nothing; restore() brings back an earlier copy(). committed()
// reads what would survive a death right now.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/sqlite.h"

namespace weir::sim {

class Disk {
 public:
  explicit Disk(std::string name);

  [[nodiscard]] const std::string& path() const { return path_; }

  [[nodiscard]] static DatabaseOptions options();

  // Only while no process has it open.
  void lose();
  void restore();

  // Of what is committed; replaces the copy before.
  void copy();

  [[nodiscard]] bool has_copy() const { return copy_.has_value(); }

  // A connection besides the process's own.
  [[nodiscard]] Database& committed() { return *anchor_; }

 private:
  // A database in memory lives as long as somebody has it open.
  struct Held {
    std::string path;
    Database anchor;
  };

  Held open_new();

  std::string name_;
  std::string path_;
  std::optional<Database> anchor_;
  std::optional<Held> copy_;
};

// One bit of one body in the outbox, which `random` chooses, if there is one.
void flip_outbox_bit(Database& db, uint64_t random);

// The first column of the first row; 0 without one.
uint64_t number(Database& db, const std::string& sql);

}  // namespace weir::sim
