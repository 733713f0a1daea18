#pragma once
// The sampling clock: one software cpu-clock perf event per CPU.
//
// Thread: pure functions, and open_cpu_clock. Bounded: kMaxCpus.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "common/fd.h"
#include "common/result.h"

namespace weir::daemon {

inline constexpr int kMaxCpus = 4096;

// "0-3,8,10-11" -> {0,1,2,3,8,10,11}, as /sys/devices/system/cpu/online spells it.
[[nodiscard]] Result<std::vector<int>> parse_cpu_list(std::string_view text);

// The period of `hz` samples a second, as five times a whole number of nanoseconds: a service
// boosted to 5 * hz then weighs its samples in the same unit. 19 -> 52,631,580.
[[nodiscard]] uint64_t sample_period_ns(uint32_t hz);

// How large a ring holds two seconds of samples of all CPUs: a power of two, 256 KiB to 16 MiB.
[[nodiscard]] uint32_t ring_bytes(size_t cpus, uint32_t hz);

// Counting from the start, not in the idle task.
struct CpuClock {
  Fd fd;
  int error = 0;  // when fd is not valid
};

[[nodiscard]] CpuClock open_cpu_clock(int cpu, uint64_t period_ns);

}  // namespace weir::daemon
