#include "common/convert.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "common/check.h"

namespace weir {

namespace {

constexpr int32_t kFinestScale = 7;
constexpr int32_t kFinestImport = 20;  // OTLP's own limit

// Quanta in the metric's unit as they leave; one rounding for the integer, one for the division.
double to_unit(const Distribution& distribution, Int128 quanta) {
  return index_table(distribution.scale(), distribution.quantum())
      .to_unit(static_cast<double>(quanta));
}

// One filled bucket of a histogram that came in, by our index.
struct Bucket {
  int32_t index = 0;
  uint64_t count = 0;
};

// Everything of an import but its buckets.
struct Totals {
  int32_t scale = 0;
  uint64_t count = 0;
  double sum = 0;
  uint64_t zero_count = 0;
  double zero_threshold = 0;
  std::optional<double> min;
  std::optional<double> max;
};

// Half to even, as floats are rounded everywhere (data model). Empty: not finite, or beyond 2^126.
std::optional<Int128> to_quanta(double value, int8_t quantum) {
  const double scaled = std::nearbyint(value * std::pow(10.0, -quantum));
  if (!std::isfinite(scaled) || std::abs(scaled) >= std::exp2(126)) return std::nullopt;
  return static_cast<Int128>(scaled);
}

class Import {
 public:
  static Result<Import> begin(const Totals& totals, int8_t quantum) {
    if (totals.scale < 0) {
      return invalid("scale " + std::to_string(totals.scale) +
                     " is coarser than 0: its error would pass 33 %");
    }
    if (totals.scale > kFinestImport) return invalid("its scale is beyond 20");
    const auto scale = static_cast<uint8_t>(std::min(totals.scale, kFinestScale));
    if (!index_supported(scale, quantum)) return invalid("no buckets for this quantum");
    return Import(totals, quantum, scale);
  }

  Status add(const std::vector<Bucket>& positive, const std::vector<Bucket>& negative) {
    WEIR_TRY(out_.add_zero(totals_.zero_count));
    WEIR_TRY(take(positive, &Distribution::add_bucket));
    WEIR_TRY(take(negative, &Distribution::add_negative_bucket));
    if (out_.count() != totals_.count) {
      return invalid("its count is not the sum of its buckets");
    }
    return set_totals();
  }

  [[nodiscard]] Distribution finish() && { return std::move(out_); }

 private:
  Import(const Totals& totals, int8_t quantum, uint8_t scale)
      : totals_(totals), quantum_(quantum), shift_(totals.scale - scale), out_(quantum, scale) {}

  using Adder = Status (Distribution::*)(int32_t, uint64_t);

  Status take(const std::vector<Bucket>& buckets, Adder adder) {
    const IndexTable& table = index_table(out_.scale(), quantum_);
    for (const Bucket& bucket : buckets) {
      const int32_t index = in_quanta(table, bucket.index >> shift_);  // floors: buckets nest
      if (index < table.lowest()) {
        WEIR_TRY(out_.add_zero(bucket.count));
        out_.raise_zero_threshold(1);
      } else {
        WEIR_TRY((out_.*adder)(index, bucket.count));
      }
    }
    return {};
  }

  // The bucket of the whole quanta nearest to the middle of one that holds none: a few of them lie
  // between the first integers. That is what rounding the samples gives, half a quantum off.
  [[nodiscard]] int32_t in_quanta(const IndexTable& table, int32_t index) const {
    if (index < table.lowest() || index > table.highest()) return index;
    const double ten = std::pow(10.0, -quantum_);
    const double lo = table.lower_edge(index) * ten;
    const double hi = table.lower_edge(index + 1) * ten;
    if (hi - lo >= 2 || table.index(static_cast<uint64_t>(hi)) == index) return index;
    return table.index(static_cast<uint64_t>(std::max(1.0, std::nearbyint((lo + hi) / 2))));
  }

