#pragma once
// MemoryFile: a database file in memory that can be copied and put in another's place. SQLite finds
// it by its name through the VFS kMemoryVfs.
//
// Owner: a Disk; one thread. Promise: what SQLite has written is in contents(), in the order of its
// writes; locks are those of a file, so a reader never sees half a COMMIT. No journals: databases
// are opened with DatabaseOptions::in_memory. Cost: a read or write copies a page.

#include <string>

#include "common/bytes.h"

namespace weir::sim {

inline constexpr const char* kMemoryVfs = "weir-sim";

class MemoryFile {
 public:
  explicit MemoryFile(std::string name);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }

  [[nodiscard]] const Bytes& contents() const { return bytes_; }

  // As if another process had written these: open connections notice. Between transactions only;
  // an empty file while nobody has it open.
  void replace(Bytes contents);

 private:
  struct Vfs;   // what SQLite calls
  struct Open;  // an open file, as SQLite allocates it

  std::string name_;
  Bytes bytes_;
  unsigned opened_ = 0;
  unsigned readers_ = 0;          // SHARED or more
  const Open* writer_ = nullptr;  // RESERVED or more
  bool closed_ = false;           // the writer waits for readers to end, or writes
};

}  // namespace weir::sim
