// Distributions in a block.

#include "common/block_columns.h"
#include "common/check.h"

namespace weir::block {

namespace {

enum DistributionColumn : size_t {
  kScale = 1,  // less kDefaultScale
  kZero = 3,   // 2 is kept for flags, 11..15 for negative buckets and exemplars
  kSum,
  kMin,
  kSpread,  // max - min
  kFirstGroup,
  kGroups,
  kWidths,
  kPacked,
};

}  // namespace

const Layout kDistributionLayout = {kAbsent,           Encoding::kZigzag, kAbsent,
                                    Encoding::kVarint, Encoding::kZigzag, Encoding::kVarint,
                                    Encoding::kVarint, Encoding::kZigzag, Encoding::kVarint,
                                    Encoding::kBytes,  Encoding::kBytes};

void encode_row(const Distribution& distribution, Columns& columns) {
  Bytes widths;
  Bytes packed;
  const auto groups = distribution.pack(widths, packed);
  columns[kScale].zigzag(distribution.scale() - kDefaultScale);
  columns[kZero].varint(distribution.zero_count());
  columns[kSum].zigzag(distribution.sum());
  columns[kMin].varint(distribution.min());
  columns[kSpread].varint(distribution.max() - distribution.min());
  columns[kFirstGroup].zigzag(groups.first);
  columns[kGroups].varint(groups.number);
  columns[kWidths].append(widths);
  columns[kPacked].append(packed);
}

Result<Value> decode_distribution(const Metric& metric, Readers& columns) {
  Distribution::Totals totals;
  int8_t scale = 0;
  uint64_t spread = 0;
  int32_t first_group = 0;
  uint64_t groups = 0;
  ByteView widths;
  ByteView packed;
  if (!columns[kScale].zigzag(scale) || !columns[kZero].varint(totals.zero) ||
      !columns[kSum].zigzag128(totals.sum) || !columns[kMin].varint(totals.min) ||
      !columns[kSpread].varint(spread) || !columns[kFirstGroup].zigzag(first_group) ||
      !columns[kGroups].varint(groups) || !columns[kWidths].view(groups, widths)) {
    return damaged();
  }
  size_t bytes = 0;
  for (const std::byte width : widths) bytes += 2 * static_cast<size_t>(width);
  if (!columns[kPacked].view(bytes, packed)) return damaged();
  const int real_scale = scale + kDefaultScale;
  if (real_scale < 0 || real_scale > std::numeric_limits<uint8_t>::max() ||
      spread > std::numeric_limits<uint64_t>::max() - totals.min) {
    return invalid("a distribution's scale or maximum is out of range");
  }
  totals.max = totals.min + spread;
  WEIR_TRY_ASSIGN(auto distribution,
                  Distribution::unpack(metric.quantum, static_cast<uint8_t>(real_scale), totals,
                                       first_group, widths, packed));
  return Value(std::move(distribution));
}

}  // namespace weir::block
