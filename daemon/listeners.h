#pragma once
// Who listens on which port, from /proc: for sockets that listened before the kernel program was
// attached. Later ones report themselves.
//
// Thread: any; listeners_now() once, on the worker. Promise: bounded; a process that vanishes or
// may not be read is skipped. Cost: one readlink per open descriptor of the host.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir::daemon {

struct Listener {
  uint64_t cgroup = 0;
  uint16_t port = 0;
  uint32_t tgid = 0;
  std::string comm;
};

// A listening socket of a /proc/net/tcp or tcp6 file.
struct ListenRow {
  uint64_t inode = 0;
  uint16_t port = 0;
};

[[nodiscard]] std::vector<ListenRow> parse_listening(std::string_view proc_net_tcp);

[[nodiscard]] std::vector<Listener> listeners_now(const std::string& proc_root,
                                                  const std::string& cgroup_root);

// The path of the process's executable; "" unless it is still called `comm` and may be asked.
[[nodiscard]] std::string executable_of(const std::string& proc_root, uint32_t tgid,
                                        std::string_view comm);

}  // namespace weir::daemon
