#pragma once
// KernelNames: what the kernel program knows behind its numbers. An interface, so that naming is
// tested without a kernel; RequestProbe is the one.

#include <cstdint>
#include <optional>

#include "bpf/requests.h"

namespace weir::daemon {

class KernelNames {
 public:
  KernelNames() = default;
  KernelNames(const KernelNames&) = delete;
  KernelNames& operator=(const KernelNames&) = delete;
  virtual ~KernelNames() = default;

  [[nodiscard]] virtual std::optional<weir_route_path> path_of(uint64_t cgroup,
                                                               uint32_t route) const = 0;
  [[nodiscard]] virtual std::optional<weir_listener> listener_of(uint64_t cgroup,
                                                                 uint16_t port) const = 0;
};

}  // namespace weir::daemon
