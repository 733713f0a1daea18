#include "tests/fakes/fault_vfs.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include <sqlite3.h>

#include "common/check.h"

namespace weir {
namespace {

constexpr size_t kSector = 512;  // a write is torn between sectors

Bytes read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

}  // namespace

struct FaultDisk::Open {
  sqlite3_file base{};
  FaultDisk* disk = nullptr;
  File* file = nullptr;          // null: a file without a name
  sqlite3_file* real = nullptr;  // behind this struct, in the room SQLite made
};

struct FaultDisk::Vfs {
  sqlite3_vfs base{};
  sqlite3_io_methods methods{};
  sqlite3_vfs* real = nullptr;
  FaultDisk* disk = nullptr;

  static Open* of(sqlite3_file* file) { return reinterpret_cast<Open*>(file); }

  static sqlite3_file* real_of(sqlite3_file* file) { return of(file)->real; }

  static Vfs* of(sqlite3_vfs* vfs) { return static_cast<Vfs*>(vfs->pAppData); }

  static bool dead(sqlite3_file* file) {
    const FaultDisk& disk = *of(file)->disk;
    return disk.struck_ && disk.fault_ == DiskFault::kPowerCut;
  }

  static int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* out, int flags, int* got) {
    Open* file = of(out);
    file->disk = of(vfs)->disk;
    file->file = path != nullptr ? &file->disk->file(path) : nullptr;
    file->real = reinterpret_cast<sqlite3_file*>(file + 1);
    const int code = of(vfs)->real->xOpen(of(vfs)->real, path, file->real, flags, got);
    file->base.pMethods = code == SQLITE_OK ? &of(vfs)->methods : nullptr;
    return code;
  }

  static int remove(sqlite3_vfs* vfs, const char* path, int sync) {
    of(vfs)->disk->files_.erase(path);
    return of(vfs)->real->xDelete(of(vfs)->real, path, sync);
  }

  static int close(sqlite3_file* file) { return real_of(file)->pMethods->xClose(real_of(file)); }

  static int read(sqlite3_file* file, void* to, int size, sqlite3_int64 offset) {
    if (dead(file)) return SQLITE_IOERR_READ;
    return real_of(file)->pMethods->xRead(real_of(file), to, size, offset);
  }

  static int store(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    const int code = real_of(file)->pMethods->xWrite(real_of(file), from, size, offset);
    if (code != SQLITE_OK || of(file)->file == nullptr) return code;
    const auto* begin = static_cast<const std::byte*>(from);
    of(file)->file->unsynced.push_back({offset, Bytes(begin, begin + size)});
    return code;
  }

  static int write(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    if (dead(file)) return SQLITE_IOERR_WRITE;
    FaultDisk& disk = *of(file)->disk;
    if (disk.strikes(false)) {
      const bool half = disk.fault_ != DiskFault::kFull && disk.fault_ != DiskFault::kPowerCut;
      if (half && size > 1) store(file, from, size / 2, offset);
      const bool full = disk.fault_ == DiskFault::kFull || disk.fault_ == DiskFault::kShortWrite;
      return full ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    sqlite3_int64 end = 0;
    real_of(file)->pMethods->xFileSize(real_of(file), &end);
    const auto grows = static_cast<uint64_t>(std::max<sqlite3_int64>(0, offset + size - end));
    if (grows > disk.room_) return SQLITE_FULL;
    if (disk.room_ != UINT64_MAX) disk.room_ -= grows;
    return store(file, from, size, offset);
  }

  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    if (dead(file)) return SQLITE_IOERR_TRUNCATE;
    if (of(file)->file != nullptr) {
      of(file)->file->unsynced.push_back({.offset = size, .truncates = true});
    }
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
  }

  // The system need not be asked: the durable image says what a power cut would leave.
  static int sync(sqlite3_file* file, int /*flags*/) {
    if (dead(file) || of(file)->disk->strikes(true)) return SQLITE_IOERR_FSYNC;
    if (File* state = of(file)->file; state != nullptr) {
      for (const Change& change : state->unsynced) {
        apply(change, change.bytes.size(), state->durable);
      }
      state->unsynced.clear();
    }
    return SQLITE_OK;
  }

  static int size(sqlite3_file* file, sqlite3_int64* out) {
    return real_of(file)->pMethods->xFileSize(real_of(file), out);
  }

  static int lock(sqlite3_file* file, int level) {
    return real_of(file)->pMethods->xLock(real_of(file), level);
  }

  static int unlock(sqlite3_file* file, int level) {
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
  }

  static int check_lock(sqlite3_file* file, int* out) {
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
  }

  static int control(sqlite3_file* file, int what, void* value) {
    return real_of(file)->pMethods->xFileControl(real_of(file), what, value);
  }

  static int sector(sqlite3_file* file) {
    return real_of(file)->pMethods->xSectorSize(real_of(file));
  }

