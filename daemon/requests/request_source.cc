#include "daemon/requests/request_source.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/mailbox.h"
#include "daemon/listeners.h"
#include "daemon/request_probe.h"
#include "daemon/requests/request_labels.h"
#include "daemon/requests/request_series.h"

namespace weir::daemon {

namespace {

constexpr std::chrono::milliseconds kFinalWait{1000};
constexpr std::chrono::seconds kLongestHarvest{10};
constexpr size_t kMaxInFlight = 2;  // a regular harvest, and the final one behind it

}  // namespace

class RequestSource::Impl {
 public:
  Impl(const RequestConfig& config, ServiceNames& services)
      : config_(config), labels_(config.max_routes_per_service, services) {}

  void start(SourceContext context);
  void drain(UnixTime now, Drain drain);
  void stop();
  [[nodiscard]] SourceStatus status() const;

 private:
  struct Drained {
    Harvest harvest;
    UnixTime when;
  };

  // Shared with a job that may still run on the worker when the source is gone.
  struct Shared {
    std::unique_ptr<RequestProbe> probe;
    Mailbox<Drained> results{kMaxInFlight};
  };

  bool post(UnixTime now, RequestProbe::Unfinished counted);
  void take_results();

  RequestConfig config_;
  std::unique_ptr<SourceContext> context_;
  Obstacle obstacle_{"not started", ""};
  SourceState state_ = SourceState::kUnavailable;
  std::string cgroup_root_;
  std::shared_ptr<Shared> shared_;
  Loop::EntryId entry_ = 0;
  UnixTime previous_{};
  size_t in_flight_ = 0;
  bool asked_listeners_ = false;

  RequestLabels labels_;
  RequestSeries series_{labels_};
  std::array<uint64_t, WEIR_STATS> stats_{};
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

bool RequestSource::Impl::post(UnixTime now, RequestProbe::Unfinished counted) {
  const auto when = harvest_time(previous_, now);
  const bool listeners = !asked_listeners_;
  const bool posted =
      context_->worker.post([shared = shared_, when, listeners, counted, root = cgroup_root_] {
        Drained result{.harvest = shared->probe->harvest(counted), .when = when};
        if (listeners) shared->probe->add_listeners(listeners_now("/proc", root));
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
    if (in_flight_ == 0)
      post(now, RequestProbe::Unfinished::kIdle);  // a slow swap is waited for, not piled upon
    return;
  }
  if (in_flight_ < kMaxInFlight) post(now, RequestProbe::Unfinished::kAll);
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
    stats_ = result.harvest.stats;
    errors_ += result.harvest.errors;
    const auto mono = context_->clock.mono();
    const RequestHarvest harvest{context_->recorder, *shared_->probe, result.when, mono};
    labels_.begin_harvest(stats_[WEIR_STAT_LISTENERS_RENAMED], mono);
    for (const auto& cell : result.harvest.cells) series_.record(cell, harvest);
    for (const auto& cell : result.harvest.folded) series_.record_folded(cell, harvest);
  }
}

SourceStatus RequestSource::Impl::status() const {
  SourceStatus out{"requests", state_, obstacle_.reason, obstacle_.fix, {}};
  out.counters.emplace_back("weir_ebpf_requests_total", series_.requests());
  for (size_t stat = 0; stat < stats_.size(); ++stat) {
    out.counters.emplace_back(request_stat_name(stat), stats_[stat]);
  }
  out.counters.emplace_back("weir_ebpf_routes_limited_total", labels_.routes_limited());
  out.counters.emplace_back("weir_ebpf_paths_evicted_total", labels_.paths_evicted());
  out.counters.emplace_back("weir_ebpf_series_refused_total", series_.refused());
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
