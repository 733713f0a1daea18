#pragma once
// ServiceNames: cgroup id -> service name. First hit wins: configured rule; systemd unit in the
// cgroup path ("nginx.service" -> "nginx", "app@1.service" -> "app"); container id (64 hex) -> its
// first 12; otherwise empty, and the caller falls back to the listener's or process's comm.
//
// Owner: main(); shared by the request and profile sources on the loop thread. Promise: bounded
// cache; roots are parameters, so tests use a fake tree. Cost: one directory walk at start, one on
// a miss (at most once a second).

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "common/result.h"

namespace weir::daemon {

// "/system.slice/nginx.service" -> "nginx"; "" when the path names no service.
[[nodiscard]] std::string service_from_cgroup_path(std::string_view path);

// The cgroup v2 mount, from a mountinfo file (usually /proc/self/mountinfo). A root other than "/"
// means that only this subtree can be seen.
struct Cgroup2Mount {
  std::string path;
  std::string root;
};

[[nodiscard]] Result<Cgroup2Mount> find_cgroup2_mount(const std::string& mountinfo_path);
// Its path alone.
[[nodiscard]] Result<std::string> find_cgroup2_root(const std::string& mountinfo_path);

class ServiceNames {
 public:
  explicit ServiceNames(std::string cgroup_root);  // "" = no cgroup v2: everything is empty
  [[nodiscard]] std::string_view service_of(uint64_t cgroup_id, MonoTime now);

 private:
  void walk();
  std::string root_;
  MonoTime last_walk_{};
  bool walked_ = false;
  std::unordered_map<uint64_t, std::string> names_;  // cgroup id = inode of its directory
};

}  // namespace weir::daemon
