// Fuzz target: bytes that claim to be a block. The first byte chooses the metric the batch names.
// Whatever decodes encodes again to the same bytes, so no damage passes for another value.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/block_codec.h"
#include "common/check.h"

namespace {

// A damaged distribution must not pass with another total: its buckets are its count, and wider
// buckets hold the same samples.
void check(const weir::Distribution& distribution) {
  uint64_t count = distribution.zero_count();
  const auto add = [&](int32_t, uint64_t n) { count += n; };
  distribution.for_each_bucket(add);
  distribution.for_each_negative_bucket(add);
  WEIR_CHECK(count == distribution.count());
  WEIR_CHECK(distribution.min() <= distribution.max());
  const auto middle = *distribution.quantile(500'000'000);
  WEIR_CHECK(middle.lo <= middle.hi);
  const auto coarse = distribution.coarsened(std::min<uint8_t>(5, distribution.scale()));
  WEIR_CHECK(coarse.count() == count && coarse.sum() == distribution.sum());
  WEIR_CHECK(coarse.exemplars().size() == distribution.exemplars().size());
  weir::Bytes widths;
  weir::Bytes packed;
  WEIR_CHECK(coarse.pack(widths, packed).number == widths.size());  // aborts if inconsistent
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using weir::Kind;
  if (size == 0) return 0;
  constexpr std::array<Kind, 6> kKinds = {Kind::kCounter,  Kind::kGauge, Kind::kDistribution,
                                          Kind::kDistinct, Kind::kTopk,  Kind::kProfile};
  constexpr std::array<int8_t, 5> kQuanta = {-9, -6, -3, 0, -7};
  const weir::Metric metric{"m", kKinds[data[0] % 6], "seconds", kQuanta[data[0] / 6 % 5]};
  const auto payload = std::as_bytes(std::span(data, size)).subspan(1);

  std::vector<weir::Value> values;
  const auto status = weir::decode_block(
      metric, payload, [&](size_t, weir::Value&& value) { values.push_back(std::move(value)); });
  WEIR_CHECK(status.ok() == !values.empty());
  if (!status.ok()) return 0;
  std::vector<const weir::Value*> rows;
  for (const auto& value : values) rows.push_back(&value);
  const weir::Bytes again = weir::encode_block(metric, rows);
  WEIR_CHECK(std::equal(again.begin(), again.end(), payload.begin(), payload.end()));
  for (const auto& value : values) {
    if (const auto* distribution = std::get_if<weir::Distribution>(&value)) check(*distribution);
  }
  weir::Value sum = values[0];
  for (const auto& value : values) {
    const auto merged = weir::merge(sum, value);  // may reach a limit; must not crash
    WEIR_CHECK(merged.ok() || merged.error().code != weir::Errc::kInternal);
  }
  return 0;
}
