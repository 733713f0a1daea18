#include "daemon/request_source.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bpf/http_parse.h"
#include "common/mailbox.h"
#include "common/sketch/index_table.h"
#include "daemon/listeners.h"
#include "daemon/profiler/demangle.h"
#include "daemon/request_probe.h"
#include "daemon/routes.h"

namespace weir::daemon {

namespace {

constexpr size_t kMaxKnownSeries = 16'384;  // of the cache only; it starts over when full
constexpr size_t kMaxServices = 1'000;      // with routes of their own
constexpr std::chrono::milliseconds kFinalWait{1000};
constexpr std::chrono::seconds kLongestHarvest{10};
constexpr size_t kMaxInFlight = 2;  // a regular harvest, and the final one behind it
constexpr const char* kOther = "__other__";
constexpr const char* kUnseen = "__unseen__";

std::string_view method_name(uint8_t method) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  return kNames[method < kNames.size() ? method : 0];
}

std::string_view class_name(uint16_t status) {
  static constexpr std::array<std::string_view, 7> kNames = {"unknown", "aborted", "1xx", "2xx",
                                                             "3xx",     "4xx",     "5xx"};
  return kNames[weir_status_class(status)];
}

// A value of bucket `index` nearest to `value`: the kernel's min and max may have lost a race, and
// a distribution's must lie in its first and last filled bucket.
uint64_t clamp_into(const IndexTable& table, uint64_t value, int32_t index) {
  if (value > 0 && table.index(value) == index) return value;
  const auto edge = [&](int32_t i) {  // the lowest value of bucket i
    auto v = static_cast<uint64_t>(std::max(table.lower_edge(i) * 1e9, 1.0));
    while (v > 1 && table.index(v - 1) >= i) --v;
    while (table.index(v) < i) ++v;
    return v;
  };
  return value == 0 || table.index(value) < index ? edge(index) : edge(index + 1) - 1;
}

// Adds a cell to a distribution of the kernel's scale: its buckets are the sketch's own.
void add_cell_as_it_is(Distribution& into, const RequestCell& cell) {
  const IndexTable& table = index_table(WEIR_SCALE, -9);
  const int32_t first = cell.key.octave * WEIR_OCTAVE_BUCKETS - WEIR_BUCKET_BASE;
  int32_t lowest = INT32_MAX;
  int32_t highest = INT32_MIN;
  bool zero = false;
  for (size_t slot = 0; slot < cell.n.size(); ++slot) {
    if (cell.n[slot] == 0) continue;
    if (cell.key.octave == 0 && slot == 0) {
      zero = into.add_zero(cell.n[slot]).ok();
      continue;
    }
    const int32_t index = first + static_cast<int32_t>(slot);
    if (!into.add_bucket(index, cell.n[slot]).ok()) continue;
    lowest = std::min(lowest, index);
    highest = std::max(highest, index);
  }
  if (highest == INT32_MIN) {
    if (zero) into.add_totals(0, 0, 0);
    return;
  }
  into.add_totals(static_cast<Int128>(cell.sum_ns),
                  zero ? 0 : clamp_into(table, cell.min_ns, lowest),
                  clamp_into(table, cell.max_ns, highest));
}

// A coarser one gets the buckets that its own lie in (a finer one is a mistake in
// daemon/config.cc).
void add_cell(Distribution& into, const RequestCell& cell) {
  if (into.scale() == WEIR_SCALE) return add_cell_as_it_is(into, cell);
  Distribution fine(-9, WEIR_SCALE);
  add_cell_as_it_is(fine, cell);
  WEIR_CHECK(into.merge(fine.coarsened(into.scale())).ok());
}

// Kept from harvest to harvest; whoever is not alive is asked for again.
struct CellSeries {
  SeriesHandle duration;
  SeriesHandle request_bytes;
  SeriesHandle response_bytes;
};

struct Metrics {
  Metric duration;
  Metric request_bytes;
  Metric response_bytes;

