#pragma once
// Symbolizer: turns the numbers of a sampled stack into frames with names.
//
// Owner: the ProfileSource; runs on the Worker's thread alone (it reads files). Promise: every
// stack becomes frames, whatever it holds; what has no name keeps its place ("module+0x1234"), an
// incomplete stack says why. Bounded: by the caches it owns. Cost: about 1 us a frame once the
// tables are built.
//
// Stacks are root first: the process's name (kUser, module ""); "[truncated:REASON]" (kSpecial) if
// the stack is known not to reach its root; user frames; kernel frames. With frame pointers the
// end of the chain looks alike whether it is the root or a function that keeps no frame pointer:
// only what can be known is marked.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/profile.h"
#include "common/result.h"
#include "daemon/profiler/demangle.h"
#include "daemon/profiler/kallsyms.h"
#include "daemon/profiler/object_cache.h"
#include "daemon/profiler/process_maps.h"
#include "daemon/profiler/stack_sample.h"

namespace weir::daemon {

class Symbolizer {
 public:
  struct Quality {
    bool truncated = false;
    bool unresolved = false;  // the leaf has no name
  };

  // What went short, in totals since the start; copied to the loop thread with each result.
  struct Health {
    bool kernel_names = true;  // false: /proc/kallsyms hides its addresses
    uint64_t processes_denied = 0;
    uint64_t processes_gone = 0;
    uint64_t files_unreadable = 0;
    uint64_t table_bytes = 0;
  };

  explicit Symbolizer(ObjectCache::Options options = {});

  // Reads the kernel's names now instead of at the first kernel stack.
  void warm_up(int64_t now_s) { refresh_kernel(now_s); }

  // Replaces `frames`.
  Quality symbolize(const StackSample& sample, std::vector<Frame>& frames);

  [[nodiscard]] Health health() const;

 private:
  [[nodiscard]] Frame kernel_frame(uint64_t pc, bool& named);
  // False when pc lies in no executable mapping.
  bool user_frame(const StackSample& sample, uint64_t pc, Frame& frame, bool& named);
  Quality add_user_frames(const StackSample& sample, std::vector<Frame>& frames);
  void refresh_kernel(int64_t now_s);

  std::string proc_root_;
  ProcessMaps maps_;
  ObjectCache objects_;
  Demangler names_;
  std::optional<Kallsyms> kernel_;
  std::optional<int64_t> kernel_read_at_s_;
};

// "kworker/0:1-events" -> "kworker": a kernel thread's name without its CPU and number.
[[nodiscard]] std::string kernel_thread_name(std::string_view comm);

}  // namespace weir::daemon
