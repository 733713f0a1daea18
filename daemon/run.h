#pragma once
// run_daemon: weir-daemon from a good configuration to its exit code.
//
// Thread: main's; the loop runs in it. Promise: SIGTERM and SIGINT read what waits in the sockets,
// close the windows into the outbox and return within 2 s; a second daemon on one data_dir is
// refused (also by a process that cannot be seen, for the lock is the kernel's); SIGHUP reads
// `file` again and takes over the limits of cardinality, or says why not.

#include <string>
#include <vector>

#include "common/fd.h"
#include "daemon/config.h"

namespace weir::daemon {

// 0: stopped as asked. 1: could not start, or not go on (the disk failed), and said why.
[[nodiscard]] int run_daemon(const DaemonConfig& config, const std::string& file,
                             std::vector<Fd> inherited);

}  // namespace weir::daemon
