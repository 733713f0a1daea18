#pragma once
// Small real batches for delivery tests.

#include "common/batch.h"
#include "common/check.h"

namespace weir {

// One counter series that grew by `mass` in the window.
inline EncodedBatch counter_batch(const Window& window, uint64_t mass) {
  const Metric metric{"requests_total", Kind::kCounter, "", 0};
  const Labels labels{{"service", "shop"}};
  const Value value = Counter{mass};
  const BatchRow row{&metric, &labels, &value};
  auto batches = encode_batches({window, {{"host", "edge-1"}}, {}}, {&row, 1});
  WEIR_CHECK(batches.size() == 1);
  return std::move(batches.front());
}

}  // namespace weir
