#include "daemon/profiler/cpu_clock.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <string>

namespace weir::daemon {
namespace {

constexpr uint64_t kTypicalRecordBytes = 512;  // 55 frames

bool take_cpu(std::string_view& text, int& cpu) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (parsed.ec != std::errc{} || cpu < 0 || cpu >= kMaxCpus) return false;
  text.remove_prefix(static_cast<size_t>(parsed.ptr - text.data()));
  return true;
}

}  // namespace

Result<std::vector<int>> parse_cpu_list(std::string_view text) {
  const std::string whole(text);
  const auto bad = [&whole] { return invalid("not a list of CPUs: '" + whole + "'"); };
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  std::vector<int> cpus;
  while (!text.empty()) {
    int first = 0;
    if (!take_cpu(text, first)) return bad();
    int last = first;
    if (text.starts_with('-')) {
      text.remove_prefix(1);
      if (!take_cpu(text, last) || last < first) return bad();
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (text.empty()) break;
    if (text.front() != ',' || text.size() == 1) return bad();
    text.remove_prefix(1);
  }
  if (cpus.empty()) return bad();
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

uint64_t sample_period_ns(uint32_t hz) {
  const uint64_t boosted = uint64_t{hz} * 5;
  return (1'000'000'000 + boosted - 1) / boosted * 5;
}

uint32_t ring_bytes(size_t cpus, uint32_t hz) {
  const uint64_t wanted = uint64_t{2} * cpus * hz * kTypicalRecordBytes;
  return static_cast<uint32_t>(
      std::clamp<uint64_t>(std::bit_ceil(wanted), uint64_t{256} << 10, uint64_t{16} << 20));
}

CpuClock open_cpu_clock(int cpu, uint64_t period_ns) {
  perf_event_attr attr = {};
  attr.size = sizeof attr;
  attr.type = PERF_TYPE_SOFTWARE;
  attr.config = PERF_COUNT_SW_CPU_CLOCK;
  attr.sample_period = period_ns;
  attr.exclude_idle = 1;
  const auto fd = ::syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0) return {.fd = Fd(), .error = errno};
  return {.fd = Fd(static_cast<int>(fd)), .error = 0};
}

}  // namespace weir::daemon
