#pragma once
// FaultDisk: a disk for SQLite that fails when told to: full after so many bytes, a write cut
// short, EIO on a write or a sync, power lost. A VFS over the system's: files are real ones.
//
// Owner: a test, which opens databases with DatabaseOptions{.vfs = disk.vfs()} and closes them
// before the disk goes. Thread: the test's. Promise: a fault strikes at exactly the step it is
// armed for, so a loop over steps meets every one; power_cut() leaves what a disk may leave that
// reorders and tears writes between syncs: everything synced, and any part of the rest. Names are
// durable when made. Cost: an image of every file in memory, so for small databases.

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace weir {

enum class DiskFault : uint8_t {
  kFull,        // a write stores nothing: SQLITE_FULL
  kShortWrite,  // a write stores its first half: SQLITE_FULL
  kWriteError,  // a write stores its first half: SQLITE_IOERR_WRITE
  kSyncError,   // a sync makes nothing durable: SQLITE_IOERR_FSYNC
  kPowerCut,    // at a write or sync; nothing works from there on
};

class FaultDisk {
 public:
  enum class Strikes : uint8_t { kOnce, kFromThere };

  FaultDisk();
  FaultDisk(const FaultDisk&) = delete;
  FaultDisk& operator=(const FaultDisk&) = delete;
  ~FaultDisk();

  [[nodiscard]] const std::string& vfs() const { return name_; }

  // `fault` strikes at the step-th of the operations it can strike, counted from here from 1.
  void arm(DiskFault fault, uint64_t step, Strikes strikes);

  void disarm() { armed_ = false; }

  [[nodiscard]] bool struck() const { return struck_; }

  // Files may grow by so many bytes in all; then writes that would grow one find the disk full.
  void set_room(uint64_t bytes) { room_ = bytes; }

  // Writes to the (existing) directory what a power cut at this moment leaves of every file.
  void power_cut(std::mt19937_64& random, const std::string& directory) const;

 private:
  struct Vfs;   // of fault_vfs.cc: what SQLite calls
  struct Open;  // an open file, as SQLite allocates it

  struct Change {
    int64_t offset = 0;  // of a truncation: the new size
    Bytes bytes{};
    bool truncates = false;
  };

  struct File {
    Bytes durable;
    std::vector<Change> unsynced;
  };

  static void apply(const Change& change, size_t length, Bytes& image);
  File& file(const std::string& path);
  // What the next operation meets: nothing, or the armed fault.
  [[nodiscard]] bool strikes(bool is_sync);

  std::string name_;
  std::unique_ptr<Vfs> vfs_;
  std::map<std::string, File> files_;  // by path
  bool armed_ = false;
  bool struck_ = false;
  DiskFault fault_ = DiskFault::kFull;
  Strikes strikes_ = Strikes::kOnce;
  uint64_t step_ = 0;
  uint64_t seen_ = 0;
  uint64_t room_ = UINT64_MAX;
};

}  // namespace weir
