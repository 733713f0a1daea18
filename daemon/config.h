#pragma once
// The configuration of weir-daemon (deploy/weir-daemon.yaml shows every key with its default).
//
// Pure but for reading the file. Promise: a DaemonConfig is valid in all its parts; otherwise the
// Error holds every mistake with its line.

#include <chrono>
#include <cstdint>
#include <string>

#include "common/log.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/yaml_reader.h"
#include "daemon/profiler/profile_source.h"
#include "daemon/request_source.h"
#include "daemon/statsd/statsd_source.h"

namespace weir::daemon {

struct DaemonConfig {
  std::string host;  // default: this machine's name
  std::string data_dir = "/var/lib/weir";
  std::chrono::seconds window{60};
  std::chrono::milliseconds flush_every{10'000};  // 0: when a window ends
  std::string upstream = "tcp://127.0.0.1:7401";
  Labels labels;  // on everything this host measures

  struct Limits {
    uint32_t series = 10'000;
    uint64_t outbox_bytes = uint64_t{1} << 30;
    std::chrono::seconds late{300};
  } limits;

  RequestConfig requests;
  ProfileConfig profile;
  StatsdConfig statsd;
  log::Level log_level = log::Level::kInfo;
};

Result<DaemonConfig> read_config(YamlReader reader, const std::string& default_host);

// gethostname(2), or "localhost".
[[nodiscard]] std::string host_name();

}  // namespace weir::daemon
