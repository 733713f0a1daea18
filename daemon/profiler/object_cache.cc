#include "daemon/profiler/object_cache.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

namespace weir::daemon {
namespace {

std::string hex(uint64_t value) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16);
  return {digits, end.ptr};
}

bool is_regular(int fd, struct stat& info) {
  return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

// Opening a device or a pipe has effects, so look first (O_PATH), then open what was looked at.
Fd reopen_regular(const Fd& path, const std::string& proc_root) {
  struct stat info = {};
  if (!path.valid() || !is_regular(path.get(), info)) return {};
  const std::string self = proc_root + "/self/fd/" + std::to_string(path.get());
  return Fd(::open(self.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
}

// Absolute paths and links resolve inside `root`, as the process itself sees them: a plain open
// would follow a container's links into the host.
Fd open_inside(const Fd& root, const std::string& path) {
  if (!root.valid()) return {};
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  return Fd(static_cast<int>(
      ::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));  // NOLINT: no wrapper
}

}  // namespace

const ElfSymbols* ObjectCache::symbols(uint32_t pid, Mapping& mapping) {
  if (mapping.object == Mapping::kNotReadable) return nullptr;
  if (const auto known = by_id_.find(mapping.object); known != by_id_.end()) {
    return use(known->second);
  }
  const bool vdso = mapping.path == "[vdso]";
  Fd file;
  Identity identity;  // the vdso's: all zero, as no file's is
  if (!vdso) {
    if (mapping.inode != 0) file = open(pid, mapping);
    struct stat info = {};
    if (!file.valid() || !is_regular(file.get(), info)) {
      mapping.object = Mapping::kNotReadable;
      ++unreadable_;
      return nullptr;
    }
    identity = {.device = info.st_dev,
                .inode = info.st_ino,
                .size = static_cast<uint64_t>(info.st_size),
                .modified_ns = static_cast<uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                               static_cast<uint64_t>(info.st_mtim.tv_nsec)};
  }
  if (const auto known = by_identity_.find(identity); known != by_identity_.end()) {
    mapping.object = known->second->id;
    return use(known->second);
  }
  if (!vdso) return add(mapping, identity, read(file));
  auto own = vdso_symbols(options_.proc_root);
  return add(mapping, identity, own ? *std::move(own) : ElfSymbols());
}

const ElfSymbols* ObjectCache::use(Objects::iterator object) {
  objects_.splice(objects_.begin(), objects_, object);
  return &object->symbols;
}

const ElfSymbols* ObjectCache::add(Mapping& mapping, const Identity& identity, ElfSymbols symbols) {
  memory_bytes_ += symbols.memory_bytes();
  objects_.push_front({next_id_++, identity, std::move(symbols)});
  by_id_[objects_.front().id] = objects_.begin();
  by_identity_[identity] = objects_.begin();
  mapping.object = objects_.front().id;
  while (objects_.size() > 1 &&
         (memory_bytes_ > options_.max_bytes || objects_.size() > options_.max_objects)) {
    const Object& oldest = objects_.back();
    memory_bytes_ -= oldest.symbols.memory_bytes();
    by_id_.erase(oldest.id);
    by_identity_.erase(oldest.identity);
    objects_.pop_back();
  }
  return &objects_.front().symbols;
}

// The kernel's own link to the mapped file works for deleted files and in containers, but needs
// CAP_CHECKPOINT_RESTORE and a living process. Otherwise by path, if it leads to the same file.
Fd ObjectCache::open(uint32_t pid, const Mapping& mapping) const {
  const std::string process = options_.proc_root + "/" + std::to_string(pid);
  const std::string link = process + "/map_files/" + hex(mapping.start) + "-" + hex(mapping.end);
  if (Fd file = reopen_regular(Fd(::open(link.c_str(), O_PATH | O_CLOEXEC)), options_.proc_root);
      file.valid()) {
    return file;
  }
  struct stat info = {};
  const Fd root(::open((process + "/root").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (Fd file = reopen_regular(open_inside(root, mapping.path), options_.proc_root);
      file.valid() && is_regular(file.get(), info) && info.st_ino == mapping.inode) {
    return file;
  }
  // The process is gone: our own file of that path, device and inode is still the same file.
  const Fd here(::open(mapping.path.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
  if (Fd file = reopen_regular(here, options_.proc_root);
      file.valid() && is_regular(file.get(), info) && info.st_ino == mapping.inode &&
      major(info.st_dev) == mapping.device_major && minor(info.st_dev) == mapping.device_minor) {
    return file;
  }
  return {};
}

ElfSymbols ObjectCache::read(const Fd& file) const {
  const auto input = ElfInput::of_file(file.get());
  if (!input) return {};
  auto symbols = ElfSymbols::parse(*input);
  if (!symbols) return {};  // not ELF, or broken: its frames stay module+offset
  if (!symbols->complete()) add_debug_names(*symbols);
  return *std::move(symbols);
}

// The build id is hex by construction, so it cannot lead out of the folder.
void ObjectCache::add_debug_names(ElfSymbols& symbols) const {
  const std::string& id = symbols.build_id();
  if (id.size() < 4) return;
  const std::string path =
      options_.debug_root + "/.build-id/" + id.substr(0, 2) + "/" + id.substr(2) + ".debug";
  const Fd file = reopen_regular(Fd(::open(path.c_str(), O_PATH | O_CLOEXEC)), options_.proc_root);
  if (!file.valid()) return;
  const auto input = ElfInput::of_file(file.get());
  if (!input) return;
  auto debug = ElfSymbols::parse(*input);
  if (debug && debug->complete() && debug->build_id() == id) {
    symbols.take_names_from(*std::move(debug));
  }
}

Result<ElfSymbols> vdso_symbols(const std::string& proc_root) {
  const uint64_t address = ::getauxval(AT_SYSINFO_EHDR);
  std::ifstream maps(proc_root + "/self/maps");
  const std::string text{std::istreambuf_iterator<char>(maps), {}};
  for (const auto& mapping : parse_maps(text, ProcessMaps::kMaxMappings)) {
    if (mapping.path != "[vdso]" || mapping.start != address) continue;
    const auto* bytes = reinterpret_cast<const std::byte*>(address);  // NOLINT: the kernel says so
    return ElfSymbols::parse(ElfInput({bytes, mapping.end - mapping.start}));
  }
  return Error{Errc::kNotFound, "this process has no vdso"};
}

}  // namespace weir::daemon
