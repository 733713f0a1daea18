#include "daemon/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "bpf/requests.h"
#include "common/limits_config.h"
#include "common/utf8.h"
#include "daemon/recorder.h"

namespace weir::daemon {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr size_t kMaxStaticLabels = 8;
constexpr size_t kMaxName = 255;
constexpr milliseconds kShortestFlush{100};

constexpr std::array kRequestDurations = {"http_server_request_duration_seconds",
                                          "http_client_request_duration_seconds"};

bool is_label_name(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  return !name.empty() && letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

void check_labels(YamlSection& r, const Labels& labels) {
  if (labels.size() > kMaxStaticLabels) {
    r.fail("labels", fmt::format("at most {} labels", kMaxStaticLabels));
  }
  for (const auto& [name, value] : labels) {
    if (name == "host" || name == "region" || name.starts_with("__")) {
      r.fail("labels", fmt::format("'{}' is a name Weir sets itself", name));
    } else if (!is_label_name(name) || name.size() > kMaxName || value.size() > kMaxName) {
      r.fail("labels", fmt::format("'{}' is no label: letters, digits and '_', at most {} bytes",
                                   name, kMaxName));
    }
  }
}

void check_meaning(YamlSection& r, const DaemonConfig& c) {
  if (c.host.empty() || c.host.size() > kMaxName || !is_utf8(c.host)) {
    r.fail("host", fmt::format("expected 1 to {} bytes of UTF-8", kMaxName));
  }
  if (!c.data_dir.starts_with('/')) r.fail("data_dir", "expected an absolute path");
  if (seconds(hours(1)) % c.window != seconds(0)) r.fail("window", "must divide one hour");
  if (c.flush_every.count() != 0 && c.flush_every < kShortestFlush) {
    r.fail("flush_every", "expected 0s (when a window ends) or at least 100ms");
  }
  if (c.flush_every > c.window) r.fail("flush_every", "must not exceed 'window'");
  check_upstreams(r, "upstream", c.upstreams, c.keys);
  check_labels(r, c.labels);
  for (const char* metric : kRequestDurations) {
    if (rule_of(c.limits.series.rules, metric).scale.value_or(0) > WEIR_SCALE) {
      r.fail("metrics", fmt::format("{} is measured in the kernel at scale {}: 'scale' may be 5 or "
                                    "6 for it",
                                    metric, WEIR_SCALE));
    }
  }
}

void read_statsd(YamlSection s, StatsdConfig& c) {
  s.read("enabled", c.enabled);
  s.read("udp", c.udp);
  s.read("unix", c.unix_path);
  s.read_size("receive_buffer", c.receive_buffer, 4096, uint64_t{64} << 20);
  if (!c.udp.empty()) {
    if (const auto address = statsd::parse_udp_address(c.udp); !address) {
      s.fail("udp", address.error().message);
    }
  }
  if (!c.unix_path.empty() && (!c.unix_path.starts_with('/') || c.unix_path.size() > 107)) {
    s.fail("unix", "expected an absolute path of at most 107 bytes");
  }
}

}  // namespace

Result<DaemonConfig> read_config(YamlReader reader, const std::string& default_host) {
  DaemonConfig c;
  c.host = default_host;
  YamlReader r = std::move(reader);
  r.read("host", c.host);
  r.read("data_dir", c.data_dir);
  r.read("window", c.window, seconds(1), hours(1));
  r.read("flush_every", c.flush_every, milliseconds(0), hours(1));
  read_upstreams(r, "upstream", c.upstreams);
  read_keys(r, c.keys);
  r.read("fence_after", c.fence_after, seconds(1), hours(24));
  r.read("labels", c.labels);
  auto limits = r.section("limits");
  limits.read("series", c.limits.series.series, 100, Recorder::kMostSeries);
  limits.read_size("memory", c.limits.memory_bytes, uint64_t{8} << 20, uint64_t{16} << 30);
  read_limits(limits, c.limits.series);
  limits.read_size("outbox", c.limits.outbox_bytes, uint64_t{16} << 20, uint64_t{1} << 40);
  limits.read("outbox_age", c.limits.outbox_age, minutes(1), hours(24 * 30));
  read_disk_limits(limits, c.limits.disk);
  limits.read("late", c.limits.late, seconds(0), hours(1));
  read_metric_rules(r, c.limits.series.rules);
  auto requests = r.section("requests");
  requests.read("enabled", c.requests.enabled);
  requests.read("routes", c.requests.max_routes_per_service, 1, 10'000);
  requests.read("idle", c.requests.idle, milliseconds(100), minutes(10));
  requests.read_size("memory", c.requests.memory_budget, uint64_t{1} << 20, uint64_t{1} << 30);
  read_route_rules(requests, c.naming.routes);
  read_service_rules(r, c.naming.services);
  auto profile = r.section("profile");
  profile.read("enabled", c.profile.enabled);
  profile.read("hz", c.profile.hz, kMinProfileHz, kMaxProfileHz);
  read_statsd(r.section("statsd"), c.statsd);
  r.section("log").read("level", c.log_level,
                        {{"debug", log::Level::kDebug},
                         {"info", log::Level::kInfo},
                         {"warn", log::Level::kWarn},
                         {"error", log::Level::kError}});
  check_meaning(r, c);
  c.statsd.journal_path = c.data_dir + "/statsd.journal";
  return r.done(std::move(c));
}

std::vector<std::string> needs_restart(const DaemonConfig& running, const DaemonConfig& wanted) {
  std::vector<std::string> out;
  const auto compare = [&](const char* key, bool same) {
    if (!same) out.emplace_back(key);
  };
  compare("host", running.host == wanted.host);
  compare("data_dir", running.data_dir == wanted.data_dir);
  compare("window", running.window == wanted.window);
  compare("flush_every", running.flush_every == wanted.flush_every);
  compare("upstream", running.upstreams == wanted.upstreams);
  compare("keys", running.keys == wanted.keys);
  compare("fence_after", running.fence_after == wanted.fence_after);
  compare("labels", running.labels == wanted.labels);
  compare("limits.outbox", running.limits.outbox_bytes == wanted.limits.outbox_bytes);
  compare("limits.outbox_age", running.limits.outbox_age == wanted.limits.outbox_age);
  compare("limits.disk_reserve",
          running.limits.disk.reserve_bytes == wanted.limits.disk.reserve_bytes);
  compare("limits.disk_step", running.limits.disk.step_bytes == wanted.limits.disk.step_bytes);
  compare("limits.late", running.limits.late == wanted.limits.late);
  compare("requests", running.requests == wanted.requests);
  compare("profile", running.profile == wanted.profile);
  compare("statsd", running.statsd == wanted.statsd);
  compare("log", running.log_level == wanted.log_level);
  return out;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

}  // namespace weir::daemon
