#pragma once
// Monitor: the detectors of one tier. Sees each sealed window once, steps one Band per
// (service, region, signal) and returns what stood out. Anomalies are stored and listed, never
// paged.
//
// Owner: the aggregator's store thread. Thread: that one. Pure of time: it reads sealed windows
// through the DataSource it is given. Promise: a window without requests of a service is a gap, not
// a zero: its detectors do not step. Bounded: max_groups; groups beyond it are counted, not judged.
// Cost: one select per window and about 30 ns per group.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/detect/anomaly.h"
#include "aggregator/detect/band.h"
#include "aggregator/query/data_source.h"
#include "common/result.h"

namespace weir::aggregator {

// The three golden signals of a service in one window, from its request durations.
struct ServiceSignals {
  double rate = 0;         // requests per second
  double error_ratio = 0;  // 5xx and aborted of all
  double p99_s = 0;
};

using ServiceKey = std::pair<std::string, std::string>;  // service, region

// Reads http_server_request_duration_seconds of exactly `window`, grouped by service and region.
Result<std::map<ServiceKey, ServiceSignals>> read_signals(DataSource& source, const Window& window);

class Monitor {
 public:
  explicit Monitor(size_t max_groups = 10'000) : max_groups_(max_groups) {}

  // Judges a window that has just been sealed. Windows must come in order.
  Result<std::vector<Anomaly>> step(DataSource& source, const Window& window);
  // Learns from windows sealed before a restart; their anomalies are already stored.
  Status replay(DataSource& source, const Window& first, const Window& last);

  [[nodiscard]] uint64_t groups_refused() const { return refused_; }

 private:
  struct Group {
    Band rate;
    Band error_ratio;
    Band p99;
  };

  size_t max_groups_;
  uint64_t refused_ = 0;
  std::map<ServiceKey, Group> groups_;
};

}  // namespace weir::aggregator