  explicit Metrics(const std::string& role)
      : duration{"http_" + role + "_request_duration_seconds", Kind::kDistribution, "seconds", -9},
        request_bytes{"http_" + role + "_request_bytes_total", Kind::kCounter, "bytes", 0},
        response_bytes{"http_" + role + "_response_bytes_total", Kind::kCounter, "bytes", 0} {}
};

// A cell's key without its octave.
using SeriesKey = std::array<uint64_t, 3>;

SeriesKey series_key_of(const weir_cell_key& key) {
  return {key.cgroup, uint64_t{key.route} << 32 | uint64_t{key.port} << 16 | key.status,
          uint64_t{key.method} << 16 | uint64_t{key.role} << 8 | key.proto};
}

}  // namespace

class RequestSource::Impl {
 public:
  Impl(const RequestConfig& config, ServiceNames& services)
      : config_(config), services_(services) {}

  void start(SourceContext context);
  void drain(UnixTime now, Drain drain);
  void stop();
  [[nodiscard]] SourceStatus status() const;

 private:
  struct Drained {
    Harvest harvest;
    UnixTime when;
    std::vector<Listener> listeners;  // of the first one only
  };

  // Shared with a job that may still run on the worker when the source is gone.
  struct Shared {
    std::unique_ptr<RequestProbe> probe;
    Mailbox<Drained> results{kMaxInFlight};
  };

  bool post(UnixTime now);
  void take_results();
  void record(const RequestCell& cell, UnixTime when);
  void record_named(const RequestCell& cell, UnixTime when, CellSeries* known);
  void add_values(const RequestCell& cell, UnixTime when, std::span<const LabelView> labels,
                  CellSeries& series);
  bool find(SeriesHandle& kept, const Metric& metric, std::span<const LabelView> labels,
            uint64_t events);
  std::string service_of(const weir_cell_key& key);
  std::string route_of(const weir_cell_key& key, const std::string& service);

  RequestConfig config_;
  ServiceNames& services_;
  std::unique_ptr<SourceContext> context_;
  Obstacle obstacle_{"not started", ""};
  SourceState state_ = SourceState::kUnavailable;
  std::string cgroup_root_;
  std::shared_ptr<Shared> shared_;
  Loop::EntryId entry_ = 0;
  UnixTime previous_{};
  size_t in_flight_ = 0;
  bool asked_listeners_ = false;

  Metrics server_{"server"};
  Metrics client_{"client"};
  std::map<std::pair<uint64_t, uint16_t>, std::string> listeners_;
  std::map<SeriesKey, CellSeries> series_;
  std::map<std::string, std::set<std::string>, std::less<>> routes_;  // by service
  std::array<uint64_t, WEIR_STATS> stats_{};
  uint64_t requests_ = 0;
  uint64_t routes_limited_ = 0;
  uint64_t refused_ = 0;
  uint64_t errors_ = 0;
};

void RequestSource::Impl::start(SourceContext context) {
  context_ = std::make_unique<SourceContext>(context);
  if (!config_.enabled) {
    obstacle_ = {"switched off by configuration", "requests: {enabled: true}"};
    return;
  }
  cgroup_root_ = config_.cgroup_root;
  std::string mount_root = "/";
  if (cgroup_root_.empty()) {
    auto mount = find_cgroup2_mount("/proc/self/mountinfo");
    if (!mount.ok()) {
      obstacle_ = {mount.error().message, "mount -t cgroup2 none /sys/fs/cgroup/unified"};
      return;
    }
    cgroup_root_ = mount->path;
    mount_root = mount->root;
  }
  auto shared = std::make_shared<Shared>();
  shared->probe = RequestProbe::create({.cgroup_root = cgroup_root_,
                                        .capacity = 0,
                                        .memory_budget = config_.memory_budget,
                                        .idle = config_.idle},
                                       obstacle_);
  if (!shared->probe) return;
  shared_ = std::move(shared);
  previous_ = context.clock.now();
  entry_ = context.loop.on_readable(shared_->results.fd(), [this] { take_results(); });
  if (mount_root == "/") {
    state_ = SourceState::kRunning;
    obstacle_ = {};
  } else {
    state_ = SourceState::kDegraded;
    obstacle_ = {"sees only its own cgroup " + mount_root, "run in the host's cgroup namespace"};
  }
}

