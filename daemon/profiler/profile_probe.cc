#include "daemon/profiler/profile_probe.h"

#ifdef WEIR_BPF

#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bpf/profile.h"
#include "bpf/profile.skel.h"
#include "daemon/profiler/cpu_clock.h"

namespace weir::daemon {
namespace {

constexpr std::array kNeeded = {Capability::kBpf, Capability::kPerfmon};
constexpr const char* kOnlinePath = "/sys/devices/system/cpu/online";

struct SkeletonDeleter {
  void operator()(profile_bpf* skeleton) const { profile_bpf__destroy(skeleton); }
};

struct RingDeleter {
  void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

Result<std::vector<int>> online_cpus() {
  std::ifstream file(kOnlinePath);
  std::string line;
  if (!std::getline(file, line)) return Error{Errc::kIo, std::string("cannot read ") + kOnlinePath};
  return parse_cpu_list(line);
}

}  // namespace

// Members die bottom up: links first, then the ring, then the program and its maps.
struct ProfileProbe::State {
  OnRecord on_record;
  uint64_t period_ns = 0;
  std::unique_ptr<profile_bpf, SkeletonDeleter> skeleton;
  std::unique_ptr<ring_buffer, RingDeleter> ring;
  std::map<int, BpfLink> links;  // by CPU

  // 0, or the errno.
  int attach(int cpu) {
    CpuClock clock = open_cpu_clock(cpu, period_ns);
    if (!clock.fd.valid()) return clock.error;
    bpf_link* link = bpf_program__attach_perf_event(skeleton->progs.sample, clock.fd.get());
    if (link == nullptr) return errno;
    (void)clock.fd.release();  // the link closes it
    links[cpu] = BpfLink(link);
    return 0;
  }
};

std::unique_ptr<ProfileProbe> ProfileProbe::open(uint32_t hz, OnRecord on_record, Obstacle& why) {
  const BpfLog log;
  const auto fail = [&](const char* what, int error) -> std::unique_ptr<ProfileProbe> {
    const auto effective = effective_capabilities();
    why = explain_bpf_failure(what, error, kNeeded, effective ? *effective : 0, log.text());
    return nullptr;
  };
  const auto cpus = online_cpus();
  if (!cpus) {
    why = {cpus.error().message, "mount /sys"};
    return nullptr;
  }
  auto state = std::make_unique<State>();
  state->on_record = std::move(on_record);
  state->period_ns = sample_period_ns(hz);
  state->skeleton.reset(profile_bpf__open());
  if (state->skeleton == nullptr) return fail("opening the profiler's program", errno);
  if (const int error =
          bpf_map__set_max_entries(state->skeleton->maps.records, ring_bytes(cpus->size(), hz));
      error != 0) {
    return fail("sizing the profiler's ring", error);
  }
  if (const int error = profile_bpf__load(state->skeleton.get()); error != 0) {
    return fail("loading the profiler's program", error);
  }
  const auto hand_over = [](void* context, void* data, size_t size) {
    static_cast<State*>(context)->on_record({static_cast<const std::byte*>(data), size});
    return 0;
  };
  state->ring.reset(ring_buffer__new(bpf_map__fd(state->skeleton->maps.records), hand_over,
                                     state.get(), nullptr));
  if (state->ring == nullptr) return fail("mapping the profiler's ring", errno);
  for (const int cpu : *cpus) {
    const int error = state->attach(cpu);
    if (error == ENODEV) continue;  // went offline this moment
    if (error != 0) return fail("attaching the profiler's clock", error);
  }
  return std::unique_ptr<ProfileProbe>(new ProfileProbe(std::move(state)));  // NOLINT: private
}

ProfileProbe::ProfileProbe(std::unique_ptr<State> state) : state_(std::move(state)) {}

ProfileProbe::~ProfileProbe() = default;

int ProfileProbe::fd() const { return ring_buffer__epoll_fd(state_->ring.get()); }

void ProfileProbe::consume() { ring_buffer__consume(state_->ring.get()); }

void ProfileProbe::detach() { state_->links.clear(); }

void ProfileProbe::follow_cpus() {
  const auto online = online_cpus();
  if (!online) return;
  std::map<int, BpfLink> kept;
  for (const int cpu : *online) {
    if (auto known = state_->links.extract(cpu); !known.empty()) kept.insert(std::move(known));
  }
  state_->links.swap(kept);  // what is left in `kept` belongs to CPUs that went
  for (const int cpu : *online) {
    if (state_->links.contains(cpu)) continue;
    if (state_->attach(cpu) != 0) continue;  // offline again, or refused: asked again next time
  }
}

ProfileProbe::Counters ProfileProbe::counters() const {
  Counters out;
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return out;
  std::vector<uint64_t> cells(static_cast<size_t>(cpus));
  const auto total = [&](uint32_t which) {
    if (bpf_map_lookup_elem(bpf_map__fd(state_->skeleton->maps.counters), &which, cells.data()) !=
        0) {
      return uint64_t{0};
    }
    uint64_t sum = 0;
    for (const uint64_t cell : cells) sum += cell;
    return sum;
  };
  out.samples = total(WEIR_PROFILE_SAMPLES);
  out.lost = total(WEIR_PROFILE_LOST);
  return out;
}

size_t ProfileProbe::cpus() const { return state_->links.size(); }

}  // namespace weir::daemon

#else

namespace weir::daemon {

struct ProfileProbe::State {};

std::unique_ptr<ProfileProbe> ProfileProbe::open(uint32_t, OnRecord, Obstacle& why) {
  why = {"this daemon was built without kernel programs", "build it with -DWEIR_BPF=ON"};
  return nullptr;
}

ProfileProbe::ProfileProbe(std::unique_ptr<State> state) : state_(std::move(state)) {}

ProfileProbe::~ProfileProbe() = default;

int ProfileProbe::fd() const { return -1; }

void ProfileProbe::consume() {}

void ProfileProbe::detach() {}

void ProfileProbe::follow_cpus() {}

ProfileProbe::Counters ProfileProbe::counters() const { return {}; }

size_t ProfileProbe::cpus() const { return 0; }

}  // namespace weir::daemon

#endif
