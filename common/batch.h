#pragma once
// Batch: what travels between tiers and waits in outboxes. One window, many metrics, columnar
// FlatBuffer (schemas/batch.fbs), at most 1 MiB raw; decoders refuse more than 4 MiB.
//
// Pure. Promise: decode(encode(x)) == x; decoding verifies the FlatBuffer, then every column, then
// every block, before anything is returned; hostile bytes give an Error, never a crash or a
// partial result. Cost: encode once per batch; decode allocates in proportion to real content.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/series.h"
#include "common/value.h"

namespace weir {

inline constexpr size_t kBatchTargetBytes = size_t{1} << 20;
inline constexpr size_t kBatchMaxBytes = size_t{4} << 20;

using SourceId = std::array<std::byte, 16>;

// Inclusive range of sequence numbers of one (source, epoch).
struct SeqRange {
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;
  friend auto operator<=>(const SeqRange&, const SeqRange&) = default;
};

// What a rollup contains of one (source, epoch): the batches lo..hi, all of them.
struct ManifestEntry {
  SeqRange range;
  uint64_t mass = 0;      // of these batches, mod 2^64
  uint64_t cum_mass = 0;  // of the epoch, up to and with range.hi, mod 2^64
  bool lost = false;      // these are tombstones: mass that is in no window
  friend bool operator==(const ManifestEntry&, const ManifestEntry&) = default;
};

struct BatchRow {
  const Metric* metric = nullptr;
  const Labels* labels = nullptr;  // without the batch's common labels
  const Value* value = nullptr;
};

struct EncodedBatch {
  Bytes body;         // size-prefixed FlatBuffer, not compressed
  uint64_t mass = 0;  // sum of mass(value) mod 2^64
  uint64_t rows = 0;
};

struct BatchHead {
  Window window;
  Labels common_labels;                 // appended to every row's labels by the receiver (host)
  std::vector<ManifestEntry> manifest;  // what a rollup contains; empty from an edge
};

// Splits rows into as many batches as the size limit needs, never dropping one: a single value
// larger than a batch (a profile) is split into several deltas of the same series. The manifest
// travels last: in the last batch, or in batches of its own after the last row if it is larger than
// one. Rows are grouped by metric and sorted by labels; values must hold something (Rollup::take).
// Empty rows and manifest give no batch. What is returned is one group: each says which part of it
// it is.
[[nodiscard]] std::vector<EncodedBatch> encode_batches(const BatchHead& head,
                                                       std::span<const BatchRow> rows,
                                                       size_t target_bytes = kBatchTargetBytes);

// Writes the mass of the epoch so far, this batch included, into an encoded batch; equal bytes for
// equal stamps. The outbox does it when it gives the batch its seq.
void stamp_cum_mass(Bytes& body, uint64_t cum_mass);

struct DecodedRow {
  uint32_t metric = 0;  // index into DecodedBatch::metrics
  Labels labels;        // sorted, common labels included
  Value value;
};

struct DecodedBatch {
  Window window;
  uint64_t mass = 0;
  std::vector<Metric> metrics;
  std::vector<DecodedRow> rows;
  std::vector<ManifestEntry> manifest;
  uint64_t cum_mass = 0;  // 0: never stamped
  uint32_t part = 0;      // of `parts` with seqs that follow each other
  uint32_t parts = 1;
};

// Limits of a receiver; every one has a counter at the caller. encode_batches stays within the
// defaults.
struct BatchLimits {
  size_t max_rows = 200'000;
  size_t max_metrics = 10'000;
  size_t max_labels_per_row = kMaxLabels;  // common labels included
  size_t max_string_bytes = kMaxLabelText;
  // Labels of all rows as decoded: a few bytes on the wire can name the same long text often.
  size_t max_label_bytes = size_t{128} << 20;
};

[[nodiscard]] Result<DecodedBatch> decode_batch(ByteView body, const BatchLimits& limits = {});

}  // namespace weir
