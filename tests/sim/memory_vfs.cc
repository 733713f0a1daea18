#include "tests/sim/memory_vfs.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include <sqlite3.h>

#include "common/check.h"

namespace weir::sim {
namespace {

// Of the header of SQLite's file format.
constexpr size_t kChangeCounter = 24;
constexpr size_t kVersionValidFor = 92;

uint32_t number_at(const Bytes& bytes, size_t at) {
  uint32_t number = 0;
  for (size_t i = 0; i < 4; ++i) number = number << 8 | static_cast<uint32_t>(bytes.at(at + i));
  return number;
}

void put_number(Bytes& bytes, size_t at, uint32_t number) {
  for (size_t i = 0; i < 4; ++i) {
    bytes.at(at + i) = static_cast<std::byte>(number >> (24 - 8 * i) & 0xFF);
  }
}

std::unordered_map<std::string_view, MemoryFile*>& files() {
  static std::unordered_map<std::string_view, MemoryFile*> by_name;
  return by_name;
}

}  // namespace

struct MemoryFile::Open {
  sqlite3_file base{};
  MemoryFile* file = nullptr;
  int level = SQLITE_LOCK_NONE;
};

struct MemoryFile::Vfs {
  static Open* of(sqlite3_file* file) { return reinterpret_cast<Open*>(file); }

  static Bytes& bytes(sqlite3_file* file) { return of(file)->file->bytes_; }

  static int open(sqlite3_vfs* /*vfs*/, const char* path, sqlite3_file* out, int flags, int* got) {
    const auto found = path == nullptr ? files().end() : files().find(path);
    if (found == files().end()) {
      out->pMethods = nullptr;
      return SQLITE_CANTOPEN;
    }
    auto* const file = new (out) Open{.base = {&kMethods}, .file = found->second};
    ++file->file->opened_;
    if (got != nullptr) *got = flags;
    return SQLITE_OK;
  }

  static int close(sqlite3_file* file) {
    unlock(file, SQLITE_LOCK_NONE);
    --of(file)->file->opened_;
    return SQLITE_OK;
  }

  static int read(sqlite3_file* file, void* to, int size, sqlite3_int64 offset) {
    const Bytes& from = bytes(file);
    const auto length = static_cast<size_t>(size);
    const size_t begin = std::min(static_cast<size_t>(offset), from.size());
    const size_t there = std::min(length, from.size() - begin);
    std::memcpy(to, from.data() + begin, there);
    if (there == length) return SQLITE_OK;
    std::memset(static_cast<std::byte*>(to) + there, 0, length - there);
    return SQLITE_IOERR_SHORT_READ;
  }

  static int write(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    Bytes& to = bytes(file);
    const auto begin = static_cast<size_t>(offset);
    const auto length = static_cast<size_t>(size);
    if (to.size() < begin + length) to.resize(begin + length);
    std::memcpy(to.data() + begin, from, length);
    return SQLITE_OK;
  }

  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    bytes(file).resize(static_cast<size_t>(size));
    return SQLITE_OK;
  }

  static int size(sqlite3_file* file, sqlite3_int64* out) {
    *out = static_cast<sqlite3_int64>(bytes(file).size());
    return SQLITE_OK;
  }

  // NONE, SHARED: reads; RESERVED: the one that is going to write; EXCLUSIVE: writes.
  static int lock(sqlite3_file* file, int level) {
    Open* const self = of(file);
    MemoryFile& on = *self->file;
    if (level <= self->level) return SQLITE_OK;
    if (self->level == SQLITE_LOCK_NONE) {
      if (on.closed_) return SQLITE_BUSY;
      ++on.readers_;
      self->level = SQLITE_LOCK_SHARED;
    }
    if (level == SQLITE_LOCK_SHARED) return SQLITE_OK;
    if (on.writer_ != nullptr && on.writer_ != self) return SQLITE_BUSY;
    on.writer_ = self;
    self->level = SQLITE_LOCK_RESERVED;
    if (level == SQLITE_LOCK_RESERVED) return SQLITE_OK;
    on.closed_ = true;
    self->level = SQLITE_LOCK_PENDING;
    if (on.readers_ > 1) return SQLITE_BUSY;
    self->level = level;
    return SQLITE_OK;
  }

