#include "aggregator/query/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "aggregator/query/unnamed.h"

namespace weir::aggregator {
namespace {

void set_quantile(Sample& sample, const Distribution& distribution, double phi, QueryNotes& notes) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  sample.number = std::nan("");
  if (std::isnan(phi) || distribution.empty()) return;
  if (phi < 0 || phi > 1) {
    sample.number = phi < 0 ? -kInfinity : kInfinity;
    return;
  }
  const auto estimate = distribution.quantile(static_cast<uint32_t>(std::llround(phi * 1e9)));
  WEIR_CHECK(estimate.ok());  // it is not empty
  sample.number = estimate->value;
  sample.bound = Bound{.lo = estimate->lo,
                       .hi = estimate->hi,
                       .scale = distribution.scale(),
                       .relative_error = distribution.relative_error()};
  notes.infos.insert(fmt::format("histogram_quantile: relative error at most {:.3g} % (scale {})",
                                 100 * distribution.relative_error(), distribution.scale()));
}

}  // namespace

Vector histogram_function(const Function& function, double phi, const Vector& vector,
                          LabelSets& sets, LabelMemo& memo, QueryNotes& notes) {
  Vector out;
  for (const auto& sample : vector) {
    const auto* histogram = std::get_if<Histogram>(&sample.number);
    if (histogram == nullptr) {
      notes.warnings.insert(fmt::format(
          "{}: numbers are left out, it takes distributions (for a rate of one: {}(sum by (...) "
          "(rate(metric[5m]))))",
          function.name, function.name));
      continue;
    }
    const Distribution& distribution = *histogram->distribution;
    Sample answer{.labels = memo.get(sets, sample.labels,
                                     [](const Labels& labels) {
                                       return drop_labels(labels, {std::string(kNameLabel)});
                                     }),
                  .number = 0.0,
                  .bound = {},
                  .unnamed = {}};
    const auto sum = Exact{.quanta = distribution.sum(), .quantum = distribution.quantum()};
    switch (function.id) {
      case FunctionId::kHistogramQuantile:
        set_quantile(answer, distribution, phi, notes);
        answer.unnamed.share = share_of(sample.unnamed, distribution.count());
        break;
      case FunctionId::kHistogramCount:
        answer.number = Exact{.quanta = static_cast<Int128>(distribution.count()),
                              .quantum = 0,
                              .divisor_milli = histogram->divisor_milli};
        answer.unnamed.parts = sample.unnamed.parts;
        break;
      case FunctionId::kHistogramSum:
        answer.number = Exact{.quanta = sum.quanta,
                              .quantum = sum.quantum,
                              .divisor_milli = histogram->divisor_milli};
        for (UnnamedPart part : sample.unnamed.parts) {
          part.quanta = std::max<Int128>(part.sum, 0);  // what is below zero makes it no more
          answer.unnamed.parts.push_back(part);
        }
        break;
      case FunctionId::kHistogramAvg:
        answer.unnamed.share = share_of(sample.unnamed, distribution.count());
        answer.number = sum.value() / static_cast<double>(distribution.count());  // 0/0 is NaN
        break;
      case FunctionId::kRate:
      case FunctionId::kIncrease:
      case FunctionId::kHeavyHitters:
        check_failed(__FILE__, __LINE__, "a function of distributions");
    }
    out.push_back(std::move(answer));
  }
  return out;
}

}  // namespace weir::aggregator
