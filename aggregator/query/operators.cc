#include "aggregator/query/operators.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include <fmt/format.h>

#include "aggregator/query/unnamed.h"

namespace weir::aggregator {
namespace {

Labels without_name(const Labels& labels) { return drop_labels(labels, {std::string(kNameLabel)}); }

bool keeps_name(const BinaryNode& node) {
  return is_comparison(node.op) && node.compare == CompareMode::kFilter;
}

LabelSetId result_labels(const BinaryNode& node, LabelSetId from, LabelSets& sets,
                         BinaryMemo& memo) {
  return memo.result.get(sets, from, [&node](const Labels& labels) {
    Labels out = keeps_name(node) ? labels : without_name(labels);
    if (node.matching == LabelSelection::kOnly) return keep_labels(out, node.labels);
    if (node.matching == LabelSelection::kAllBut) return drop_labels(out, node.labels);
    return out;
  });
}

LabelSetId match_key(const BinaryNode& node, LabelSetId from, LabelSets& sets, LabelMemo& memo) {
  return memo.get(sets, from, [&node](const Labels& labels) {
    if (node.matching == LabelSelection::kOnly) return keep_labels(labels, node.labels);
    return drop_labels(without_name(labels), node.labels);
  });
}

Error not_for_distributions(BinaryOp op) {
  return invalid(
      fmt::format("operator \"{}\" does not apply to a distribution: take histogram_quantile, "
                  "histogram_count or histogram_sum of it first",
                  binary_text(op)));
}

// Their estimates can be compared, but not added: members of both would count twice.
Status check_members(BinaryOp op, const Number& number) {
  if (!is_members(number) || is_comparison(op)) return {};
  return invalid(fmt::format(
      "operator \"{}\" does not apply to sets of members: sum gives their union", binary_text(op)));
}

// Interval arithmetic of one bound with an exact number, where it is simple.
std::optional<Bound> shifted_bound(BinaryOp op, const std::optional<Bound>& bound, double number) {
  const bool scales = op == BinaryOp::kMul || op == BinaryOp::kDiv;
  if (!bound || !(scales || op == BinaryOp::kAdd || op == BinaryOp::kSub)) return std::nullopt;
  const auto [lo, hi] =
      std::minmax({compute(op, bound->lo, number), compute(op, bound->hi, number)});
  return Bound{.lo = lo,
               .hi = hi,
               .scale = bound->scale,
               .relative_error = scales ? bound->relative_error : 0};
}

// The most `value op number` can be, where it grows with the value.
Unnamed shifted_unnamed(BinaryOp op, const Sample& sample, double number) {
  const bool scales = op == BinaryOp::kMul || op == BinaryOp::kDiv;
  const bool shifts = op == BinaryOp::kAdd || op == BinaryOp::kSub;
  if (!shifts && !(scales && number > 0)) return {};
  const auto upper = upper_of(sample);
  return {.upper = upper ? std::optional(compute(op, *upper, number)) : std::nullopt,
          .share = sample.unnamed.share};
}

Result<Histogram> added(const Histogram& left, const Histogram& right) {
  if (left.divisor_milli != right.divisor_milli) {
    return invalid("distributions over different lengths of time cannot be added exactly");
  }
  Distribution sum = *left.distribution;
  WEIR_TRY(add_distribution(sum, *right.distribution));
  return Histogram{std::make_shared<const Distribution>(std::move(sum)), left.divisor_milli};
}

}  // namespace

double compute(BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kAdd:
      return left + right;
    case BinaryOp::kSub:
      return left - right;
    case BinaryOp::kMul:
      return left * right;
    case BinaryOp::kDiv:
      return left / right;
    case BinaryOp::kMod:
      return std::fmod(left, right);
    case BinaryOp::kPow:
      return std::pow(left, right);
    case BinaryOp::kEq:
    case BinaryOp::kNe:
    case BinaryOp::kLt:
    case BinaryOp::kLe:
    case BinaryOp::kGt:
    case BinaryOp::kGe:
      return compare(op, left, right) ? 1 : 0;
  }
  return std::nan("");
}

bool compare(BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kEq:
      return left == right;
    case BinaryOp::kNe:
      return left != right;
    case BinaryOp::kLt:
      return left < right;
    case BinaryOp::kLe:
      return left <= right;
    case BinaryOp::kGt:
      return left > right;
    case BinaryOp::kGe:
      return left >= right;
    case BinaryOp::kAdd:
    case BinaryOp::kSub:
    case BinaryOp::kMul:
    case BinaryOp::kDiv:
    case BinaryOp::kMod:
    case BinaryOp::kPow:
      return false;
  }
  return false;
}