  static int unlock(sqlite3_file* file, int level) {
    Open* const self = of(file);
    MemoryFile& on = *self->file;
    if (level >= self->level) return SQLITE_OK;
    if (on.writer_ == self) {
      on.writer_ = nullptr;
      on.closed_ = false;
    }
    if (level == SQLITE_LOCK_NONE) --on.readers_;
    self->level = level;
    return SQLITE_OK;
  }

  static int is_reserved(sqlite3_file* file, int* out) {
    *out = of(file)->file->writer_ != nullptr ? 1 : 0;
    return SQLITE_OK;
  }

  static const sqlite3_io_methods kMethods;
};

const sqlite3_io_methods MemoryFile::Vfs::kMethods = {
    .iVersion = 1,
    .xClose = close,
    .xRead = read,
    .xWrite = write,
    .xTruncate = truncate,
    .xSync = [](sqlite3_file*, int) { return SQLITE_OK; },
    .xFileSize = size,
    .xLock = lock,
    .xUnlock = unlock,
    .xCheckReservedLock = is_reserved,
    .xFileControl = [](sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; },
    .xSectorSize = [](sqlite3_file*) { return 512; },
    .xDeviceCharacteristics =
        [](sqlite3_file*) {
          return SQLITE_IOCAP_ATOMIC | SQLITE_IOCAP_POWERSAFE_OVERWRITE | SQLITE_IOCAP_SAFE_APPEND |
                 SQLITE_IOCAP_SEQUENTIAL;
        },
    .xShmMap = nullptr,  // no WAL, and no mapping
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

MemoryFile::MemoryFile(std::string name) : name_(std::move(name)) {
  static const bool kRegistered = [] {
    // One thread, and nobody asks how much memory SQLite has: no mutexes.
    WEIR_CHECK(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
    WEIR_CHECK(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
    const sqlite3_vfs* const system = sqlite3_vfs_find(nullptr);
    WEIR_CHECK(system != nullptr);
    static sqlite3_vfs vfs = *system;  // randomness and time are the system's
    vfs.pNext = nullptr;
    vfs.zName = kMemoryVfs;
    vfs.szOsFile = static_cast<int>(sizeof(Open));
    vfs.xOpen = Vfs::open;
    vfs.xDelete = [](sqlite3_vfs*, const char*, int) { return SQLITE_OK; };
    vfs.xAccess = [](sqlite3_vfs*, const char*, int, int* out) {
      *out = 0;  // there is no journal
      return SQLITE_OK;
    };
    vfs.xFullPathname = [](sqlite3_vfs*, const char* path, int limit, char* out) {
      return sqlite3_snprintf(limit, out, "%s", path) == out ? SQLITE_OK : SQLITE_CANTOPEN;
    };
    vfs.xSleep = [](sqlite3_vfs*, int microseconds) { return microseconds; };
    return sqlite3_vfs_register(&vfs, 0) == SQLITE_OK;
  }();
  WEIR_CHECK(kRegistered);
  WEIR_CHECK(files().emplace(name_, this).second);
}

MemoryFile::~MemoryFile() {
  WEIR_CHECK(opened_ == 0);
  files().erase(name_);
}

void MemoryFile::replace(Bytes contents) {
  WEIR_CHECK(contents.empty() ? opened_ == 0 : readers_ == 0);
  // A connection that finds a change counter (and the version valid for it) which it does not know
  // reads all anew: the next of this file's, whatever these had.
  const uint32_t counter = bytes_.empty() ? 0 : number_at(bytes_, kChangeCounter) + 1;
  bytes_ = std::move(contents);
  if (counter == 0 || bytes_.empty()) return;
  put_number(bytes_, kChangeCounter, counter);
  put_number(bytes_, kVersionValidFor, counter);
}

}  // namespace weir::sim