  static int traits(sqlite3_file* file) {
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
  }

  static int shm_map(sqlite3_file* file, int page, int size, int extend, volatile void** out) {
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, out);
  }

  static int shm_lock(sqlite3_file* file, int offset, int count, int flags) {
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
  }

  static void shm_barrier(sqlite3_file* file) {
    real_of(file)->pMethods->xShmBarrier(real_of(file));
  }

  static int shm_unmap(sqlite3_file* file, int remove) {
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove);
  }
};

FaultDisk::FaultDisk() : vfs_(std::make_unique<Vfs>()) {
  static uint64_t made = 0;
  name_ = "weir-fault-" + std::to_string(++made);
  Vfs& vfs = *vfs_;
  vfs.disk = this;
  vfs.real = sqlite3_vfs_find(nullptr);
  WEIR_CHECK(vfs.real != nullptr);
  vfs.base = *vfs.real;
  vfs.base.pNext = nullptr;
  vfs.base.zName = name_.c_str();
  vfs.base.pAppData = &vfs;
  vfs.base.szOsFile = static_cast<int>(sizeof(Open)) + vfs.real->szOsFile;
  vfs.base.xOpen = Vfs::open;
  vfs.base.xDelete = Vfs::remove;
  // The rest of these take the system's VFS.
  vfs.base.xAccess = [](sqlite3_vfs* v, const char* path, int flags, int* out) {
    return Vfs::of(v)->real->xAccess(Vfs::of(v)->real, path, flags, out);
  };
  vfs.base.xFullPathname = [](sqlite3_vfs* v, const char* path, int size, char* out) {
    return Vfs::of(v)->real->xFullPathname(Vfs::of(v)->real, path, size, out);
  };
  vfs.methods = {.iVersion = 2,  // without memory mapping
                 .xClose = Vfs::close,
                 .xRead = Vfs::read,
                 .xWrite = Vfs::write,
                 .xTruncate = Vfs::truncate,
                 .xSync = Vfs::sync,
                 .xFileSize = Vfs::size,
                 .xLock = Vfs::lock,
                 .xUnlock = Vfs::unlock,
                 .xCheckReservedLock = Vfs::check_lock,
                 .xFileControl = Vfs::control,
                 .xSectorSize = Vfs::sector,
                 .xDeviceCharacteristics = Vfs::traits,
                 .xShmMap = Vfs::shm_map,
                 .xShmLock = Vfs::shm_lock,
                 .xShmBarrier = Vfs::shm_barrier,
                 .xShmUnmap = Vfs::shm_unmap,
                 .xFetch = nullptr,
                 .xUnfetch = nullptr};
  WEIR_CHECK(sqlite3_vfs_register(&vfs.base, 0) == SQLITE_OK);
}

FaultDisk::~FaultDisk() { sqlite3_vfs_unregister(&vfs_->base); }

void FaultDisk::arm(DiskFault fault, uint64_t step, Strikes strikes) {
  armed_ = true;
  struck_ = false;
  fault_ = fault;
  step_ = step;
  strikes_ = strikes;
  seen_ = 0;
}

bool FaultDisk::strikes(bool is_sync) {
  if (!armed_) return false;
  const bool for_syncs = fault_ == DiskFault::kSyncError;
  if (fault_ != DiskFault::kPowerCut && for_syncs != is_sync) return false;
  ++seen_;
  const bool now = strikes_ == Strikes::kOnce ? seen_ == step_ : seen_ >= step_;
  struck_ = struck_ || now;
  return now;
}

FaultDisk::File& FaultDisk::file(const std::string& path) {
  const auto [at, fresh] = files_.try_emplace(path);
  if (fresh) at->second.durable = read_all(path);  // made before this disk was there
  return at->second;
}

void FaultDisk::apply(const Change& change, size_t length, Bytes& image) {
  const auto offset = static_cast<size_t>(change.offset);
  if (change.truncates) return image.resize(std::min(offset, image.size()));
  if (image.size() < offset + length) image.resize(offset + length);
  std::copy_n(change.bytes.begin(), length, image.begin() + change.offset);
}

void FaultDisk::power_cut(std::mt19937_64& random, const std::string& directory) const {
  for (const auto& [path, file] : files_) {
    Bytes image = file.durable;
    for (const Change& change : file.unsynced) {
      size_t length = change.bytes.size();
      const uint64_t dice = random() % 4;
      if (dice < 2) continue;                                               // never written
      if (dice == 2) length = random() % (length / kSector + 1) * kSector;  // torn
      apply(change, std::min(length, change.bytes.size()), image);
    }
    const std::string name = std::filesystem::path(path).filename().string();
    std::ofstream out(directory + "/" + name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(image.data()),
              static_cast<std::streamsize>(image.size()));
    WEIR_CHECK(out.good());
  }
}

}  // namespace weir
