#pragma once
// What every BPF collector shares: libbpf's messages, capabilities, and the sentence a user gets
// when the kernel says no.
//
// Thread: any; BpfLog captures only what libbpf prints on its own thread. Promise: nothing libbpf
// prints reaches stderr by itself. Cost: none after load.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/result.h"

struct bpf_link;

namespace weir::daemon {

enum class Capability : uint8_t {  // the kernel's numbers
  kDacReadSearch = 2,
  kNetAdmin = 12,
  kSysPtrace = 19,
  kSysAdmin = 21,
  kSyslog = 34,
  kPerfmon = 38,
  kBpf = 39,
  kCheckpointRestore = 40,
};

[[nodiscard]] std::string_view capability_name(Capability capability);  // "CAP_BPF"

// The effective set, one bit each, from the CapEff line of a /proc/PID/status file.
[[nodiscard]] Result<uint64_t> effective_capabilities(
    const std::string& status_path = "/proc/self/status");

// CAP_SYS_ADMIN implies CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN for bpf(2), as in the kernel.
[[nodiscard]] bool has_capability(uint64_t effective, Capability capability);

// The last lines libbpf printed on this thread while this object lives (at most 4 KiB kept).
// One at a time per thread.
class BpfLog {
 public:
  BpfLog();
  ~BpfLog();
  BpfLog(const BpfLog&) = delete;
  BpfLog& operator=(const BpfLog&) = delete;

  [[nodiscard]] std::string_view text() const { return text_; }

  void append(std::string_view line);

 private:
  std::string text_;
};

// Why a collector cannot run, and what to do about it.
struct Obstacle {
  std::string reason;  // "loading requests: Operation not permitted; missing CAP_BPF"
  std::string fix;     // "needs CAP_BPF CAP_PERFMON: AmbientCapabilities=CAP_BPF CAP_PERFMON"
};

// `error` is an errno (either sign) of a failed step `what`; `needed` what the collector needs.
[[nodiscard]] Obstacle explain_bpf_failure(std::string_view what, int error,
                                           std::span<const Capability> needed, uint64_t effective,
                                           std::string_view log);

struct BpfLinkDeleter {
  void operator()(bpf_link* link) const;
};

using BpfLink = std::unique_ptr<bpf_link, BpfLinkDeleter>;  // detaches when it dies

}  // namespace weir::daemon
