// Distributions in a block.

#include <algorithm>

#include "common/block_columns.h"
#include "common/check.h"

namespace weir::block {

namespace {

enum DistributionColumn : size_t {
  kScale = 1,  // less kDefaultScale
  kZero = 3,   // 2 is kept for flags
  kSum,
  kMin,     // its magnitude: it is negative when there are negative buckets
  kSpread,  // max - min
  kFirstGroup,
  kGroups,
  kWidths,
  kPacked,
  kNegativeFirstGroup,
  kNegativeGroups,
  kNegativeWidths,
  kNegativePacked,
  kExemplars,  // of positive and of negative samples: both numbers, then each exemplar's fields
  kZeroThreshold,
};

constexpr Layout layout() {
  Layout out{};
  for (const size_t column : {kZero, kMin, kSpread, kGroups, kNegativeGroups, kZeroThreshold}) {
    out[column] = Encoding::kVarint;
  }
  for (const size_t column : {kScale, kSum, kFirstGroup, kNegativeFirstGroup}) {
    out[column] = Encoding::kZigzag;
  }
  for (const size_t column : {kWidths, kPacked, kNegativeWidths, kNegativePacked, kExemplars}) {
    out[column] = Encoding::kBytes;
  }
  return out;
}

// Packs the positive or the negative buckets.
using Pack = Distribution::Groups (Distribution::*)(Bytes&, Bytes&) const;

void put_groups(const Distribution& distribution, Pack pack, Columns& columns,
                size_t first_column) {
  Bytes widths;
  Bytes packed;
  const auto groups = (distribution.*pack)(widths, packed);
  columns[first_column].zigzag(groups.first);
  columns[first_column + 1].varint(groups.number);
  columns[first_column + 2].append(widths);
  columns[first_column + 3].append(packed);
}

// The packed counts go as far as their widths say: unpack() takes them.
bool take_groups(Readers& columns, size_t first_column, Distribution::PackedGroups& out) {
  uint64_t groups = 0;
  out.packed = columns[first_column + 3].rest();
  if (columns[first_column].absent() && columns[first_column + 1].absent()) return true;  // none
  return columns[first_column].zigzag(out.first) && columns[first_column + 1].varint(groups) &&
         columns[first_column + 2].view(groups, out.widths);
}

bool skip_taken(ColumnReader& column, const Distribution::PackedGroups& groups) {
  return column.skip(column.rest().size() - groups.packed.size());
}

void put_exemplars(const Distribution& distribution, ByteWriter& column) {
  const auto positive = distribution.exemplars();
  const auto negative = distribution.negative_exemplars();
  column.varint(positive.size());
  column.varint(negative.size());
  for (const auto& side : {positive, negative}) {
    for (const Exemplar& exemplar : side) {
      column.append(exemplar.trace_id);
      column.zigzag(exemplar.time_ns);
      column.varint(exemplar.value);
    }
  }
}

// What a row has of positive or of negative samples: its buckets still packed, its exemplars still
// to be read.
struct Side {
  Distribution::PackedGroups buckets;
  uint64_t exemplars = 0;
};

// And of all of them.
struct Row {
  uint8_t scale = 0;
  Distribution::Totals totals;
};

Status take_row(Readers& columns, Row& row, Side& positive, Side& negative) {
  int8_t scale = 0;
  uint64_t min = 0;
  UInt128 spread = 0;
  Distribution::Totals& totals = row.totals;
  if (!columns[kScale].zigzag(scale) || !columns[kZero].varint(totals.zero) ||
      !columns[kSum].zigzag128(totals.sum) || !columns[kMin].varint(min) ||
      !columns[kSpread].varint128(spread) || !take_groups(columns, kFirstGroup, positive.buckets) ||
      !take_groups(columns, kNegativeFirstGroup, negative.buckets) ||
      !columns[kZeroThreshold].varint(totals.zero_threshold) ||
      !columns[kExemplars].varint(positive.exemplars) ||
      !columns[kExemplars].varint(negative.exemplars)) {
    return damaged();
  }
  const int real_scale = scale + kDefaultScale;
  if (real_scale < 0 || real_scale > std::numeric_limits<uint8_t>::max() ||
      spread > 2 * static_cast<UInt128>(std::numeric_limits<uint64_t>::max())) {
    return invalid("a distribution's scale or maximum is out of range");
  }
  row.scale = static_cast<uint8_t>(real_scale);
  totals.min =
      negative.buckets.widths.empty() ? static_cast<Int128>(min) : -static_cast<Int128>(min);
  totals.max = totals.min + static_cast<Int128>(spread);
  return {};
}

// Each octave once, ascending: then none can replace another, and an unbounded number cannot come.
Status take_exemplars(ColumnReader& column, uint64_t number,
                      Status (Distribution::*add)(const Exemplar&), Distribution& out) {
  int32_t previous = std::numeric_limits<int32_t>::min();
  for (; number > 0; --number) {
    Exemplar exemplar;
    ByteView trace_id;
    if (!column.view(exemplar.trace_id.size(), trace_id) || !column.zigzag(exemplar.time_ns) ||
        !column.varint(exemplar.value)) {
      return damaged();
    }
    std::ranges::copy(trace_id, exemplar.trace_id.begin());
    WEIR_TRY((out.*add)(exemplar));
    const int32_t octave = out.octave(exemplar.value);
    if (octave <= previous) return invalid("exemplars are not in ascending octaves");
    previous = octave;
  }
  return {};
}

// The rest of a row, which take_row() began.
Result<Distribution> build(const Metric& metric, Readers& columns, const Row& row, Side& positive,
                           Side& negative) {
  WEIR_TRY_ASSIGN(auto out, Distribution::unpack(metric.quantum, row.scale, row.totals,
                                                 positive.buckets, negative.buckets));
  if (!skip_taken(columns[kPacked], positive.buckets) ||
      !skip_taken(columns[kNegativePacked], negative.buckets)) {
    return damaged();
  }
  ColumnReader& exemplars = columns[kExemplars];
  WEIR_TRY(take_exemplars(exemplars, positive.exemplars, &Distribution::add_exemplar, out));
  WEIR_TRY(
      take_exemplars(exemplars, negative.exemplars, &Distribution::add_negative_exemplar, out));
  return out;
}

}  // namespace

constinit const Layout kDistributionLayout = layout();

void encode_row(const Distribution& distribution, Columns& columns) {
  const Int128 min = distribution.min();
  columns[kScale].zigzag(distribution.scale() - kDefaultScale);
  columns[kZero].varint(distribution.zero_count());
  columns[kSum].zigzag(distribution.sum());
  columns[kMin].varint(static_cast<UInt128>(min < 0 ? -min : min));
  columns[kSpread].varint(static_cast<UInt128>(distribution.max() - min));
  columns[kZeroThreshold].varint(distribution.zero_threshold());
  put_groups(distribution, &Distribution::pack, columns, kFirstGroup);
  put_groups(distribution, &Distribution::pack_negative, columns, kNegativeFirstGroup);
  put_exemplars(distribution, columns[kExemplars]);
}

Result<Distribution> decode_distribution(const Metric& metric, Readers& columns) {
  Row row;
  Side positive;
  Side negative;
  WEIR_TRY(take_row(columns, row, positive, negative));
  return build(metric, columns, row, positive, negative);
}

Result<uint64_t> check_distribution(const Metric& metric, Readers& columns) {
  Row row;
  Side positive;
  Side negative;
  WEIR_TRY(take_row(columns, row, positive, negative));
  if (negative.buckets.widths.empty() && negative.buckets.first == 0 && positive.exemplars == 0 &&
      negative.exemplars == 0) {
    const auto count =
        Distribution::narrow_count(metric.quantum, row.scale, row.totals, positive.buckets);
    if (count.has_value() && skip_taken(columns[kPacked], positive.buckets)) return *count;
  }
  WEIR_TRY_ASSIGN(const Distribution built, build(metric, columns, row, positive, negative));
  return built.count();
}

}  // namespace weir::block
