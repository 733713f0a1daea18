#pragma once
// ServiceNames: cgroup id -> service name. First hit wins: configured rule (daemon/naming_rules.h);
// systemd unit in the cgroup path ("nginx.service" -> "nginx", "app@1.service" -> "app"); container
// id (64 hex) -> its first 12; otherwise empty, and the caller falls back to the listener's or
// process's comm.
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
#include "daemon/naming_rules.h"

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
  // `process`: what is known beside the cgroup. Valid until the next call.
  [[nodiscard]] std::string_view service_of(uint64_t cgroup_id, MonoTime now,
                                            ServiceFacts process = {});

  void set_rules(NamingRules rules);

  [[nodiscard]] const NamingRules& rules() const { return rules_; }

  // Another number than before: names given until now may be wrong.
  [[nodiscard]] uint64_t generation() const { return generation_; }

 private:
  void walk();
  std::string root_;
  MonoTime last_walk_{};
  bool walked_ = false;

  struct Cgroup {
    std::string path;  // below the root
    std::string name;
  };

  std::unordered_map<uint64_t, Cgroup> cgroups_;  // by id = inode of its directory
  NamingRules rules_;
  uint64_t generation_ = 0;
};

}  // namespace weir::daemon
