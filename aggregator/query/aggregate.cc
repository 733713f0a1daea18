#include "aggregator/query/aggregate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include <fmt/format.h>

namespace weir::aggregator {
namespace {

// A sum that stays an integer while all its parts have one quantum and one length, and otherwise
// becomes a compensated (Neumaier) sum of doubles.
class NumberSum {
 public:
  void add(const Number& number) {
    ++n_;
    if (const auto* exact = std::get_if<Exact>(&number); exact != nullptr && all_exact_) {
      if (n_ == 1) {
        exact_ = *exact;
        return;
      }
      Int128 total = 0;
      if (exact->quantum == exact_.quantum && exact->divisor_milli == exact_.divisor_milli &&
          !__builtin_add_overflow(exact_.quanta, exact->quanta, &total)) {
        exact_.quanta = total;
        return;
      }
    }
    if (all_exact_) {
      all_exact_ = false;
      if (n_ > 1) add_double(exact_.value());
    }
    add_double(to_double(number));
  }

  [[nodiscard]] Number sum() const { return all_exact_ ? Number{exact_} : Number{float_sum()}; }

  [[nodiscard]] double average() const {
    const auto n = static_cast<double>(n_);
    return all_exact_ ? exact_.value() / n : float_sum() / n;
  }

  [[nodiscard]] uint64_t count() const { return n_; }

 private:
  [[nodiscard]] double float_sum() const { return std::isfinite(sum_) ? sum_ + lost_ : sum_; }

  void add_double(double value) {
    const double total = sum_ + value;
    lost_ += std::abs(sum_) >= std::abs(value) ? (sum_ - total) + value : (value - total) + sum_;
    sum_ = total;
  }

