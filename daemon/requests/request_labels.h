#pragma once
// RequestLabels: what the kernel knows by number (cgroup, port, route hash) as the words of a
// series: service, route, method, class of status.
//
// Owner: RequestSource. Thread: loop thread. Promise: one cell gets one route, so the routes of a
// service sum to its total at any moment; routes per service and services are bounded, what is
// beyond is __other__ and counted. A name holds until generation() changes. Cost: two bpf(2)
// lookups a name; RequestSeries asks once per series.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "bpf/requests.h"
#include "common/clock.h"
#include "daemon/requests/kernel_names.h"
#include "daemon/route_tree.h"
#include "daemon/service_names.h"

namespace weir::daemon {

inline constexpr const char* kOtherName = "__other__";

[[nodiscard]] std::string_view method_name(uint8_t method);         // "GET"; "_OTHER"
[[nodiscard]] std::string_view status_class_name(uint16_t status);  // "2xx", "aborted", "unknown"

// The place of a route among its service's.
struct RoutePlace {
  RouteTree::Node* node = nullptr;
  bool limited = false;  // __other__ for want of a place
};

struct RequestName {
  std::string service;
  std::string route;
  RoutePlace place;
  bool lasts = true;  // false: somebody may know better next time
};

class RequestLabels {
 public:
  RequestLabels(size_t max_routes_per_service, ServiceNames& services,
                std::string proc_root = "/proc");

  // The name of `n` more requests; those of the same key may then be counted by used(). A client's
  // own name is its cgroup's: the port says who served it.
  [[nodiscard]] RequestName name(const weir_cell_key& key, uint64_t n, const KernelNames& kernel,
                                 MonoTime now);
  void used(const RoutePlace& place, uint64_t n, MonoTime now);
  // Of the name the service alone; empty when nobody can tell, now.
  [[nodiscard]] std::string service_of(const weir_cell_key& key, const KernelNames& kernel,
                                       MonoTime now);

  // Once per harvest. `listeners_renamed` is the kernel's counter of that name.
  void begin_harvest(uint64_t listeners_renamed, MonoTime now);

  // Another number than before: names given until now may be wrong, and their places are gone.
  [[nodiscard]] uint64_t generation() const { return generation_; }

  [[nodiscard]] uint64_t routes_limited() const { return routes_limited_; }  // requests

  [[nodiscard]] uint64_t paths_evicted() const { return paths_evicted_; }  // requests

 private:
  void find_route(const weir_cell_key& key, uint64_t n, const KernelNames& kernel, MonoTime now,
                  RequestName& out);
  RouteTree* tree_of(const std::string& service);  // nullptr: too many services

  size_t max_routes_per_service_;
  ServiceNames& services_;
  std::string proc_root_;
  RouteRoom room_;
  std::map<std::string, std::unique_ptr<RouteTree>, std::less<>> trees_;  // by service
  MonoTime expired_{};
  uint64_t rules_seen_ = 0;
  uint64_t renamed_seen_ = 0;
  uint64_t generation_ = 0;
  uint64_t routes_limited_ = 0;
  uint64_t paths_evicted_ = 0;
};

}  // namespace weir::daemon
