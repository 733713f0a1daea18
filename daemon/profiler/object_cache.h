#pragma once
// ObjectCache: the symbol tables of mapped files, one per file whatever processes map it.
//
// Owner: the Symbolizer; one thread (it reads files). Promise: the file read is the file mapped,
// also when it was deleted or lives in a container; nothing but regular files is ever opened for
// reading; no descriptor is kept, so no file system stays busy because of us. Bounded:
// Options::max_bytes and max_objects, least recently used goes first. Cost: one open and stat per
// new mapping; a table is built once per file.

#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <unordered_map>

#include "common/fd.h"
#include "common/result.h"
#include "daemon/profiler/elf_symbols.h"
#include "daemon/profiler/process_maps.h"

namespace weir::daemon {

class ObjectCache {
 public:
  struct Options {
    std::string proc_root = "/proc";
    std::string debug_root = "/usr/lib/debug";  // holds .build-id/ab/cdef.debug
    size_t max_bytes = size_t{32} << 20;
    size_t max_objects = 512;
  };

  explicit ObjectCache(Options options) : options_(std::move(options)) {}

  // The symbols of what `mapping` of process `pid` maps; nullptr if it has no readable file. A file
  // without symbols gives an empty table. Good until the next call.
  const ElfSymbols* symbols(uint32_t pid, Mapping& mapping);

  [[nodiscard]] size_t size() const { return objects_.size(); }

  [[nodiscard]] size_t memory_bytes() const { return memory_bytes_; }

  [[nodiscard]] uint64_t unreadable() const { return unreadable_; }  // mappings not opened

 private:
  // A file as it was when read: an upgraded one is another file even under the same inode number.
  struct Identity {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t size = 0;
    uint64_t modified_ns = 0;  // mod 2^64: a file says of its time what it likes
    friend auto operator<=>(const Identity&, const Identity&) = default;
  };

  struct Object {
    uint64_t id = 0;
    Identity identity;
    ElfSymbols symbols;
  };

  using Objects = std::list<Object>;  // most recently used first

  const ElfSymbols* use(Objects::iterator object);
  const ElfSymbols* add(Mapping& mapping, const Identity& identity, ElfSymbols symbols);
  [[nodiscard]] Fd open(uint32_t pid, const Mapping& mapping) const;
  [[nodiscard]] ElfSymbols read(const Fd& file) const;
  void add_debug_names(ElfSymbols& symbols) const;

  Options options_;
  Objects objects_;
  std::map<Identity, Objects::iterator> by_identity_;
  std::unordered_map<uint64_t, Objects::iterator> by_id_;
  uint64_t next_id_ = 1;
  size_t memory_bytes_ = 0;
  uint64_t unreadable_ = 0;
};

// The symbols of the kernel's vdso: every process has the same one, so ours is read from memory.
[[nodiscard]] Result<ElfSymbols> vdso_symbols(const std::string& proc_root);

}  // namespace weir::daemon
