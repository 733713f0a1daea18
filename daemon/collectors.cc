#include "daemon/collectors.h"

#include <utility>

#include "daemon/statsd/statsd_source.h"

namespace weir::daemon {

std::vector<std::unique_ptr<Source>> make_sources(const DaemonConfig& config,
                                                  std::vector<Fd> inherited) {
  std::vector<std::unique_ptr<Source>> sources;
  if (config.statsd.enabled) {
    sources.push_back(std::make_unique<StatsdSource>(config.statsd, std::move(inherited)));
  }
  return sources;
}

}  // namespace weir::daemon
