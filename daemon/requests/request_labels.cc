#include "daemon/requests/request_labels.h"

#include <array>

#include "bpf/http_parse.h"
#include "daemon/profiler/demangle.h"
#include "daemon/routes.h"

namespace weir::daemon {

namespace {

constexpr size_t kMaxServices = 1'000;  // with routes of their own
constexpr const char* kUnseen = "__unseen__";

}  // namespace

std::string_view method_name(uint8_t method) {
  static constexpr std::array<std::string_view, 10> kNames = {
      "_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
  return kNames[method < kNames.size() ? method : 0];
}

std::string_view status_class_name(uint16_t status) {
  static constexpr std::array<std::string_view, 7> kNames = {"unknown", "aborted", "1xx", "2xx",
                                                             "3xx",     "4xx",     "5xx"};
  return kNames[weir_status_class(status)];
}

RequestLabels::RequestLabels(size_t max_routes_per_service, ServiceNames& services)
    : max_routes_per_service_(max_routes_per_service), services_(services) {}

void RequestLabels::add_listener(const Listener& listener) {
  listeners_.emplace(std::pair(listener.cgroup, listener.port), clean_name(listener.comm));
}

std::string RequestLabels::service_of(const weir_cell_key& key, const RequestProbe& probe,
                                      MonoTime now) {
  if (const auto named = services_.service_of(key.cgroup, now); !named.empty()) {
    return std::string(named);
  }
  if (key.role == WEIR_ROLE_CLIENT) return {};
  if (auto comm = probe.listener_of(key.cgroup, key.port); !comm.empty()) {
    return clean_name(comm);  // a process calls itself what it likes
  }
  const auto found = listeners_.find({key.cgroup, key.port});
  return found == listeners_.end() ? std::string{} : found->second;
}

std::string RequestLabels::route_of(const weir_cell_key& key, const RequestProbe& probe,
                                    const std::string& service) {
  if (key.route == WEIR_ROUTE_UNSEEN) return kUnseen;
  if (key.route == WEIR_ROUTE_OTHER) return kOtherName;
  const auto path = probe.path_of(key.cgroup, key.route);
  if (!path) return kOtherName;  // pushed out of the kernel's table by newer routes
  auto route = with_rules(hashed_template(path->bytes));
  const bool room = routes_.size() < kMaxServices || routes_.contains(service);
  std::set<std::string> none;
  auto& known = room ? routes_[service] : none;
  if (known.contains(route)) return route;
  if (!room || known.size() >= max_routes_per_service_) {
    ++routes_limited_;
    return kOtherName;
  }
  known.insert(route);
  return route;
}

}  // namespace weir::daemon