  Status set_totals() {
    const auto sum = to_quanta(totals_.sum, quantum_);
    if (!sum) return invalid("its sum is not a number in range");
    if (!(totals_.zero_threshold >= 0)) return invalid("its zero threshold is not a number");
    // Up, but for what only the double's own rounding lifted above a whole number.
    const double exact = totals_.zero_threshold * std::pow(10.0, -quantum_);
    const double near = std::nearbyint(exact);
    const double threshold = exact <= near * (1 + 1e-12) ? near : std::ceil(exact);
    if (!(threshold < std::exp2(63))) return invalid("its zero threshold is out of range");
    // One below a quantum is no wider than our own zero.
    if (threshold > 1) out_.raise_zero_threshold(static_cast<uint64_t>(threshold));
    // Without its own, the ends of the outermost buckets: the totals are clamped to those.
    constexpr Int128 kFarthest = static_cast<Int128>(std::numeric_limits<uint64_t>::max());
    const auto end = [&](const std::optional<double>& given, Int128 otherwise) {
      return given ? to_quanta(*given, quantum_) : std::optional(otherwise);
    };
    const auto min = end(totals_.min, -kFarthest);
    const auto max = end(totals_.max, kFarthest);
    if (!min || !max) return invalid("its minimum or maximum is not a number in range");
    out_.add_totals(*sum, *min, *max);
    return {};
  }

  Totals totals_;
  int8_t quantum_;
  int32_t shift_;
  Distribution out_;
};

Status check_size(size_t buckets) {
  if (buckets <= kMaxImportBuckets) return {};
  return Error{Errc::kLimit,
               "more than " + std::to_string(kMaxImportBuckets) + " buckets in a histogram"};
}

Result<std::vector<Bucket>> buckets_of(const OtlpBuckets& from) {
  WEIR_TRY(check_size(from.counts.size()));
  std::vector<Bucket> out;
  for (size_t i = 0; i < from.counts.size(); ++i) {
    const int64_t index = int64_t{from.offset} + static_cast<int64_t>(i);
    if (from.counts[i] == 0) continue;
    if (index > std::numeric_limits<int32_t>::max()) return invalid("a bucket index overflows");
    out.push_back({static_cast<int32_t>(index), from.counts[i]});
  }
  return out;
}

Result<std::vector<Bucket>> buckets_of(const NativeBuckets& from) {
  WEIR_TRY(check_size(from.deltas.size()));
  std::vector<Bucket> out;
  int64_t index = -1;  // ours; theirs is one more
  int64_t count = 0;
  size_t next = 0;
  for (size_t i = 0; i < from.spans.size(); ++i) {
    const NativeSpan& span = from.spans[i];
    if (i > 0 && span.offset < 0) return invalid("its spans overlap");
    index += span.offset;
    if (span.length > from.deltas.size() - next) return invalid("its spans hold more than deltas");
    for (uint32_t k = 0; k < span.length; ++k, ++index) {
      if (__builtin_add_overflow(count, from.deltas[next++], &count) || count < 0) {
        return invalid("a bucket count is negative or overflows");
      }
      if (count == 0) continue;
      if (index < std::numeric_limits<int32_t>::min() ||
          index > std::numeric_limits<int32_t>::max()) {
        return invalid("a bucket index overflows");
      }
      out.push_back({static_cast<int32_t>(index), static_cast<uint64_t>(count)});
    }
  }
  if (next != from.deltas.size()) return invalid("its spans hold less than deltas");
  return out;
}

// Appends to one side of an OTLP histogram; indices ascend.
void append(OtlpBuckets& to, int32_t index, uint64_t count) {
  if (to.counts.empty()) to.offset = index;
  to.counts.resize(static_cast<size_t>(index - to.offset), 0);
  to.counts.push_back(count);
}

// One side of a native histogram being written.
class NativeWriter {
 public:
  explicit NativeWriter(NativeBuckets& to) : to_(to) {}

  void append(int32_t index, uint64_t count) {
    const int32_t theirs = index + 1;
    if (to_.spans.empty() || theirs != next_) {
      to_.spans.push_back({.offset = theirs - (to_.spans.empty() ? 0 : next_), .length = 0});
    }
    ++to_.spans.back().length;
    to_.deltas.push_back(static_cast<int64_t>(count) - last_);  // counts are below 2^63
    last_ = static_cast<int64_t>(count);
    next_ = theirs + 1;
  }

