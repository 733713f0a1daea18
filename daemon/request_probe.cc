#include "daemon/request_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <span>

#ifdef WEIR_BPF
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#endif

#include "bpf/http_parse.h"
#ifdef WEIR_BPF
#include "bpf/requests.skel.h"  // needs the structs above
#endif
#include "common/check.h"
#include "common/fd.h"
#include "common/sketch/index_table.h"

namespace weir::daemon {

static_assert(sizeof(weir_index_slot) == sizeof(IndexSlot), "one table for both sides");

std::string_view request_stat_name(size_t stat) {
  static constexpr std::array<std::string_view, WEIR_STATS> kNames = {
      "weir_ebpf_cells_folded_total",
      "weir_ebpf_routes_other_total",
      "weir_ebpf_orphans_total",
      "weir_ebpf_unmatched_total",
      "weir_ebpf_fifo_overflow_total",
      "weir_ebpf_aborted_total",
      "weir_ebpf_retransmits_total",
      "weir_ebpf_gaps_total",
      "weir_ebpf_early_total",
      "weir_ebpf_ip_options_total",
      "weir_ebpf_opaque_total",
      "weir_ebpf_tls_total",
      "weir_ebpf_http2_total",
      "weir_ebpf_no_storage_total",
      "weir_ebpf_listeners_renamed_total"};
  WEIR_CHECK(stat < kNames.size());
  return kNames[stat];
}

uint32_t cell_capacity(size_t memory_budget, unsigned cpus) {
  const size_t entry = 96 + sizeof(weir_cell) * cpus;
  const size_t fit = memory_budget / (2 * entry);
  return static_cast<uint32_t>(std::clamp(std::bit_floor(fit), size_t{1024}, size_t{16'384}));
}

#ifdef WEIR_BPF

namespace {

constexpr Capability kNeeded[] = {Capability::kBpf, Capability::kPerfmon, Capability::kNetAdmin};
constexpr uint32_t kDrainRows = 512;

struct SkeletonDeleter {
  void operator()(requests_bpf* skeleton) const { requests_bpf__destroy(skeleton); }
};

weir_listener_key listener_key(uint64_t cgroup, uint16_t port) {
  weir_listener_key key{};
  key.cgroup = cgroup;
  key.port = port;
  return key;
}

void add(RequestCell& into, const weir_cell& from) {
  uint64_t any = 0;
  for (size_t i = 0; i < into.n.size(); ++i) {
    into.n[i] += from.n[i];
    any |= from.n[i];
  }
  into.request_bytes += from.request_bytes;
  into.response_bytes += from.response_bytes;
  if (any == 0) return;
  into.sum_ns += from.sum_ns;
  into.min_ns = std::min<uint64_t>(into.min_ns, ~from.min_inverted);
  into.max_ns = std::max<uint64_t>(into.max_ns, from.max_ns);
}

}  // namespace

// One map in use by the kernel, one at rest.
struct MapPair {
  Fd maps[2];
  size_t active = 0;
};

struct RequestProbe::State {
  std::unique_ptr<requests_bpf, SkeletonDeleter> skeleton;
  MapPair cells;
  MapPair fold;
  std::vector<BpfLink> links;
  int idle = -1;  // the iterator over connections, owned by links
  size_t cpus = 1;
  uint64_t folded = 0;  // what the kernel had folded at the last drain

  // The outer update returns after an RCU grace period: nobody writes the old map any more.
  int swap(bpf_map* outer, MapPair& pair) {
    const uint32_t zero = 0;
    const size_t next = pair.active ^ 1;
    const int fd = pair.maps[next].get();
    const int error = bpf_map_update_elem(bpf_map__fd(outer), &zero, &fd, BPF_ANY);
    if (error == 0) pair.active = next;
    return error;
  }

  bool report_idle() const;
  bool drain_cells(std::vector<RequestCell>& out);
  bool drain_fold(std::vector<RequestCell>& out);
  void read_stats(std::array<uint64_t, WEIR_STATS>& out) const;
};

RequestProbe::RequestProbe(std::unique_ptr<State> state) : state_(std::move(state)) {}

RequestProbe::~RequestProbe() = default;

std::unique_ptr<RequestProbe> RequestProbe::create(const Options& options, Obstacle& why) {
  BpfLog log;
  const auto capabilities = effective_capabilities();
  const auto refuse = [&](std::string_view what, int error) {
    why = explain_bpf_failure(what, error, kNeeded, capabilities.ok() ? *capabilities : 0,
                              log.text());
    return nullptr;
  };
  const Fd cgroup(::open(options.cgroup_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (cgroup.get() < 0) return refuse("opening cgroup " + options.cgroup_root, errno);

  auto state = std::make_unique<State>();
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return refuse("counting CPUs", cpus);
  state->cpus = static_cast<size_t>(cpus);
  state->skeleton.reset(requests_bpf__open());
  if (!state->skeleton) return refuse("opening the request program", errno);
  auto& skeleton = *state->skeleton;

  const uint32_t capacity = options.capacity != 0
                                ? options.capacity
                                : cell_capacity(options.memory_budget, static_cast<unsigned>(cpus));
  for (size_t i = 0; i < 2; ++i) {
    state->cells.maps[i] =
        Fd(bpf_map_create(BPF_MAP_TYPE_PERCPU_HASH, "weir_cells", sizeof(weir_cell_key),
                          sizeof(weir_cell), capacity, nullptr));
    state->fold.maps[i] = Fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_fold", sizeof(uint32_t),
                                            sizeof(weir_cell), WEIR_FOLD_CELLS, nullptr));
    if (state->cells.maps[i].get() < 0 || state->fold.maps[i].get() < 0) {
      return refuse("creating request maps", errno);
    }
  }
  skeleton.bss->idle_ns = static_cast<__u64>(options.idle.count());
  const auto slots = index_table(WEIR_SCALE, -9).slots();
  WEIR_CHECK(slots.size() == WEIR_INDEX_SLOTS);
  std::memcpy(&skeleton.rodata->index_slots, slots.data(), slots.size_bytes());
  std::memcpy(&skeleton.rodata->cells_high, std::array{capacity / 4 * 3}.data(), sizeof capacity);
  int error = bpf_map__set_inner_map_fd(skeleton.maps.cells, state->cells.maps[0].get());
  if (error == 0) {
    error = bpf_map__set_inner_map_fd(skeleton.maps.fold, state->fold.maps[0].get());
  }
  if (error == 0) error = requests_bpf__load(&skeleton);
  if (error != 0) return refuse("loading the request program", error);
  state->cells.active = state->fold.active = 1;
  error = state->swap(skeleton.maps.cells, state->cells);
  if (error == 0) error = state->swap(skeleton.maps.fold, state->fold);
  if (error != 0) return refuse("preparing request maps", error);

  // Socket states first: a connection that closes between the two must not leave its requests open.
  const auto attach = [&](bpf_link* link) {
    state->links.emplace_back(link);
    return link != nullptr;
  };
  if (!attach(bpf_program__attach(skeleton.progs.weir_socket_state))) {
    return refuse("attaching to inet_sock_set_state", errno);
  }

  union bpf_iter_link_info conns {};

  conns.map.map_fd = static_cast<__u32>(bpf_map__fd(skeleton.maps.conns));
  LIBBPF_OPTS(bpf_iter_attach_opts, over_conns, .link_info = &conns, .link_info_len = sizeof conns);
  if (!attach(bpf_program__attach_iter(skeleton.progs.weir_idle, &over_conns))) {
    return refuse("attaching to socket storage", errno);
  }
  state->idle = bpf_link__fd(state->links.back().get());
  for (bpf_program* program : {skeleton.progs.weir_ingress, skeleton.progs.weir_egress}) {
    if (!attach(bpf_program__attach_cgroup(program, cgroup.get()))) {
      return refuse("attaching to cgroup " + options.cgroup_root, errno);
    }
  }
  return std::unique_ptr<RequestProbe>(new RequestProbe(std::move(state)));
}

// Reading the iterator to its end runs it once over every connection.
bool RequestProbe::State::report_idle() const {
  const Fd run(bpf_iter_create(idle));
  if (run.get() < 0) return false;
  std::array<char, 64> nothing{};
  ssize_t got = 0;
  do {
    got = ::read(run.get(), nothing.data(), nothing.size());
  } while (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)));
  return got == 0;
}

bool RequestProbe::State::drain_cells(std::vector<RequestCell>& out) {
  const int map = cells.maps[cells.active ^ 1].get();
  const size_t row_bytes = sizeof(weir_cell) * cpus;
  std::vector<weir_cell_key> keys(kDrainRows);
  std::vector<std::byte> values(kDrainRows * row_bytes);
  std::array<uint32_t, 2> cursor{};
  for (bool more = true, first = true; more; first = false) {
    uint32_t rows = kDrainRows;
    const int error =
        bpf_map_lookup_and_delete_batch(map, first ? nullptr : cursor.data(), cursor.data(),
                                        keys.data(), values.data(), &rows, nullptr);
    if (error != 0 && error != -ENOENT) return false;
    more = error == 0;
    for (size_t row = 0; row < rows; ++row) {
      RequestCell cell;
      cell.key = keys[row];
      for (size_t cpu = 0; cpu < cpus; ++cpu) {
        weir_cell part;
        std::memcpy(&part, values.data() + row * row_bytes + cpu * sizeof part, sizeof part);
        add(cell, part);
      }
      out.push_back(cell);
    }
  }
  return true;
}

bool RequestProbe::State::drain_fold(std::vector<RequestCell>& out) {
  const int map = fold.maps[fold.active ^ 1].get();
  bool clean = true;
  const weir_cell zero{};
  for (uint32_t at = 0; at < WEIR_FOLD_CELLS; ++at) {
    weir_cell value{};
    if (bpf_map_lookup_elem(map, &at, &value) != 0) {
      clean = false;
      continue;
    }
    RequestCell cell;
    add(cell, value);
    if (cell.min_ns == UINT64_MAX && cell.request_bytes + cell.response_bytes == 0) continue;
    if (bpf_map_update_elem(map, &at, &zero, BPF_ANY) != 0) {
      clean = false;  // left for the next time rather than counted twice
      continue;
    }
    const uint32_t status_class = at / WEIR_OCTAVES % WEIR_CLASSES;
    const bool client = at / (WEIR_OCTAVES * WEIR_CLASSES) % 2 == 1;
    cell.key.what = at < WEIR_FOLD_HALF ? WEIR_LAST : WEIR_FIRST;
    cell.key.role = client ? WEIR_ROLE_CLIENT : WEIR_ROLE_SERVER;
    cell.key.octave = static_cast<uint8_t>(at % WEIR_OCTAVES);
    cell.key.status =
        static_cast<uint16_t>(status_class < 2 ? status_class : (status_class - 1) * 100);
    out.push_back(cell);
  }
  return clean;
}

void RequestProbe::State::read_stats(std::array<uint64_t, WEIR_STATS>& out) const {
  std::vector<uint64_t> values(cpus);
  for (uint32_t stat = 0; stat < WEIR_STATS; ++stat) {
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton->maps.stats), &stat, values.data()) != 0) continue;
    for (const auto value : values) out[stat] += value;
  }
}

