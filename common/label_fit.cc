#include "common/label_fit.h"

#include <algorithm>

#include <fmt/core.h>

#include "common/check.h"
#include "common/hash.h"
#include "common/utf8.h"

namespace weir {

namespace {

constexpr uint64_t kSeedOfAllHosts = 0x77656972;  // never change it: hosts must agree
constexpr size_t kDigits = 8;

}  // namespace

std::string cut_text(std::string_view text, size_t limit) {
  WEIR_CHECK(limit >= 2 * kDigits);
  if (text.size() <= limit) return std::string(text);
  const uint64_t hash = hash64(as_bytes(text), kSeedOfAllHosts);
  return to_utf8(text.substr(0, limit), limit - kDigits) + fmt::format("{:08x}", hash >> 32);
}

LabelFit::Result LabelFit::operator()(std::span<const LabelView> labels,
                                      const LabelLimits& limits) {
  labels_.clear();
  texts_.clear();
  for (const LabelView& label : labels) {
    if (!label.value.empty()) labels_.push_back(label);
  }
  if (labels_.size() > limits.count) return {};
  Result out{.fits = true, .cut = 0, .labels = {}};
  const auto cut = [&](std::string_view& text, size_t limit) {
    if (text.size() <= limit) return;
    text = texts_.emplace_back(cut_text(text, limit));
    ++out.cut;
  };
  for (LabelView& label : labels_) {
    cut(label.name, limits.name);
    cut(label.value, limits.value);
  }
  std::sort(labels_.begin(), labels_.end(),
            [](const LabelView& a, const LabelView& b) { return a.name < b.name; });
  out.labels = labels_;
  return out;
}

}  // namespace weir
