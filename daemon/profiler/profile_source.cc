#include "daemon/profiler/profile_source.h"

#include <poll.h>

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/mailbox.h"
#include "common/profile.h"
#include "daemon/profiler/profile_probe.h"
#include "daemon/profiler/stack_sample.h"
#include "daemon/profiler/symbolizer.h"

namespace weir::daemon {
namespace {

constexpr size_t kMaxInFlight = 4;
constexpr std::chrono::seconds kFollowCpusEvery{10};
constexpr std::chrono::milliseconds kFinalDrainLimit{900};
constexpr std::string_view kLostService = "__lost__";
constexpr std::string_view kKernelService = "kernel";

Metric cpu_metric() {
  return {.name = "cpu", .kind = Kind::kProfile, .unit = "nanoseconds", .quantum = -9};
}

// A batch with names: one profile per service and second.
struct Named {
  struct Part {
    std::string service;
    int64_t unix_s = 0;
    Profile profile;
  };

  std::vector<Part> parts;
  Symbolizer::Health health;
};

Named name_batch(Symbolizer& symbolizer, const std::vector<StackSample>& stacks) {
  std::map<std::pair<std::string, int64_t>, Profile> profiles;
  std::vector<Frame> frames;
  for (const auto& stack : stacks) {
    const auto quality = symbolizer.symbolize(stack, frames);
    Profile& profile = profiles[{stack.service, stack.unix_s}];
    profile.add(frames, stack.ns, stack.samples);
    profile.add_quality({.lost = 0,
                         .truncated = quality.truncated ? stack.samples : 0,
                         .unresolved = quality.unresolved ? stack.samples : 0});
  }
  Named out{.parts = {}, .health = symbolizer.health()};
  for (auto& [key, profile] : profiles) {
    out.parts.push_back({key.first, key.second, std::move(profile)});
  }
  return out;
}

// What a batch on the worker needs. Shared, because a batch may still wait there when the source
// is gone.
struct Back {
  Symbolizer symbolizer;
  Mailbox<Named> done{kMaxInFlight};
};

}  // namespace

class ProfileSource::Impl {
 public:
  Impl(const ProfileConfig& config, ServiceNames& services) : config_(config), services_(services) {
    WEIR_CHECK(config.hz >= kMinProfileHz && config.hz <= kMaxProfileHz);
  }

  void start(SourceContext context) {
    WEIR_CHECK(!probe_);
    if (!config_.enabled) {
      obstacle_ = {"switched off in the configuration", "set profile: {enabled: true}"};
      return;
    }
    context_.emplace(context);
    back_ = std::make_shared<Back>();
    back_->symbolizer.warm_up(unix_seconds(context.clock.now()));  // not yet the worker's
    health_ = back_->symbolizer.health();
    probe_ = ProfileProbe::open(
        config_.hz, [this](ByteView record) { take(record); }, obstacle_);
    if (!probe_) {
      back_.reset();
      return;
    }
    followed_at_ = context.clock.mono();
    entries_.push_back(context.loop.on_readable(probe_->fd(), [this] {
      probe_->consume();
      send_batch();
    }));
    entries_.push_back(context.loop.on_readable(back_->done.fd(), [this] { collect(); }));
  }

  void drain(UnixTime now, Drain drain) {
    if (!probe_) return;
    if (drain == Drain::kFinal) {
      probe_->detach();
    } else if (context_->clock.mono() - followed_at_ >= kFollowCpusEvery) {
      followed_at_ = context_->clock.mono();
      probe_->follow_cpus();
    }
    probe_->consume();
    send_batch();
    collect();
    if (drain == Drain::kFinal) finish();
    record_losses(now);
  }

  void stop() {
    if (!probe_) return;
    last_counters_ = probe_->counters();
    for (const auto entry : entries_) context_->loop.remove(entry);
    entries_.clear();
    probe_.reset();
    back_.reset();
    obstacle_ = {"stopped", ""};
  }

  [[nodiscard]] SourceStatus status() const {
    SourceStatus out{.name = "profile", .reason = {}, .fix = {}, .counters = {}};
    if (!probe_) {
      out.state = SourceState::kUnavailable;
      out.reason = obstacle_.reason;
      out.fix = obstacle_.fix;
    } else {
      out.state = SourceState::kRunning;
      if (!health_.kernel_names) {
        degrade(out, "kernel functions have no names (/proc/kallsyms hides its addresses)",
                Capability::kSyslog);
      }
      if (health_.processes_denied > 0) {
        degrade(out, "mappings of other users' processes are unreadable", Capability::kSysPtrace);
      }
    }
    const auto counters = probe_ ? probe_->counters() : last_counters_;
    out.counters = {{"weir_profile_samples_total", counters.samples},
                    {"weir_profile_lost_total", counters.lost + refused_},
                    {"weir_profile_malformed_total", malformed_},
                    {"weir_profile_truncated_total", quality_.truncated},
                    {"weir_profile_unresolved_total", quality_.unresolved},
                    {"weir_profile_processes_gone_total", health_.processes_gone},
                    {"weir_profile_processes_denied_total", health_.processes_denied},
                    {"weir_profile_files_unreadable_total", health_.files_unreadable}};
    return out;
  }

