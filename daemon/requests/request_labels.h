#pragma once
// RequestLabels: what the kernel knows by number (cgroup, port, route hash) as the words of a
// series: service, route, method, class of status.
//
// Owner: RequestSource. Thread: loop thread. Promise: one cell gets one route, so the routes of a
// service sum to its total; routes per service and services are bounded, what is beyond is
// __other__. Cost: two bpf(2) lookups a name; RequestSeries asks once per series.

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "bpf/requests.h"
#include "common/clock.h"
#include "daemon/listeners.h"
#include "daemon/request_probe.h"
#include "daemon/service_names.h"

namespace weir::daemon {

inline constexpr const char* kOtherName = "__other__";

[[nodiscard]] std::string_view method_name(uint8_t method);         // "GET"; "_OTHER"
[[nodiscard]] std::string_view status_class_name(uint16_t status);  // "2xx", "aborted", "unknown"

class RequestLabels {
 public:
  RequestLabels(size_t max_routes_per_service, ServiceNames& services);

  // A socket that listened before the program was attached.
  void add_listener(const Listener& listener);

  // Empty when nobody can tell, now. A client's own name is its cgroup's: the port says who served
  // it.
  [[nodiscard]] std::string service_of(const weir_cell_key& key, const RequestProbe& probe,
                                       MonoTime now);
  [[nodiscard]] std::string route_of(const weir_cell_key& key, const RequestProbe& probe,
                                     const std::string& service);

  [[nodiscard]] uint64_t routes_limited() const { return routes_limited_; }

 private:
  size_t max_routes_per_service_;
  ServiceNames& services_;
  std::map<std::pair<uint64_t, uint16_t>, std::string> listeners_;
  std::map<std::string, std::set<std::string>, std::less<>> routes_;  // by service
  uint64_t routes_limited_ = 0;
};

}  // namespace weir::daemon
