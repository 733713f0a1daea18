#include "aggregator/query/heavy_hitters.h"

#include <algorithm>

#include <fmt/format.h>

#include "aggregator/query/ast.h"
#include "aggregator/query/matcher.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kKeyLabel = "key";

// A label of that name the topk has itself makes room, as in daemon/statsd.
Labels with_key(const Labels& labels, std::string_view key) {
  Labels out = drop_labels(labels, {std::string(kNameLabel)});
  std::string name(kKeyLabel);
  while (!label_value(out, name).empty()) name = fmt::format("exported_{}", name);
  for (auto& label : out) {
    if (label.first == kKeyLabel) label.first = name;
  }
  out.emplace_back(kKeyLabel, key);
  std::ranges::sort(out);
  return out;
}

}  // namespace

Vector heavy_hitters(double k, const Vector& vector, LabelSets& sets, QueryNotes& notes) {
  Vector out;
  if (!(k >= 1)) return out;
  const auto limit = static_cast<size_t>(std::min(k, 1e9));
  for (const auto& sample : vector) {
    const auto* keys = std::get_if<Keys>(&sample.number);
    if (keys == nullptr) {
      notes.warnings.insert("heavy_hitters: what is no topk is left out");
      continue;
    }
    const Topk& topk = *keys->topk;
    const auto number = [keys](uint64_t n) {
      return Exact{.quanta = static_cast<Int128>(n), .quantum = keys->quantum};
    };
    for (const auto& [key, count] : topk.top(limit)) {
      const Bound bound{.lo = number(count).value(), .hi = number(count + topk.err()).value()};
      out.push_back({sets.intern(with_key(sets[sample.labels], key)), number(count), bound});
    }
    if (topk.err() > 0) {
      notes.infos.insert(
          fmt::format("heavy_hitters: there were more than {} keys, so a count may be too low, "
                      "within its interval",
                      Topk::kCapacity));
    }
    if (topk.pruned_early()) {
      notes.infos.insert("heavy_hitters: keys were dropped early, their texts are too long");
    }
  }
  return out;
}

}  // namespace weir::aggregator