bool RequestSource::Impl::post(UnixTime now) {
  const auto when = harvest_time(previous_, now);
  const bool listeners = !asked_listeners_;
  const bool posted =
      context_->worker.post([shared = shared_, when, listeners, root = cgroup_root_] {
        Drained result{.harvest = shared->probe->harvest(), .when = when, .listeners = {}};
        if (listeners) result.listeners = listeners_now("/proc", root);
        WEIR_CHECK(shared->results.push(std::move(result)));  // <= kMaxInFlight
      });
  if (!posted) return false;
  previous_ = now;
  asked_listeners_ = true;
  ++in_flight_;
  return true;
}

void RequestSource::Impl::drain(UnixTime now, Drain drain) {
  if (!shared_) return;
  take_results();
  if (drain == Drain::kRegular) {
    if (in_flight_ == 0) post(now);  // a slow swap is waited for, not piled upon
    return;
  }
  if (in_flight_ < kMaxInFlight) post(now);
  const auto deadline = context_->clock.mono() + kFinalWait;
  while (in_flight_ > 0 && context_->clock.mono() < deadline) {
    pollfd ready{.fd = shared_->results.fd(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, static_cast<int>(kFinalWait.count())) == 0) break;
    take_results();
  }
}

void RequestSource::Impl::stop() {
  if (!shared_) return;
  context_->loop.remove(entry_);
  shared_.reset();  // the last owner, here or on the worker, detaches
  state_ = SourceState::kUnavailable;
  obstacle_ = {"stopped", ""};
}

void RequestSource::Impl::take_results() {
  for (auto& result : shared_->results.drain()) {
    --in_flight_;
    for (auto& listener : result.listeners) {
      listeners_.emplace(std::pair(listener.cgroup, listener.port), clean_name(listener.comm));
    }
    stats_ = result.harvest.stats;
    errors_ += result.harvest.errors;
    for (const auto& cell : result.harvest.cells) record(cell, result.when);
    for (const auto& cell : result.harvest.folded) {
      const std::array<LabelView, 4> labels = {
          {{"service", kOther},
           {"http_route", kOther},
           {"http_request_method", "_OTHER"},
           {"http_response_status_class", class_name(cell.key.status)}}};
      CellSeries unkept;
      add_values(cell, result.when, labels, unkept);
    }
  }
}

void RequestSource::Impl::record(const RequestCell& cell, UnixTime when) {
  const auto& recorder = context_->recorder;
  const auto known = series_.find(series_key_of(cell.key));
  if (known == series_.end()) return record_named(cell, when, nullptr);
  CellSeries& series = known->second;
  if (recorder.alive(series.duration) && recorder.alive(series.request_bytes) &&
      recorder.alive(series.response_bytes)) {
    add_values(cell, when, {}, series);
  } else {
    record_named(cell, when, &series);
  }
}

void RequestSource::Impl::record_named(const RequestCell& cell, UnixTime when, CellSeries* known) {
  const weir_cell_key& key = cell.key;
  const auto service = service_of(key);
  const auto route = route_of(key, service.empty() ? "unknown" : service);
  const auto port = std::to_string(key.port);
  const std::array<LabelView, 5> labels = {
      {{"service", service.empty() ? "unknown" : std::string_view(service)},
       {"http_route", route},
       {"http_request_method", method_name(key.method)},
       {"http_response_status_class", class_name(key.status)},
       {"server_port", port}}};
  CellSeries fresh;
  add_values(cell, when, labels, known != nullptr ? *known : fresh);
  // A service without a name may get one later: ask again next time.
  if (known != nullptr || service.empty()) return;
  if (series_.size() >= kMaxKnownSeries) series_.clear();
  series_.emplace(series_key_of(key), fresh);
}

