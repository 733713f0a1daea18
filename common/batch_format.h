#pragma once
// What encoder and decoder of a batch must agree on beside the schema. Pure.

#include <cstddef>

#include "common/metric.h"

namespace weir {

// Memory one row's labels take once decoded, by the same count on both sides.
inline size_t decoded_bytes(const Labels& labels) {
  size_t bytes = labels.size() * sizeof(Label);
  for (const auto& [name, value] : labels) bytes += name.size() + value.size();
  return bytes;
}

}  // namespace weir
