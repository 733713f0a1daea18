// The batch decoder: any bytes give an error or a batch, the same by the door's check, and a
// batch encodes again to batches that hold the same mass.

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "common/batch.h"
#include "common/batch_check.h"
#include "tests/fakes/verdicts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto batch = weir::decode_batch(bytes);
  if (!weir::difference(weir::check_batch(bytes), batch).empty()) std::abort();
  if (!batch.ok()) return 0;
  std::vector<weir::BatchRow> rows;
  for (const weir::DecodedRow& row : batch->rows) {
    rows.push_back({&batch->metrics[row.metric], &row.labels, &row.value});
  }
  const weir::BatchHead head{
      .window = batch->window, .common_labels = {}, .manifest = batch->manifest};
  uint64_t mass = 0;
  for (const weir::EncodedBatch& again : weir::encode_batches(head, rows)) {
    const auto decoded = weir::decode_batch(again.body);
    if (!decoded.ok()) std::abort();  // we refuse what we wrote
    mass += decoded->mass;
  }
  if (mass != batch->mass) std::abort();
  return 0;
}
