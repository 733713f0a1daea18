#pragma once
// What is mapped executable in a process, from /proc/PID/maps, remembered per process image.
//
// Owner: the Symbolizer; one thread. Promise: an answer is about the image that was sampled:
// another process under the same pid is noticed by its start time, an exec by the image's exec
// count. Bounded: kMaxProcesses, kMaxAllMappings, least recently used goes first. Cost: one read of
// /proc per new image or miss (at most one reload per image and `now` second).

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/result.h"

namespace weir::daemon {

// One process image: pid, when it started, how often it called exec.
struct ProcessImage {
  uint32_t pid = 0;
  uint64_t start_ns = 0;  // CLOCK_BOOTTIME
  uint64_t exec_id = 0;
  friend auto operator<=>(const ProcessImage&, const ProcessImage&) = default;
};

// One executable mapping.
struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t file_offset = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  uint64_t inode = 0;  // 0: anonymous, or the kernel's ([vdso])
  std::string path;    // as /proc says; may end in " (deleted)"
  std::string module;  // what a person calls it: "libc.so.6", "[vdso]", "[anon]"; cleaned

  // Which file it is once opened: an id of the ObjectCache, or kNotOpened / kNotReadable.
  static constexpr uint64_t kNotOpened = 0;
  static constexpr uint64_t kNotReadable = UINT64_MAX;
  uint64_t object = kNotOpened;
};

// The executable mappings of a maps file, by address; lines that make no sense are left out.
[[nodiscard]] std::vector<Mapping> parse_maps(std::string_view text, size_t max_mappings);

// Field 22 of a stat file: start time in clock ticks since boot. The name before it may hold
// anything.
[[nodiscard]] std::optional<uint64_t> start_ticks(std::string_view stat);

class ProcessMaps {
 public:
  static constexpr size_t kMaxProcesses = 1024;
  static constexpr size_t kMaxMappings = 4096;       // of one process
  static constexpr size_t kMaxAllMappings = 65'536;  // some 12 MiB
  static constexpr size_t kMaxMapsBytes = size_t{16} << 20;

  explicit ProcessMaps(std::string proc_root) : proc_(std::move(proc_root)) {}

  enum class Loaded : uint8_t { kYes, kGone, kDenied };

  // The mapping that holds `pc`; nullptr if there is none or the process cannot be read. The
  // pointer is good until the next call. `now_s` only spaces out reloads.
  Mapping* find(const ProcessImage& image, uint64_t pc, int64_t now_s);

  // Reads the mappings of an image now, while it lives, unless they are known.
  Loaded load(const ProcessImage& image, int64_t now_s);

  [[nodiscard]] size_t size() const { return entries_.size(); }

  [[nodiscard]] size_t all_mappings() const { return all_mappings_; }

  [[nodiscard]] uint64_t denied() const { return denied_; }  // images we may not read

  [[nodiscard]] uint64_t gone() const { return gone_; }  // images that ended before we looked

 private:
  struct Entry {
    ProcessImage image;
    Loaded state = Loaded::kGone;
    int64_t read_at_s = 0;
    std::vector<Mapping> mappings;
  };

  Entry& entry_of(const ProcessImage& image, int64_t now_s);
  void read(Entry& entry);
  void forget_oldest();

  std::string proc_;
  std::list<Entry> entries_;  // most recently used first
  std::map<ProcessImage, std::list<Entry>::iterator> by_image_;
  size_t all_mappings_ = 0;
  uint64_t denied_ = 0;
  uint64_t gone_ = 0;
};

}  // namespace weir::daemon
