#pragma once
// RequestSource: HTTP/1.x requests of every process on the host, measured by the kernel program
// bpf/requests.bpf.c and recorded as http_{server,client}_* series.
//
// Owner: the edge. Thread: loop thread; the map swap (an RCU grace period, 9 ms) and the drain run
// on the Worker. Promise: what the kernel counted reaches the recorder once: a full map folds into
// the service __other__, routes beyond the limit into the route __other__, never lost. Not seen:
// HTTP/2 and 3, TLS, unix sockets (docs/requests.md). Cost: about 0.3 us of kernel time a segment.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "daemon/service_names.h"
#include "daemon/source.h"

namespace weir::daemon {

struct RequestConfig {
  bool enabled = true;
  std::string cgroup_root;  // empty: found in /proc/self/mountinfo
  size_t max_routes_per_service = 100;
  size_t memory_budget = size_t{32} << 20;  // of the kernel maps
  // An answer quiet for so long on an open connection is counted as it stands.
  std::chrono::milliseconds idle{5000};

  friend bool operator==(const RequestConfig&, const RequestConfig&) = default;
};

// When what was counted between two harvests is said to have happened: an exchange ended somewhere
// since the previous one, so the middle is the fairest time; but no more than seconds ago, or a
// step of the clock (and a machine's sleep) would make it too late to be recorded.
[[nodiscard]] UnixTime harvest_time(UnixTime previous, UnixTime now);

class RequestSource final : public Source {
 public:
  RequestSource(const RequestConfig& config, ServiceNames& services);
  ~RequestSource() override;

  void start(SourceContext context) override;
  void drain(UnixTime now, Drain drain) override;
  void stop() override;
  [[nodiscard]] SourceStatus status() const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace weir::daemon
