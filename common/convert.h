#pragma once
// Conversion of distributions to and from the two exponential histograms of the field: OTLP's
// ExponentialHistogramDataPoint (delta) and Prometheus' native histogram.
//
// Pure; plain structs with the fields of those formats, no wire encoding. Promise: buckets of all
// three align to the unit, so scale, indices and counts pass without re-bucketing, and what went
// out comes back equal, but for what the formats cannot hold: OTLP has the sum, min and max as
// doubles (exact below 2^51 quanta), Prometheus has no min and max (the ends of the outermost
// buckets come back) and neither marks exemplars by octave. Cost: linear in the buckets between the
// first and the last, which the index range bounds.
//
// Coming in: scales finer than 7 are brought to 7, those from 0 to 7 stay (a row of their own, so a
// coarse import never degrades ours), coarser ones are refused. Samples below one quantum count as
// zero, and the zero threshold says so; samples above the range are refused. A rounded sum is
// clamped to what the buckets allow.
// Sources: OpenTelemetry metrics data model "ExponentialHistogram"; Prometheus "Native histograms".

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/result.h"
#include "common/sketch/distribution.h"

namespace weir {

// The most buckets an import may span, whatever it claims: the widest index range there is.
inline constexpr size_t kMaxImportBuckets = 16'384;
inline constexpr size_t kMaxImportExemplars = 1'024;

// counts[i] is of bucket offset + i: (2^(index/N), 2^((index+1)/N)], N = 2^scale.
struct OtlpBuckets {
  int32_t offset = 0;
  std::vector<uint64_t> counts;
  friend bool operator==(const OtlpBuckets&, const OtlpBuckets&) = default;
};

struct OtlpExemplar {
  std::array<std::byte, 16> trace_id{};
  int64_t time_ns = 0;
  double value = 0;  // in the metric's unit, with its sign
  friend bool operator==(const OtlpExemplar&, const OtlpExemplar&) = default;
};

struct OtlpHistogram {
  int32_t scale = 0;
  uint64_t count = 0;
  double sum = 0;
  uint64_t zero_count = 0;
  double zero_threshold = 0;
  OtlpBuckets positive;
  OtlpBuckets negative;  // by magnitude
  std::optional<double> min;
  std::optional<double> max;
  std::vector<OtlpExemplar> exemplars;
  friend bool operator==(const OtlpHistogram&, const OtlpHistogram&) = default;
};

struct OtlpImport {
  Distribution distribution;
  size_t exemplars_left_out = 0;  // of samples it does not have, or without a trace
};

[[nodiscard]] OtlpHistogram to_otlp(const Distribution& distribution);
// Quantum: 0, -3, -6 or -9, of the metric it becomes. kInvalid, kLimit: why it was refused.
Result<OtlpImport> from_otlp(const OtlpHistogram& histogram, int8_t quantum);

// `length` buckets in a row; offset: buckets left out before them, or the index of the first.
struct NativeSpan {
  int32_t offset = 0;
  uint32_t length = 0;
  friend bool operator==(const NativeSpan&, const NativeSpan&) = default;
};

// Each delta is the difference of a bucket's count to that of the bucket before.
struct NativeBuckets {
  std::vector<NativeSpan> spans;
  std::vector<int64_t> deltas;
  friend bool operator==(const NativeBuckets&, const NativeBuckets&) = default;
};

// Bucket i of schema s holds (2^((i-1)/N), 2^(i/N)]: one more than our index. Its counts are of
// this delta; Prometheus' own are cumulative, so an exporter adds them up.
struct NativeHistogram {
  int32_t schema = 0;
  uint64_t count = 0;
  double sum = 0;
  uint64_t zero_count = 0;
  double zero_threshold = 0;
  NativeBuckets positive;
  NativeBuckets negative;
  friend bool operator==(const NativeHistogram&, const NativeHistogram&) = default;
};

[[nodiscard]] NativeHistogram to_native(const Distribution& distribution);
Result<Distribution> from_native(const NativeHistogram& histogram, int8_t quantum);

}  // namespace weir
