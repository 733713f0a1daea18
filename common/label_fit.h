#pragma once
// LabelFit: the first checks of the cardinality limits, on the labels themselves: how many, and how
// long. Pure but for the space it writes into; one thread.
//
// Promise: hosts agree. A text beyond its limit becomes its beginning, cut between characters, and
// eight hex digits of a hash with a fixed seed over all of it; what fits stays as it is.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/metric.h"

namespace weir {

// `text` as hosts write it when it is longer than `limit` bytes (at least 16).
[[nodiscard]] std::string cut_text(std::string_view text, size_t limit);

struct LabelLimits {
  size_t count = 10;
  size_t name = 64;    // bytes
  size_t value = 128;  // bytes

  friend bool operator==(const LabelLimits&, const LabelLimits&) = default;
};

class LabelFit {
 public:
  struct Result {
    bool fits = false;            // false: more labels than the limit; `labels` is empty
    size_t cut = 0;               // texts that were shortened
    std::span<LabelView> labels;  // sorted, without empty values; hold until the next call
  };

  // But for the texts no series table takes (kMaxLabelText, common/series.h).
  static constexpr LabelLimits kUnlimited{SIZE_MAX, 1024, 1024};

  // `labels` are UTF-8. Names that repeat are left for the series table to refuse.
  Result operator()(std::span<const LabelView> labels, const LabelLimits& limits);

 private:
  std::vector<LabelView> labels_;
  std::deque<std::string> texts_;  // what was cut
};

}  // namespace weir