Harvest RequestProbe::harvest(Unfinished counted) {
  Harvest out;
  auto& s = *state_;
  if (counted == Unfinished::kAll) s.skeleton->bss->idle_ns = 0;
  if (!s.report_idle()) ++out.errors;
  if (s.swap(s.skeleton->maps.cells, s.cells) == 0) {
    s.skeleton->bss->cells_used = 0;
    if (!s.drain_cells(out.cells)) ++out.errors;
  } else {
    ++out.errors;
  }
  s.read_stats(out.stats);
  // The second grace period is only worth its wait when something was folded.
  if (const auto folded = out.stats[WEIR_STAT_CELLS_FOLDED]; folded != s.folded) {
    if (s.swap(s.skeleton->maps.fold, s.fold) == 0 && s.drain_fold(out.folded)) {
      s.folded = folded;
    } else {
      ++out.errors;
    }
  }
  return out;
}

std::optional<weir_route_path> RequestProbe::path_of(uint64_t cgroup, uint32_t route) const {
  const weir_route_key key{.cgroup = cgroup, .route = route, .pad = 0};
  weir_route_path path{};
  if (bpf_map_lookup_elem(bpf_map__fd(state_->skeleton->maps.routes), &key, &path) != 0) return {};
  return path;
}

void RequestProbe::add_listeners(const std::vector<Listener>& listeners) {
  const int map = bpf_map__fd(state_->skeleton->maps.listeners);
  for (const auto& listener : listeners) {
    const auto key = listener_key(listener.cgroup, listener.port);
    weir_listener value{};
    value.tgid = listener.tgid;
    listener.comm.copy(value.comm, sizeof value.comm);
    bpf_map_update_elem(map, &key, &value, BPF_NOEXIST);
  }
}

std::optional<weir_listener> RequestProbe::listener_of(uint64_t cgroup, uint16_t port) const {
  const auto key = listener_key(cgroup, port);
  weir_listener value{};
  const int map = bpf_map__fd(state_->skeleton->maps.listeners);
  if (bpf_map_lookup_elem(map, &key, &value) != 0) return {};
  return value;
}

#else  // built without the kernel programs

struct RequestProbe::State {};

RequestProbe::RequestProbe(std::unique_ptr<State> state) : state_(std::move(state)) {}

RequestProbe::~RequestProbe() = default;

std::unique_ptr<RequestProbe> RequestProbe::create(const Options&, Obstacle& why) {
  why = {"this build has no kernel programs", "build with -DWEIR_BPF=ON"};
  return nullptr;
}

Harvest RequestProbe::harvest(Unfinished /*counted*/) { return {}; }

std::optional<weir_route_path> RequestProbe::path_of(uint64_t, uint32_t) const { return {}; }

void RequestProbe::add_listeners(const std::vector<Listener>&) {}

std::optional<weir_listener> RequestProbe::listener_of(uint64_t, uint16_t) const { return {}; }

#endif

}  // namespace weir::daemon