Result<Vector> vector_with_number(const BinaryNode& node, Vector vector, double number,
                                  NumberSide side, LabelSets& sets, BinaryMemo& memo) {
  const bool filter = keeps_name(node);
  const bool commutes = node.op == BinaryOp::kAdd || node.op == BinaryOp::kMul;
  Vector out;
  out.reserve(vector.size());
  for (auto& sample : vector) {
    if (is_histogram(sample.number)) return not_for_distributions(node.op);
    WEIR_TRY(check_members(node.op, sample.number));
    const double value = to_double(sample.number);
    const double left = side == NumberSide::kLeft ? number : value;
    const double right = side == NumberSide::kLeft ? value : number;
    if (filter && !compare(node.op, left, right)) continue;
    const auto labels = result_labels(node, sample.labels, sets, memo);
    if (filter) {  // the vector's value stays, whichever side it is on
      out.push_back({labels, std::move(sample.number), sample.bound, std::move(sample.unnamed)});
    } else {
      const bool bounded = side == NumberSide::kRight || commutes;
      out.push_back({labels, compute(node.op, left, right),
                     bounded ? shifted_bound(node.op, sample.bound, number) : std::nullopt,
                     bounded ? shifted_unnamed(node.op, sample, number) : Unnamed{}});
    }
  }
  return out;
}

Result<Vector> vector_with_vector(const BinaryNode& node, const Vector& left, const Vector& right,
                                  LabelSets& sets, BinaryMemo& memo) {
  std::unordered_map<LabelSetId, const Sample*> rights;
  for (const auto& sample : right) {
    const auto key = match_key(node, sample.labels, sets, memo.right_key);
    const auto [at, added_now] = rights.try_emplace(key, &sample);
    if (!added_now) {
      return invalid(fmt::format(
          "found duplicate series for the match group {} on the right hand-side of the operation: "
          "[{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
          labels_text(sets[key]), labels_text(sets[sample.labels]),
          labels_text(sets[at->second->labels])));
    }
  }
  std::unordered_map<LabelSetId, LabelSetId> matched;
  Vector out;
  for (const auto& sample : left) {
    const auto key = match_key(node, sample.labels, sets, memo.left_key);
    const auto found = rights.find(key);
    if (found == rights.end()) continue;
    if (!matched.try_emplace(key, sample.labels).second) {
      return invalid(
          fmt::format("multiple matches for labels {}: many-to-one matching must be explicit "
                      "(group_left/group_right, not supported yet by Weir)",
                      labels_text(sets[key])));
    }
    const Sample& other = *found->second;
    const auto labels = result_labels(node, sample.labels, sets, memo);
    const auto* left_histogram = std::get_if<Histogram>(&sample.number);
    const auto* right_histogram = std::get_if<Histogram>(&other.number);
    if (left_histogram != nullptr || right_histogram != nullptr) {
      if (node.op != BinaryOp::kAdd || left_histogram == nullptr || right_histogram == nullptr) {
        return not_for_distributions(node.op);
      }
      WEIR_TRY_ASSIGN(auto sum, added(*left_histogram, *right_histogram));
      out.push_back({labels, std::move(sum), std::nullopt});
      continue;
    }
    WEIR_TRY(check_members(node.op, sample.number));
    WEIR_TRY(check_members(node.op, other.number));
    const double a = to_double(sample.number);
    const double b = to_double(other.number);
    if (!keeps_name(node)) {
      out.push_back({labels, compute(node.op, a, b), std::nullopt});
    } else if (compare(node.op, a, b)) {
      out.push_back({labels, sample.number, sample.bound, sample.unnamed});
    }
  }
  return out;
}

Result<Vector> negated(Vector vector, LabelSets& sets, LabelMemo& memo) {
  for (auto& sample : vector) {
    if (is_histogram(sample.number)) return not_for_distributions(BinaryOp::kSub);
    WEIR_TRY(check_members(BinaryOp::kSub, sample.number));
    if (auto* exact = std::get_if<Exact>(&sample.number)) {
      exact->quanta = -exact->quanta;
    } else {
      sample.number = -to_double(sample.number);
    }
    if (sample.bound) {
      const auto [lo, hi] = std::pair{sample.bound->lo, sample.bound->hi};
      sample.bound->lo = -hi;
      sample.bound->hi = -lo;
    }
    sample.labels = memo.get(sets, sample.labels, without_name);
    sample.unnamed = {};
  }
  return vector;
}

std::string labels_text(const Labels& labels) {
  std::string out = "{";
  for (const auto& [name, value] : labels) {
    out += fmt::format("{}{}=\"{}\"", out.size() > 1 ? ", " : "", name, value);
  }
  return out + "}";
}

}  // namespace weir::aggregator
