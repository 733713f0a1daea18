#pragma once
// Which sources a configuration asks for. A collector this build does not have is one that says so.

#include <memory>
#include <vector>

#include "common/fd.h"
#include "daemon/config.h"
#include "daemon/service_names.h"
#include "daemon/source.h"

namespace weir::daemon {

// `services` outlives the sources; `inherited` are sockets of the service manager.
[[nodiscard]] std::vector<std::unique_ptr<Source>> make_sources(const DaemonConfig& config,
                                                                ServiceNames& services,
                                                                std::vector<Fd> inherited);

}  // namespace weir::daemon
