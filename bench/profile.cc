// What the CPU profiler costs: its kernel program, the daemon's part, and memory, while both CPUs
// are busy. Every key of a rate is taken by its own run of the whole source.

#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <bpf/bpf.h>

#include "bench/report.h"
#include "common/fd.h"
#include "daemon/profiler/profile_source.h"

namespace {

using namespace weir;
using namespace weir::daemon;

// One busy process per CPU: a shell that forks and runs small programs, so that there are new
// processes, libraries and kernel work, as on a real host.
class Load {
 public:
  Load() {
    for (long cpu = 0; cpu < ::sysconf(_SC_NPROCESSORS_ONLN); ++cpu) {
      std::string shell = "/bin/sh";
      std::string option = "-c";
      std::string script =
          "while :; do gzip -c /bin/sh | gunzip | sha256sum >/dev/null; "
          "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done";
      char* argv[] = {shell.data(), option.data(), script.data(), nullptr};
      posix_spawnattr_t attributes;
      posix_spawnattr_init(&attributes);
      posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
      pid_t pid = 0;
      if (::posix_spawn(&pid, argv[0], nullptr, &attributes, argv, environ) == 0) {
        pids_.push_back(pid);
      }
      posix_spawnattr_destroy(&attributes);
    }
  }

  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  ~Load() {
    for (const pid_t pid : pids_) ::kill(-pid, SIGKILL);
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
  }

 private:
  std::vector<pid_t> pids_;
};

int64_t own_cpu_ns() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto ns = [](const timeval& t) { return t.tv_sec * 1'000'000'000 + t.tv_usec * 1000; };
  return ns(usage.ru_utime) + ns(usage.ru_stime);
}

double rss_mib() {
  std::ifstream statm("/proc/self/statm");
  double size = 0;
  double resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 1048576;
}

// Run time of the loaded program called "sample", as the kernel keeps it while asked to.
uint64_t program_ns(uint64_t& runs) {
  uint64_t ns = 0;
  runs = 0;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const Fd program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info = {};
    uint32_t size = sizeof info;
    if (!program.valid() || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) continue;
    if (std::string_view(info.name) != "sample") continue;
    ns += info.run_time_ns;
    runs += info.run_cnt;
  }
  return ns;
}

struct Cost {
  double kernel_pct = 0;  // of all CPUs
  double daemon_pct = 0;  // of one CPU
  double ns_per_sample = 0;
  double rss = 0;
  double symbols_mib = 0;
  double lost = 0;
  std::string why;
};

Cost measure(uint32_t hz, std::chrono::seconds time) {
  Cost out;
  const Fd statistics(bpf_enable_stats(BPF_STATS_RUN_TIME));
  SystemClock clock;
  auto loop = Loop::create();
  if (!loop) {
    out.why = loop.error().message;
    return out;
  }
  Worker worker("symbolizer");
  Recorder recorder({}, clock.now());
  ServiceNames services("");
  ProfileSource source({.enabled = true, .hz = hz}, services);
  source.start({**loop, worker, recorder, clock});
  if (source.status().state == SourceState::kUnavailable) {
    out.why = source.status().reason;
    return out;
  }
  const auto turn_for = [&](std::chrono::seconds span) {
    for (MonoTime until = clock.mono() + span; clock.mono() < until;) {
      (*loop)->turn(std::chrono::milliseconds(1000));
      source.drain(clock.now(), Source::Drain::kRegular);
      for (const int64_t window : recorder.open_windows()) {
        if (window + 60 <= unix_seconds(clock.now())) (void)recorder.take(window);
      }
    }
  };
  turn_for(std::chrono::seconds(2));  // tables of what already runs
  uint64_t runs_before = 0;
  uint64_t runs = 0;
  const uint64_t kernel_before = program_ns(runs_before);
  const int64_t daemon_before = own_cpu_ns();
  const int64_t start = bench::now_ns();
  turn_for(time);
  const auto wall = static_cast<double>(bench::now_ns() - start);
  out.daemon_pct = 100 * static_cast<double>(own_cpu_ns() - daemon_before) / wall;
  const auto kernel_ns = static_cast<double>(program_ns(runs) - kernel_before);
  const auto cpus = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  out.kernel_pct = 100 * kernel_ns / wall / cpus;
  out.ns_per_sample = runs > runs_before ? kernel_ns / static_cast<double>(runs - runs_before) : 0;
  out.rss = rss_mib();
  out.symbols_mib = static_cast<double>(source.symbol_bytes()) / 1048576;
  for (const auto& [name, value] : source.status().counters) {
    if (name == "weir_profile_lost_total") out.lost = static_cast<double>(value);
  }
  source.drain(clock.now(), Source::Drain::kFinal);
  source.stop();
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  bench::Report report("profile", argc, argv);
  const std::chrono::seconds time(report.quick() ? 10 : 60);
  const Load load;
  for (const uint32_t hz : {19U, 49U, 99U}) {
    const Cost cost = measure(hz, time);
    const std::string rate = "_" + std::to_string(hz) + "hz";
    if (!cost.why.empty()) {
      report.missing("bpf_cpu_pct" + rate, cost.why);
      report.missing("total_cpu_pct" + rate, cost.why);
      continue;
    }
    report.figure("bpf_cpu_pct" + rate, cost.kernel_pct, "% of host",
                  hz == 19 ? "<= 0.05" : (hz == 99 ? "<= 0.3" : ""));
    report.figure("daemon_cpu_pct" + rate, cost.daemon_pct, "% of a CPU");
    report.figure(
        "total_cpu_pct" + rate,
        cost.kernel_pct + cost.daemon_pct / static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN)),
        "% of host", hz == 19 ? "< 1" : "");
    report.figure("bpf_us_per_sample" + rate, cost.ns_per_sample / 1000, "us", "<= 20");
    report.figure("lost" + rate, cost.lost, "samples", "0");
    if (hz == 19) {
      report.figure("rss_mib", cost.rss, "MiB", "<= 64");
      report.figure("tables_mib", cost.symbols_mib, "MiB", "<= 10");
    }
  }
  for (const char* program : {"nginx", "redis", "postgres", "cpp", "python", "node"}) {
    report.missing(std::string("complete_pct_") + program,
                   "frame pointers cannot tell a complete stack; table unwinding will");
  }
  return report.print();
}
