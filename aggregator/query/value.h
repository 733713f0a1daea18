#pragma once
// What the evaluator computes with: numbers that stay integers until the last division,
// distributions, and sets of which only the size is told. Label sets are interned per query, so a
// sample carries a number for them.
//
// Thread: the query's own; plain values.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/sketch/distribution.h"
#include "common/value.h"

namespace weir::aggregator {

// quanta * 10^quantum / (divisor_milli / 1000): a sum of deltas, over seconds when it is a rate.
struct Exact {
  Int128 quanta = 0;
  int8_t quantum = 0;
  int64_t divisor_milli = 1000;
  [[nodiscard]] double value() const;
};

// Shared and never changed once shared: results keep histograms of many steps.
struct Histogram {
  std::shared_ptr<const Distribution> distribution;
  int64_t divisor_milli = 1000;
};

// The members seen; answered by their estimated number. Sums are unions. Shared as a Histogram is.
struct Members {
  std::shared_ptr<const Distinct> distinct;
};

// The most frequent keys; alone it stands for the exact number of events. Sums add by key.
struct Keys {
  std::shared_ptr<const Topk> topk;
  int8_t quantum = 0;

  [[nodiscard]] Exact events() const {
    return {.quanta = static_cast<Int128>(topk->n()), .quantum = quantum};
  }
};

using Number = std::variant<double, Exact, Histogram, Members, Keys>;

// Where the true value lies, and what limits that: known for quantiles and for sketches of keys.
struct Bound {
  double lo = 0;
  double hi = 0;
  uint8_t scale = 0;  // of a distribution; 0: something else
  double relative_error = 0;
};

// One unnamed row (query/unnamed.h) that may hold some of a sample's events.
struct UnnamedPart {
  uint32_t row = 0;       // which one, in its query
  Int128 quanta = 0;      // a counter's delta, a distribution's count
  Int128 sum = 0;         // of a distribution, in quanta
  bool included = false;  // the sample's value holds them already
};

// How much more a value could be. `parts` while it is a plain sum of series, so that none of them
// is added twice; what comes of it after that.
struct Unnamed {
  std::vector<UnnamedPart> parts{};  // ascending by row
  std::optional<double> upper{};
  double share = 0;  // of the events behind a quantile: those that may belong to it and are not in
};

using LabelSetId = uint32_t;

class LabelSets {
 public:
  LabelSetId intern(const Labels& labels);  // sorted

  [[nodiscard]] const Labels& operator[](LabelSetId id) const { return *by_id_[id]; }

  [[nodiscard]] size_t size() const { return by_id_.size(); }

 private:
  std::map<Labels, LabelSetId> ids_;
  std::vector<const Labels*> by_id_;  // keys of ids_, which never move
};

// Labels that a grouping, on(), or ignoring() leaves. `names` need not be sorted.
[[nodiscard]] Labels keep_labels(const Labels& labels, const std::vector<std::string>& names);
[[nodiscard]] Labels drop_labels(const Labels& labels, const std::vector<std::string>& names);

// Remembers what a rule makes of each label set, so a range query applies it once per series.
class LabelMemo {
 public:
  template <class Rule>  // Labels(const Labels&)
  LabelSetId get(LabelSets& sets, LabelSetId from, const Rule& rule) {
    if (from >= to_.size()) to_.resize(from + size_t{1}, kUnknown);
    if (to_[from] == kUnknown) to_[from] = sets.intern(rule(sets[from]));
    return to_[from];
  }

 private:
  static constexpr LabelSetId kUnknown = UINT32_MAX;
  std::vector<LabelSetId> to_;
};

struct Sample {
  LabelSetId labels = 0;
  Number number;
  std::optional<Bound> bound;
  Unnamed unnamed{};
};

using Vector = std::vector<Sample>;
using Answer = std::variant<double, std::string, Vector>;

// Of members, the estimate of how many; of keys, their events. Not for histograms.
[[nodiscard]] double to_double(const Number& number);
[[nodiscard]] bool is_histogram(const Number& number);
[[nodiscard]] bool is_members(const Number& number);
// Where the number of members lies; relative_error is a standard error, 0 if they are listed.
[[nodiscard]] Bound bound_of(const Distinct& distinct);

// Adds `from` into `into`; the coarser scale wins (index >> difference, exact). kInvalid: another
// quantum. kLimit: the count would pass kMaxCount.
Status add_distribution(Distribution& into, const Distribution& from);

// The number a stored value stands for over its windows: a counter's and a profile's delta, a
// gauge's last, a distribution, the members of a distinct, the keys of a topk.
// A profile's unit is seconds of CPU.
[[nodiscard]] Number number_of(const Value& value, const Metric& metric);

}  // namespace weir::aggregator
