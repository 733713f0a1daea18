#include "daemon/source.h"

namespace weir::daemon {

std::string_view state_name(SourceState state) {
  switch (state) {
    case SourceState::kRunning:
      return "running";
    case SourceState::kDegraded:
      return "degraded";
    case SourceState::kUnavailable:
      return "unavailable";
  }
  return "unknown";
}

}  // namespace weir::daemon
