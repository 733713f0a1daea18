#include "aggregator/tier.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "common/hash.h"

namespace weir::aggregator {
namespace {

bool drops(const Tier& tier, const std::string& name) {
  return std::ranges::binary_search(tier.drop_labels, name);
}

std::string seconds(int64_t value) { return std::to_string(value) + "s"; }

}  // namespace

// Two hashes with fixed seeds: the same on every host and in every version.
SourceId tier_source(std::string_view kind, std::string_view name) {
  std::string text(kind);
  text += '\0';
  text += name;
  SourceId out{};
  for (size_t half = 0; half < 2; ++half) {
    const uint64_t hash = hash64(std::as_bytes(std::span(text)), HashSeed(0x57454952 + half));
    std::memcpy(out.data() + half * sizeof hash, &hash, sizeof hash);
  }
  return out;
}

std::vector<std::string> mistakes(const Tier& tier) {
  std::vector<std::string> out;
  if (tier.name.empty()) out.emplace_back("name: must not be empty");
  if (tier.in_s == 0) out.emplace_back("windows.in: must be at least 1s");
  if (tier.in_s != 0 && (tier.out_s <= tier.in_s || tier.out_s % tier.in_s != 0)) {
    out.push_back("windows.out: " + seconds(tier.out_s) + " is not a multiple of windows.in (" +
                  seconds(tier.in_s) + ")");
  }
  // Late data of a window must find its fine parts while the coarse window is being filled.
  if (tier.keep_in_s < 2 * int64_t{tier.out_s}) {
    out.push_back("retention.in: " + seconds(tier.keep_in_s) + " is less than twice windows.out (" +
                  seconds(tier.out_s) + ")");
  }
  if (tier.keep_out_s < tier.keep_in_s) {
    out.push_back("retention.out: " + seconds(tier.keep_out_s) + " is less than retention.in (" +
                  seconds(tier.keep_in_s) + ")");
  }
  for (const auto& [name, value] : tier.add_labels) {
    if (value.empty()) out.push_back("add_labels." + name + ": must not be empty");
    if (drops(tier, name)) out.push_back("drop_labels: '" + name + "' is also in add_labels");
  }
  return out;
}

Labels with_added(const Tier& tier, Labels labels) {
  for (const Label& added : tier.add_labels) {
    const auto at = std::ranges::lower_bound(labels, added.first, {}, &Label::first);
    if (at != labels.end() && at->first == added.first) {
      at->second = added.second;  // a sender does not choose its region
    } else {
      labels.insert(at, added);
    }
  }
  return labels;
}

Labels without_dropped(const Tier& tier, const Labels& labels) {
  Labels out;
  out.reserve(labels.size());
  std::ranges::copy_if(labels, std::back_inserter(out),
                       [&](const Label& label) { return !drops(tier, label.first); });
  return out;
}

}  // namespace weir::aggregator
