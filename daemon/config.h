#pragma once
// The configuration of weir-daemon (deploy/weir-daemon.yaml shows every key with its default).
//
// Pure but for reading the file. Promise: a DaemonConfig is valid in all its parts; otherwise the
// Error holds every mistake with its line.

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/disk_budget.h"
#include "common/limiter.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/upstream_config.h"
#include "common/yaml_reader.h"
#include "daemon/naming_rules.h"
#include "daemon/profiler/profile_source.h"
#include "daemon/requests/request_source.h"
#include "daemon/statsd/statsd_source.h"

namespace weir::daemon {

struct DaemonConfig {
  std::string host;  // default: this machine's name
  std::string data_dir = "/var/lib/weir";
  std::chrono::seconds window{60};
  std::chrono::milliseconds flush_every{10'000};  // 0: when a window ends
  std::vector<UpstreamConfig> upstreams{{"tcp://127.0.0.1:7401", {}}};
  KeysConfig keys;
  std::chrono::seconds fence_after{15 * 60};
  Labels labels;  // on everything this host measures

  struct Limits {
    weir::Limits series;                         // of cardinality, with the rules of `metrics`
    uint64_t memory_bytes = uint64_t{64} << 20;  // of series, open windows and caches
    uint64_t outbox_bytes = uint64_t{1} << 30;
    std::chrono::seconds outbox_age{72 * 3600};
    DiskBudgetOptions disk{};
    std::chrono::seconds late{300};
  } limits;

  RequestConfig requests;
  NamingRules naming;
  ProfileConfig profile;
  StatsdConfig statsd;
  log::Level log_level = log::Level::kInfo;
};

Result<DaemonConfig> read_config(YamlReader reader, const std::string& default_host);

// What differs between two configurations beside the limits of cardinality and the naming rules,
// which a running daemon can take over: the sections' names.
std::vector<std::string> needs_restart(const DaemonConfig& running, const DaemonConfig& wanted);

// gethostname(2), or "localhost".
[[nodiscard]] std::string host_name();

}  // namespace weir::daemon
