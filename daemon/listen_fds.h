#pragma once
// Sockets handed over by the service manager (systemd socket activation): they stay open while the
// daemon is down, so what clients send meanwhile waits in the kernel and is not lost.
//
// Call once, early in main(): takes descriptors 3, 4, ... when LISTEN_PID names this process, and
// clears the variables so that no child sees them.

#include <vector>

#include "common/fd.h"

namespace weir::daemon {

[[nodiscard]] std::vector<Fd> take_listen_fds();

}  // namespace weir::daemon
