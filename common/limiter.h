#pragma once
// The seam for cardinality limits: asked once per new label set, before it becomes a series.
//
// This tier of limits is the plain one: a host-wide series cap. A label set beyond it is counted
// in its metric's overflow series (label otel.metric.overflow="true"), so totals stay exact. The
// data-model issue replaces Admission by frequency admission behind the same call.

#include <cstddef>
#include <cstdint>

#include "common/metric.h"

namespace weir {

inline constexpr const char* kOverflowLabel = "otel.metric.overflow";

enum class Admission : uint8_t { kAdmit, kOverflow };

class Limiter {
 public:
  explicit Limiter(size_t max_series) : max_series_(max_series) {}

  [[nodiscard]] Admission admit(size_t series_now) const {
    return series_now < max_series_ ? Admission::kAdmit : Admission::kOverflow;
  }

 private:
  size_t max_series_;
};

}  // namespace weir
