#include "aggregator/query/value.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace weir::aggregator {
namespace {

inline constexpr int8_t kNanoseconds = -9;

}  // namespace

double Exact::value() const {
  // One rounding for the integer, one for the division; 10^22 and below are exact.
  const bool seconds = divisor_milli % 1000 == 0;
  const auto divisor = static_cast<double>(seconds ? divisor_milli / 1000 : divisor_milli);
  const double whole = static_cast<double>(quanta) * (seconds ? 1.0 : 1000.0);
  const double power = std::pow(10.0, std::abs(quantum));
  return quantum < 0 ? whole / (power * divisor) : whole * power / divisor;
}

LabelSetId LabelSets::intern(const Labels& labels) {
  const auto [at, added] = ids_.try_emplace(labels, static_cast<LabelSetId>(by_id_.size()));
  if (added) by_id_.push_back(&at->first);
  return at->second;
}

Labels keep_labels(const Labels& labels, const std::vector<std::string>& names) {
  Labels kept;
  for (const auto& label : labels) {
    if (std::ranges::find(names, label.first) != names.end()) kept.push_back(label);
  }
  return kept;
}

Labels drop_labels(const Labels& labels, const std::vector<std::string>& names) {
  Labels kept;
  for (const auto& label : labels) {
    if (std::ranges::find(names, label.first) == names.end()) kept.push_back(label);
  }
  return kept;
}

double to_double(const Number& number) {
  if (const auto* plain = std::get_if<double>(&number)) return *plain;
  if (const auto* members = std::get_if<Members>(&number)) {
    return members->distinct->estimate().value;
  }
  if (const auto* keys = std::get_if<Keys>(&number)) return keys->events().value();
  const auto* exact = std::get_if<Exact>(&number);
  WEIR_CHECK(exact != nullptr);
  return exact->value();
}

bool is_histogram(const Number& number) { return std::holds_alternative<Histogram>(number); }

bool is_members(const Number& number) { return std::holds_alternative<Members>(number); }

Bound bound_of(const Distinct& distinct) {
  const Estimate estimate = distinct.estimate();
  return {.lo = estimate.lo,
          .hi = estimate.hi,
          .scale = 0,
          .relative_error = distinct.exact() ? 0 : Distinct::kStandardError};
}

Status add_distribution(Distribution& into, const Distribution& from) {
  if (from.scale() == into.scale()) return into.merge(from);
  if (from.scale() > into.scale()) return into.merge(from.coarsened(into.scale()));
  Distribution coarse = into.coarsened(from.scale());
  WEIR_TRY(coarse.merge(from));
  into = std::move(coarse);
  return {};
}

Number number_of(const Value& value, const Metric& metric) {
  struct Visitor {
    const Metric& metric;

    Number operator()(const Counter& counter) const {
      return Exact{.quanta = static_cast<Int128>(counter.delta), .quantum = metric.quantum};
    }

    Number operator()(const Gauge& gauge) const {
      return Exact{.quanta = gauge.last.value, .quantum = metric.quantum};
    }

    Number operator()(const Distribution& distribution) const {
      return Histogram{.distribution = std::make_shared<const Distribution>(distribution)};
    }

    Number operator()(const Profile& profile) const {
      return Exact{.quanta = static_cast<Int128>(profile.total_ns()), .quantum = kNanoseconds};
    }

    Number operator()(const Distinct& distinct) const {
      return Members{.distinct = std::make_shared<const Distinct>(distinct)};
    }

    Number operator()(const Topk& topk) const {
      return Keys{.topk = std::make_shared<const Topk>(topk), .quantum = metric.quantum};
    }
  };

  return std::visit(Visitor{metric}, value);
}

}  // namespace weir::aggregator