  [[nodiscard]] uint64_t symbol_bytes() const { return health_.table_bytes; }

 private:
  static void degrade(SourceStatus& status, std::string_view reason, Capability missing) {
    status.state = SourceState::kDegraded;
    if (!status.reason.empty()) status.reason += "; ";
    status.reason += reason;
    status.fix += status.fix.empty() ? "grant " : " ";
    status.fix += capability_name(missing);
  }

  // A record from the ring: who it belongs to is asked now, while its cgroup exists.
  void take(ByteView record) {
    const auto& clock = context_->clock;
    const int64_t offset =
        (clock.now().time_since_epoch() - clock.mono().time_since_epoch()).count();
    auto sample = decode_record(record, offset);
    if (!sample) {
      ++malformed_;
      return;
    }
    if (sample->kernel_thread) {
      sample->service = kKernelService;
    } else {
      sample->service =
          services_.service_of(sample->cgroup_id, clock.mono(), {.comm = sample->comm});
      if (sample->service.empty()) sample->service = clean_name(sample->comm);
    }
    if (!batch_.add(*std::move(sample))) ++refused_;
  }

  // Hands the batch to the worker, unless it is busy: then it keeps filling.
  void send_batch() {
    if (batch_.empty() || in_flight_ >= kMaxInFlight) return;
    auto stacks = std::make_shared<const std::vector<StackSample>>(batch_.take());
    if (context_->worker.post([back = back_, stacks] {
          WEIR_CHECK(back->done.push(name_batch(back->symbolizer, *stacks)));  // <= kMaxInFlight
        })) {
      ++in_flight_;
      return;
    }
    for (const auto& stack : *stacks) WEIR_CHECK(batch_.add(stack));  // it held them before
  }

  void collect() {
    for (Named& named : back_->done.drain()) {
      WEIR_CHECK(in_flight_ > 0);
      --in_flight_;
      health_ = named.health;
      for (const auto& part : named.parts) {
        quality_.truncated += part.profile.quality().truncated;
        quality_.unresolved += part.profile.quality().unresolved;
        record(part.service, UnixTime(std::chrono::seconds(part.unix_s)), part.profile);
      }
    }
  }

  void record(std::string_view service, UnixTime when, const Profile& profile) {
    const LabelView label{"service", service};
    const auto series = context_->recorder.series(cpu_metric(), {&label, 1}, profile.samples());
    Value* value = series ? context_->recorder.open(*series, when, profile.samples()) : nullptr;
    if (value == nullptr || !merge(*value, profile).ok()) refused_ += profile.samples();
  }

  // Waits for what is under way, and no longer than stopping may take.
  void finish() {
    const MonoTime deadline = context_->clock.mono() + kFinalDrainLimit;
    while (!batch_.empty() || in_flight_ > 0) {
      if (context_->clock.mono() >= deadline) {
        for (const auto& stack : batch_.take()) refused_ += stack.samples;
        return;
      }
      pollfd ready = {.fd = back_->done.fd(), .events = POLLIN, .revents = 0};
      (void)::poll(&ready, 1, 20);
      collect();
      send_batch();
    }
  }

  void record_losses(UnixTime now) {
    const uint64_t lost = probe_->counters().lost + refused_ + malformed_;
    if (lost <= recorded_lost_) return;
    Profile losses;
    losses.add_quality({.lost = lost - recorded_lost_, .truncated = 0, .unresolved = 0});
    recorded_lost_ = lost;
    record(kLostService, now, losses);
  }

  ProfileConfig config_;
  ServiceNames& services_;
  std::optional<SourceContext> context_;
  Obstacle obstacle_{"not started", ""};
  std::shared_ptr<Back> back_;
  std::unique_ptr<ProfileProbe> probe_;
  std::vector<Loop::EntryId> entries_;
  MonoTime followed_at_{};

  StackBatch batch_;
  size_t in_flight_ = 0;
  Symbolizer::Health health_;
  ProfileQuality quality_;
  ProfileProbe::Counters last_counters_;
  uint64_t refused_ = 0;    // samples that found no room, or no window
  uint64_t malformed_ = 0;  // records that are none
  uint64_t recorded_lost_ = 0;
};

ProfileSource::ProfileSource(const ProfileConfig& config, ServiceNames& services)
    : impl_(std::make_unique<Impl>(config, services)) {}

ProfileSource::~ProfileSource() { impl_->stop(); }

void ProfileSource::start(SourceContext context) { impl_->start(context); }

void ProfileSource::drain(UnixTime now, Drain drain) { impl_->drain(now, drain); }

void ProfileSource::stop() { impl_->stop(); }

SourceStatus ProfileSource::status() const { return impl_->status(); }

uint64_t ProfileSource::symbol_bytes() const { return impl_->symbol_bytes(); }

}  // namespace weir::daemon