  uint64_t n_ = 0;
  bool all_exact_ = true;
  Exact exact_;
  double sum_ = 0;
  double lost_ = 0;
};

struct Group {
  NumberSum numbers;
  double min = std::nan("");
  double max = std::nan("");
  std::unique_ptr<Distribution> distribution;
  int64_t divisor_milli = 0;
  uint64_t distributions = 0;
  std::map<uint32_t, UnnamedPart> unnamed;
  std::unique_ptr<Distinct> members;
  uint64_t sets = 0;
  std::unique_ptr<Topk> keys;
  int8_t keys_quantum = 0;
};

// A row that is in one member's value is in the sum's.
void add_unnamed(Group& group, const Unnamed& unnamed) {
  for (const UnnamedPart& part : unnamed.parts) {
    const auto [at, added] = group.unnamed.try_emplace(part.row, part);
    at->second.included = at->second.included || part.included;
  }
}

Unnamed unnamed_of(const Group& group) {
  Unnamed out;
  for (const auto& [row, part] : group.unnamed) out.parts.push_back(part);
  return out;
}

Status add_histogram(Group& group, const Histogram& histogram) {
  if (group.distributions++ == 0) {
    group.distribution = std::make_unique<Distribution>(*histogram.distribution);
    group.divisor_milli = histogram.divisor_milli;
    return {};
  }
  if (group.divisor_milli != histogram.divisor_milli) {
    return invalid("distributions over different lengths of time cannot be added exactly");
  }
  return add_distribution(*group.distribution, *histogram.distribution);
}

Status add_members(Group& group, const Members& members) {
  if (group.sets++ > 0) return group.members->merge(*members.distinct);
  group.members = std::make_unique<Distinct>(*members.distinct);
  return {};
}

Status add_keys(Group& group, const Keys& keys) {
  if (group.keys == nullptr) {
    group.keys = std::make_unique<Topk>(*keys.topk);
    group.keys_quantum = keys.quantum;
    return {};
  }
  if (group.keys_quantum != keys.quantum)
    return invalid("topks of different units cannot be added");
  return group.keys->merge(*keys.topk);
}

LabelSetId group_of(const AggregateNode& node, LabelSetId from, LabelSets& sets, LabelMemo& memo) {
  return memo.get(sets, from, [&node](const Labels& labels) {
    switch (node.grouping) {
      case LabelSelection::kNone:
        return Labels{};
      case LabelSelection::kOnly:
        return keep_labels(labels, node.labels);
      case LabelSelection::kAllBut:
        return drop_labels(drop_labels(labels, node.labels), {std::string(kNameLabel)});
    }
    return Labels{};
  });
}

std::string left_out(const AggregateNode& node) {
  return fmt::format(
      "{}: distributions are left out; take histogram_quantile, histogram_count or "
      "histogram_sum of them first",
      aggregate_text(node.op));
}

std::string sets_left_out(const AggregateNode& node) {
  return fmt::format("{}: sets of members are left out; sum gives their union",
                     aggregate_text(node.op));
}

// The k greatest or least of each group, in order; ties in label order; NaN last.
Vector ranked(const AggregateNode& node, double parameter, Vector vector, LabelSets& sets,
              LabelMemo& memo, std::set<std::string>& warnings) {
  if (!(parameter >= 1)) return {};
  const auto limit = static_cast<size_t>(std::min(parameter, 1e9));
  const bool top = node.op == AggregateOp::kTopk;
  if (std::erase_if(vector, [](const Sample& s) { return is_histogram(s.number); }) > 0) {
    warnings.insert(left_out(node));
  }
  std::ranges::stable_sort(vector, [&](const Sample& a, const Sample& b) {
    const double x = to_double(a.number);
    const double y = to_double(b.number);
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
    if (x != y) return top ? x > y : x < y;
    return sets[a.labels] < sets[b.labels];
  });
  std::unordered_map<LabelSetId, size_t> taken;
  std::erase_if(vector, [&](const Sample& sample) {
    return ++taken[group_of(node, sample.labels, sets, memo)] > limit;
  });
  return vector;
}

}  // namespace

Result<Vector> aggregate(const AggregateNode& node, double parameter, Vector vector,
                         LabelSets& sets, LabelMemo& memo, std::set<std::string>& warnings) {
  if (node.op == AggregateOp::kTopk || node.op == AggregateOp::kBottomk) {
    return ranked(node, parameter, std::move(vector), sets, memo, warnings);
  }
  const bool merges = node.op == AggregateOp::kSum || node.op == AggregateOp::kAvg;
  std::unordered_map<LabelSetId, size_t> places;
  std::vector<std::pair<LabelSetId, Group>> groups;
  for (const auto& sample : vector) {
    const auto key = group_of(node, sample.labels, sets, memo);
    const auto [at, added] = places.try_emplace(key, groups.size());
    if (added) groups.emplace_back(key, Group{});
    Group& group = groups[at->second].second;
    if (node.op == AggregateOp::kSum) add_unnamed(group, sample.unnamed);
    if (const auto* histogram = std::get_if<Histogram>(&sample.number)) {
      if (merges) {
        WEIR_TRY(add_histogram(group, *histogram));
      } else {
        ++group.distributions;
      }
      continue;
    }
    if (const auto* members = std::get_if<Members>(&sample.number)) {
      if (node.op == AggregateOp::kSum) {
        WEIR_TRY(add_members(group, *members));
      } else {
        ++group.sets;
      }
      continue;
    }
    const auto* keys = std::get_if<Keys>(&sample.number);
    if (keys != nullptr && node.op == AggregateOp::kSum) {
      WEIR_TRY(add_keys(group, *keys));
      continue;
    }
    group.numbers.add(keys != nullptr ? Number{keys->events()} : sample.number);
    const double value = to_double(sample.number);
    if (!(group.min <= value)) group.min = std::isnan(value) ? group.min : value;
    if (!(group.max >= value)) group.max = std::isnan(value) ? group.max : value;
  }
  Vector out;
  out.reserve(groups.size());
  for (auto& [key, group] : groups) {
    const auto numbers = group.numbers.count();
    if (node.op == AggregateOp::kCount) {
      const uint64_t all = numbers + group.distributions + group.sets;
      out.push_back({key, static_cast<double>(all), std::nullopt});
      continue;
    }
    if (node.op != AggregateOp::kSum && group.sets > 0) warnings.insert(sets_left_out(node));
    const int kinds = (numbers > 0 ? 1 : 0) + (group.distributions > 0 ? 1 : 0) +
                      (group.members != nullptr ? 1 : 0) + (group.keys != nullptr ? 1 : 0);
    if (merges && kinds > 1) {
      warnings.insert(
          fmt::format("{}: a group mixes numbers, distributions, sets or topks and is left out",
                      aggregate_text(node.op)));
      continue;
    }
    if (!merges && group.distributions > 0) warnings.insert(left_out(node));
    if (group.members) out.push_back({key, Members{std::move(group.members)}, std::nullopt});
    if (group.keys) {
      out.push_back({key, Keys{std::move(group.keys), group.keys_quantum}, std::nullopt});
    }
    if (group.distribution) {
      int64_t divisor = group.divisor_milli;
      if (node.op == AggregateOp::kAvg &&
          __builtin_mul_overflow(divisor, static_cast<int64_t>(group.distributions), &divisor)) {
        return invalid("avg: too many distributions over too long a time");
      }
      out.push_back({key, Histogram{std::move(group.distribution), divisor}, std::nullopt,
                     unnamed_of(group)});
    } else if (numbers > 0) {
      const Number value = node.op == AggregateOp::kSum   ? group.numbers.sum()
                           : node.op == AggregateOp::kAvg ? Number{group.numbers.average()}
                           : node.op == AggregateOp::kMin ? Number{group.min}
                                                          : Number{group.max};
      out.push_back({key, value, std::nullopt, unnamed_of(group)});
    }
  }
  return out;
}

}  // namespace weir::aggregator