 private:
  NativeBuckets& to_;
  int32_t next_ = 0;
  int64_t last_ = 0;
};

}  // namespace

OtlpHistogram to_otlp(const Distribution& d) {
  OtlpHistogram out{.scale = d.scale(),
                    .count = d.count(),
                    .sum = to_unit(d, d.sum()),
                    .zero_count = d.zero_count(),
                    .zero_threshold = to_unit(d, static_cast<Int128>(d.zero_threshold())),
                    .positive = {},
                    .negative = {},
                    .min = {},
                    .max = {},
                    .exemplars = {}};
  d.for_each_bucket([&](int32_t index, uint64_t n) { append(out.positive, index, n); });
  d.for_each_negative_bucket([&](int32_t index, uint64_t n) { append(out.negative, index, n); });
  if (d.empty()) return out;
  for (const Exemplar& e : d.exemplars()) {
    out.exemplars.push_back({e.trace_id, e.time_ns, to_unit(d, static_cast<Int128>(e.value))});
  }
  for (const Exemplar& e : d.negative_exemplars()) {
    out.exemplars.push_back({e.trace_id, e.time_ns, -to_unit(d, static_cast<Int128>(e.value))});
  }
  out.min = to_unit(d, d.min());
  out.max = to_unit(d, d.max());
  return out;
}

Result<OtlpImport> from_otlp(const OtlpHistogram& h, int8_t quantum) {
  WEIR_TRY_ASSIGN(const auto positive, buckets_of(h.positive));
  WEIR_TRY_ASSIGN(const auto negative, buckets_of(h.negative));
  if (h.exemplars.size() > kMaxImportExemplars) {
    return Error{Errc::kLimit, "more than " + std::to_string(kMaxImportExemplars) + " exemplars"};
  }
  WEIR_TRY_ASSIGN(Import import, Import::begin({.scale = h.scale,
                                                .count = h.count,
                                                .sum = h.sum,
                                                .zero_count = h.zero_count,
                                                .zero_threshold = h.zero_threshold,
                                                .min = h.min,
                                                .max = h.max},
                                               quantum));
  WEIR_TRY(import.add(positive, negative));
  OtlpImport out{.distribution = std::move(import).finish()};
  for (const OtlpExemplar& exemplar : h.exemplars) {
    const auto value = to_quanta(exemplar.value, quantum);
    const Int128 magnitude = value && *value < 0 ? -*value : value.value_or(0);
    if (magnitude == 0 || magnitude > static_cast<Int128>(std::numeric_limits<uint64_t>::max())) {
      ++out.exemplars_left_out;
      continue;
    }
    const Exemplar ours{exemplar.trace_id, exemplar.time_ns, static_cast<uint64_t>(magnitude)};
    const auto kept = *value < 0 ? out.distribution.add_negative_exemplar(ours)
                                 : out.distribution.add_exemplar(ours);
    if (!kept) ++out.exemplars_left_out;
  }
  return out;
}

NativeHistogram to_native(const Distribution& d) {
  NativeHistogram out{.schema = d.scale(),
                      .count = d.count(),
                      .sum = to_unit(d, d.sum()),
                      .zero_count = d.zero_count(),
                      .zero_threshold = to_unit(d, static_cast<Int128>(d.zero_threshold())),
                      .positive = {},
                      .negative = {}};
  NativeWriter positive(out.positive);
  d.for_each_bucket([&](int32_t index, uint64_t n) { positive.append(index, n); });
  NativeWriter negative(out.negative);
  d.for_each_negative_bucket([&](int32_t index, uint64_t n) { negative.append(index, n); });
  return out;
}

Result<Distribution> from_native(const NativeHistogram& h, int8_t quantum) {
  WEIR_TRY_ASSIGN(const auto positive, buckets_of(h.positive));
  WEIR_TRY_ASSIGN(const auto negative, buckets_of(h.negative));
  WEIR_TRY_ASSIGN(Import import, Import::begin({.scale = h.schema,
                                                .count = h.count,
                                                .sum = h.sum,
                                                .zero_count = h.zero_count,
                                                .zero_threshold = h.zero_threshold,
                                                .min = {},
                                                .max = {}},
                                               quantum));
  WEIR_TRY(import.add(positive, negative));
  return std::move(import).finish();
}

}  // namespace weir