// Each series is asked for just before its use: naming the next one may cost it its place.
void RequestSource::Impl::add_values(const RequestCell& cell, UnixTime when,
                                     std::span<const LabelView> labels, CellSeries& series) {
  auto& recorder = context_->recorder;
  const Metrics& metrics = cell.key.role == WEIR_ROLE_CLIENT ? client_ : server_;
  const uint64_t n = std::accumulate(cell.n.begin(), cell.n.end(), uint64_t{0});
  requests_ += n;
  // Without one, bytes that followed an answer already counted.
  if (n > 0 && find(series.duration, metrics.duration, labels, n)) {
    if (Value* value = recorder.open(series.duration, when, n)) {
      add_cell(std::get<Distribution>(*value), cell);
    }
  }
  if (find(series.request_bytes, metrics.request_bytes, labels, n)) {
    recorder.count(series.request_bytes, when, cell.request_bytes);
  }
  if (find(series.response_bytes, metrics.response_bytes, labels, n)) {
    recorder.count(series.response_bytes, when, cell.response_bytes);
  }
}

bool RequestSource::Impl::find(SeriesHandle& kept, const Metric& metric,
                               std::span<const LabelView> labels, uint64_t events) {
  if (context_->recorder.alive(kept)) return true;
  const auto series = context_->recorder.series(metric, labels, events);
  if (series.ok()) {
    kept = *series;
  } else {
    ++refused_;
  }
  return series.ok();
}

// Empty when nobody can tell. A client's own name is its cgroup's: the port says who served it.
std::string RequestSource::Impl::service_of(const weir_cell_key& key) {
  if (const auto named = services_.service_of(key.cgroup, context_->clock.mono()); !named.empty()) {
    return std::string(named);
  }
  if (key.role == WEIR_ROLE_CLIENT) return {};
  if (auto comm = shared_->probe->listener_of(key.cgroup, key.port); !comm.empty()) {
    return clean_name(comm);  // a process calls itself what it likes
  }
  const auto found = listeners_.find({key.cgroup, key.port});
  return found == listeners_.end() ? std::string{} : found->second;
}

std::string RequestSource::Impl::route_of(const weir_cell_key& key, const std::string& service) {
  if (key.route == WEIR_ROUTE_UNSEEN) return kUnseen;
  if (key.route == WEIR_ROUTE_OTHER) return kOther;
  const auto path = shared_->probe->path_of(key.cgroup, key.route);
  if (!path) return kOther;  // pushed out of the kernel's table by newer routes
  auto route = route_template(path->bytes);
  const bool room = routes_.size() < kMaxServices || routes_.contains(service);
  std::set<std::string> none;
  auto& known = room ? routes_[service] : none;
  if (known.contains(route)) return route;
  if (!room || known.size() >= config_.max_routes_per_service) {
    ++routes_limited_;
    return kOther;
  }
  known.insert(route);
  return route;
}

SourceStatus RequestSource::Impl::status() const {
  SourceStatus out{"requests", state_, obstacle_.reason, obstacle_.fix, {}};
  out.counters.emplace_back("weir_ebpf_requests_total", requests_);
  for (size_t stat = 0; stat < stats_.size(); ++stat) {
    out.counters.emplace_back(request_stat_name(stat), stats_[stat]);
  }
  out.counters.emplace_back("weir_ebpf_routes_limited_total", routes_limited_);
  out.counters.emplace_back("weir_ebpf_series_refused_total", refused_);
  out.counters.emplace_back("weir_ebpf_errors_total", errors_);
  return out;
}

UnixTime harvest_time(UnixTime previous, UnixTime now) {
  const std::chrono::nanoseconds longest = kLongestHarvest;
  return now - std::clamp(now - previous, std::chrono::nanoseconds(0), longest) / 2;
}

RequestSource::RequestSource(const RequestConfig& config, ServiceNames& services)
    : impl_(std::make_unique<Impl>(config, services)) {}

RequestSource::~RequestSource() = default;

void RequestSource::start(SourceContext context) { impl_->start(context); }

void RequestSource::drain(UnixTime now, Drain drain) { impl_->drain(now, drain); }

void RequestSource::stop() { impl_->stop(); }

SourceStatus RequestSource::status() const { return impl_->status(); }

}  // namespace weir::daemon
