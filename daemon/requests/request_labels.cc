#include "daemon/requests/request_labels.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "bpf/http_parse.h"
#include "daemon/listeners.h"
#include "daemon/profiler/demangle.h"
#include "daemon/routes.h"

namespace weir::daemon {

namespace {

constexpr size_t kMaxServices = 1'000;  // with routes of their own
constexpr std::chrono::minutes kExpireEvery{1};
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

RequestLabels::RequestLabels(size_t max_routes_per_service, ServiceNames& services,
                             std::string proc_root)
    : max_routes_per_service_(max_routes_per_service),
      services_(services),
      proc_root_(std::move(proc_root)) {}

void RequestLabels::begin_harvest(uint64_t listeners_renamed, MonoTime now) {
  if (services_.generation() != rules_seen_ || listeners_renamed != renamed_seen_) ++generation_;
  rules_seen_ = services_.generation();
  renamed_seen_ = listeners_renamed;
  if (now - expired_ < kExpireEvery) return;
  expired_ = now;
  std::erase_if(trees_, [&](auto& entry) {
    RouteTree& tree = *entry.second;
    const auto before = tree.generation();
    tree.expire(now);
    if (tree.generation() != before) ++generation_;
    return tree.routes() == 0;
  });
}

RequestName RequestLabels::name(const weir_cell_key& key, uint64_t n, const KernelNames& kernel,
                                MonoTime now) {
  RequestName out;
  out.service = service_of(key, kernel, now);
  if (out.service.empty()) {  // it may get a name later
    out.service = "unknown";
    out.lasts = false;
  }
  find_route(key, n, kernel, now, out);
  return out;
}

void RequestLabels::used(const RoutePlace& place, uint64_t n, MonoTime now) {
  if (place.node != nullptr) RouteTree::used(*place.node, n, now);
  if (place.limited) routes_limited_ += n;
}

std::string RequestLabels::service_of(const weir_cell_key& key, const KernelNames& kernel,
                                      MonoTime now) {
  if (key.role == WEIR_ROLE_CLIENT) return std::string(services_.service_of(key.cgroup, now));
  std::string comm;
  std::string exe;
  if (const auto listener = kernel.listener_of(key.cgroup, key.port)) {
    const std::string raw(listener->comm, ::strnlen(listener->comm, sizeof listener->comm));
    if (services_.rules().ask_for_exe()) exe = executable_of(proc_root_, listener->tgid, raw);
    if (!raw.empty()) comm = clean_name(raw);  // a process calls itself what it likes
  }
  const auto named =
      services_.service_of(key.cgroup, now, {.exe = exe, .comm = comm, .port = key.port});
  return named.empty() ? comm : std::string(named);
}

RouteTree* RequestLabels::tree_of(const std::string& service) {
  const auto found = trees_.find(service);
  if (found != trees_.end()) return found->second.get();
  if (trees_.size() >= kMaxServices) return nullptr;
  auto tree =
      std::make_unique<RouteTree>(RouteTree::Limits{.routes = max_routes_per_service_}, room_);
  return trees_.emplace(service, std::move(tree)).first->second.get();
}

void RequestLabels::find_route(const weir_cell_key& key, uint64_t n, const KernelNames& kernel,
                               MonoTime now, RequestName& out) {
  if (key.route == WEIR_ROUTE_UNSEEN) {
    out.route = kUnseen;
    return;
  }
  out.route = kOtherName;
  if (key.route == WEIR_ROUTE_OTHER) return;
  const auto path = kernel.path_of(key.cgroup, key.route);
  if (!path) {  // pushed out of the kernel's table by newer ones; its next request brings it back
    paths_evicted_ += n;
    out.lasts = false;
    return;
  }
  const auto hashed = hashed_template(path->bytes);
  if (const auto* configured = services_.rules().route_of(out.service, hashed)) {
    out.route = *configured;
    return;
  }
  RouteTree* tree = tree_of(out.service);
  RouteTree::Label label;
  if (tree != nullptr) {
    const auto before = tree->generation();
    label = tree->label(with_rules(hashed), n, now);
    if (tree->generation() != before) ++generation_;
  }
  out.place = {.node = label.node, .limited = label.node == nullptr};
  if (label.node != nullptr) out.route = std::move(label.text);
  if (out.place.limited) routes_limited_ += n;
}

}  // namespace weir::daemon
