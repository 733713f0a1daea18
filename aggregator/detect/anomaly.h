#pragma once
// What a detector says about one sealed window of one signal. Plain values.

#include <cstdint>
#include <string>
#include <vector>

#include "common/metric.h"

namespace weir::aggregator {

struct Anomaly {
  Window window;
  std::string detector;  // "band"
  std::string signal;    // "rate", "error_ratio", "p99"
  Labels labels;         // service, region
  double score = 0;      // damped z
  double value = 0;      // observed
  double expected = 0;   // the detector's mean before this window
  std::string summary;   // one sentence for people
  friend bool operator==(const Anomaly&, const Anomaly&) = default;
};

}  // namespace weir::aggregator
