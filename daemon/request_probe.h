#pragma once
// RequestProbe: the kernel half of the request collector as an object: load, attach, swap, drain.
// With daemon/bpf_support.cc the only file of it that includes libbpf.
//
// Owner: RequestSource. Thread: harvest() on the worker; the lookups from any thread (each is one
// bpf(2) call). Promise: detached and unloaded when it dies; a harvest holds everything counted
// since the previous one and nothing twice. Cost: harvest waits for an RCU grace period, 9 ms.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/requests.h"
#include "daemon/bpf_support.h"
#include "daemon/listeners.h"
#include "daemon/requests/kernel_names.h"

namespace weir::daemon {

// The cells of one octave, summed over the CPUs.
struct RequestCell {
  weir_cell_key key{};
  uint64_t sum_ns = 0;
  uint64_t min_ns = UINT64_MAX;
  uint64_t max_ns = 0;
  uint64_t request_bytes = 0;
  uint64_t response_bytes = 0;
  std::array<uint64_t, WEIR_OCTAVE_BUCKETS> n{};
};

struct Harvest {
  std::vector<RequestCell> cells;
  std::vector<RequestCell> folded;           // key: role, octave, and a status of the class
  std::array<uint64_t, WEIR_STATS> stats{};  // since load
  uint64_t errors = 0;                       // bpf(2) calls that failed; their cells come later
};

[[nodiscard]] std::string_view request_stat_name(size_t stat);  // "weir_ebpf_gaps_total"

// Entries of one cell map for a budget: a power of two within 1,024..16,384.
[[nodiscard]] uint32_t cell_capacity(size_t memory_budget, unsigned cpus);

class RequestProbe final : public KernelNames {
 public:
  struct Options {
    std::string cgroup_root;
    uint32_t capacity = 0;  // 0: from memory_budget
    size_t memory_budget = size_t{32} << 20;
    std::chrono::nanoseconds idle = std::chrono::seconds(5);
  };

  // Null, and `why` says so, when something is missing.
  static std::unique_ptr<RequestProbe> create(const Options& options, Obstacle& why);
  ~RequestProbe() override;

  // Exchanges whose answer has begun are counted once they are over or idle; the last harvest
  // counts them all as they stand.
  enum class Unfinished : uint8_t { kIdle, kAll };
  [[nodiscard]] Harvest harvest(Unfinished counted = Unfinished::kIdle);
  // Sockets that listened before the program was attached; what the kernel knows by now stays.
  void add_listeners(const std::vector<Listener>& listeners);
  [[nodiscard]] std::optional<weir_route_path> path_of(uint64_t cgroup,
                                                       uint32_t route) const override;
  [[nodiscard]] std::optional<weir_listener> listener_of(uint64_t cgroup,
                                                         uint16_t port) const override;

 private:
  struct State;
  explicit RequestProbe(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::daemon
