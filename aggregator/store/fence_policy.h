#pragma once
// FencePolicy: which epochs the last tier may fence when somebody below asks (docs/wire.md
// "Failover"). A plain value, made by the configuration.

#include <cstdint>
#include <string>
#include <vector>

namespace weir::aggregator {

// What is superseded may be fenced always; what is not:
struct FencePolicy {
  std::vector<std::string> named;  // names or ids of tiers, by the operator
  int64_t after_s = 15 * 60;       // silent for so long
};

}  // namespace weir::aggregator
