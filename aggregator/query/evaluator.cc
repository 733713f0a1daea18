#include "aggregator/query/evaluator.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "aggregator/query/aggregate.h"
#include "aggregator/query/heavy_hitters.h"
#include "aggregator/query/histogram.h"
#include "aggregator/query/operators.h"
#include "aggregator/query/selected.h"
#include "aggregator/query/unnamed.h"

namespace weir::aggregator {
namespace {

// Adding series up before or after these gives the same, so they pass the need of labels down.
bool is_linear(FunctionId function) {
  switch (function) {
    case FunctionId::kRate:
    case FunctionId::kIncrease:
    case FunctionId::kHistogramCount:
    case FunctionId::kHistogramSum:
      return true;
    case FunctionId::kHistogramQuantile:
    case FunctionId::kHistogramAvg:
    case FunctionId::kHeavyHitters:
      return false;
  }
  return false;
}

LabelNeed need_of(const AggregateNode& node) {
  if (node.op != AggregateOp::kSum) return {};  // the others see how many series there are
  if (node.grouping == LabelSelection::kAllBut) return {LabelUse::kAllBut, node.labels};
  return {LabelUse::kOnly, node.labels};
}

// Whether an answer says for each of its samples how much of what is unnamed may belong to it.
bool carries_unnamed(const Expr& expr) {
  if (const auto* call = std::get_if<CallNode>(&expr.node)) {
    return carries_unnamed(*call->arguments.back());
  }
  if (const auto* aggregation = std::get_if<AggregateNode>(&expr.node)) {
    const bool sums = aggregation->op == AggregateOp::kSum || aggregation->parameter;
    return sums && carries_unnamed(*aggregation->argument);
  }
  return std::holds_alternative<SelectorNode>(expr.node);
}

ResultPoint point_of(int64_t time_ms, Sample&& sample) {
  ResultPoint point{.time_ms = time_ms, .value = 0.0, .bound = sample.bound};
  point.overflow_upper = upper_of(sample);
  const auto* histogram = std::get_if<Histogram>(&sample.number);
  point.overflow_share = histogram != nullptr
                             ? share_of(sample.unnamed, histogram->distribution->count())
                             : sample.unnamed.share;
  set_value(point, std::move(sample.number));
  return point;
}

bool is_estimated(const ResultSeries& series) {
  return std::ranges::any_of(series.points, [](const ResultPoint& point) {
    return point.bound && point.bound->scale == 0 && point.bound->relative_error > 0;
  });
}

// Greatest first, where the query says so.
bool is_ranked(const Expr& root) {
  if (const auto* aggregation = std::get_if<AggregateNode>(&root.node)) {
    return aggregation->parameter != nullptr;
  }
  const auto* call = std::get_if<CallNode>(&root.node);
  return call != nullptr && call->function->id == FunctionId::kHeavyHitters;
}

class Evaluation {
 public:
  Evaluation(DataSource& source, const EvalOptions& options)
      : source_(source), options_(options), interrupt_(options.stop) {}

  Result<QueryResult> run(const Expr& root) {
    if (options_.step_ms > 0 && (root.type == ExprType::kString || root.type == ExprType::kRange)) {
      return invalid(
          fmt::format("invalid expression type \"{}\" for range query, must be Scalar "
                      "or instant Vector",
                      expr_type_text(root.type)));
    }
    if (const auto* text = std::get_if<StringNode>(&root.node)) {
      QueryResult result;
      result.type = ExprType::kString;
      result.time_ms = options_.start_ms;
      result.text = text->value;
      return result;
    }
    WEIR_TRY(prepare(root, {}));
    QueryResult result;
    result.time_ms = options_.start_ms;
    if (root.type == ExprType::kRange) {
      result.type = ExprType::kRange;
      result.series = selected_.at(&root).points_at(options_.start_ms, sets_);
    } else {
      WEIR_TRY(steps(root, result));
    }
    if (!is_ranked(root) || options_.step_ms > 0) {
      std::ranges::sort(result.series, {}, &ResultSeries::labels);
    }
    if (std::ranges::any_of(result.series, is_estimated)) {
      notes_.infos.insert(
          fmt::format("more than {} members are estimated: standard error {:.3g} %, intervals are "
                      "three of them",
                      Distinct::kMaxList, 100 * Distinct::kStandardError));
    }
    say_truth(notes_, attribution(root, result));
    result.notes = std::move(notes_);
    return result;
  }

 private:
  Status prepare(const Expr& expr, const LabelNeed& need) {
    if (const auto* selector = std::get_if<SelectorNode>(&expr.node)) {
      // Which window is a series' last one depends on all its labels.
      const auto& exact_need = selector->range_ms > 0 ? need : LabelNeed{};
      WEIR_TRY_ASSIGN(auto windows, SelectedWindows::load(*selector, exact_need, source_, options_,
                                                          sets_, notes_));
      selected_.emplace(&expr, std::move(windows));
    } else if (const auto* call = std::get_if<CallNode>(&expr.node)) {
      for (const auto& argument : call->arguments) {
        WEIR_TRY(prepare(*argument, is_linear(call->function->id) ? need : LabelNeed{}));
      }
    } else if (const auto* aggregation = std::get_if<AggregateNode>(&expr.node)) {
      if (aggregation->parameter) WEIR_TRY(prepare(*aggregation->parameter, {}));
      WEIR_TRY(prepare(*aggregation->argument, need_of(*aggregation)));
    } else if (const auto* negate = std::get_if<NegateNode>(&expr.node)) {
      WEIR_TRY(prepare(*negate->argument, {}));
    } else if (const auto* binary = std::get_if<BinaryNode>(&expr.node)) {
      WEIR_TRY(prepare(*binary->left, {}));
      WEIR_TRY(prepare(*binary->right, {}));
    }
    return {};
  }

  [[nodiscard]] Attribution attribution(const Expr& root, const QueryResult& result) const {
    if (!carries_unnamed(root)) return Attribution::kOpen;
    for (const auto& [expr, windows] : selected_) {
      if (windows.leaves_out_unnamed()) return Attribution::kOpen;
      if (windows.has_unnamed_sketches() && result.series.size() > 1) return Attribution::kOpen;
    }
    const auto is_open = [](const ResultPoint& point) {
      return point.overflow_upper || point.overflow_share > 0;
    };
    const bool open = std::ranges::any_of(result.series, [&](const ResultSeries& series) {
      return std::ranges::any_of(series.points, is_open);
    });
    return open ? Attribution::kOpen : Attribution::kExact;
  }

  Status steps(const Expr& root, QueryResult& result) {
    const int64_t step_ms = options_.step_ms > 0 ? options_.step_ms : 1;
    const int64_t last_ms = options_.step_ms > 0 ? options_.end_ms : options_.start_ms;
    result.type = options_.step_ms > 0 ? ExprType::kRange : root.type;
    std::unordered_map<LabelSetId, size_t> places;
    size_t points = 0;
    for (int64_t time_ms = options_.start_ms; time_ms <= last_ms; time_ms += step_ms) {
      WEIR_TRY_ASSIGN(auto answer, eval(root, time_ms));
      if (auto* number = std::get_if<double>(&answer)) {
        answer = Vector{{sets_.intern({}), *number, std::nullopt}};
      }
      auto* vector = std::get_if<Vector>(&answer);
      WEIR_CHECK(vector != nullptr);
      points += vector->size();
      if (points > options_.limits.max_rows) {
        return Error{Errc::kLimit,
                     fmt::format("the answer has more than {} points", options_.limits.max_rows)};
      }
      for (auto& sample : *vector) {
        const auto [at, added] = places.try_emplace(sample.labels, result.series.size());
        if (added) result.series.push_back({.labels = sets_[sample.labels], .points = {}});
        auto& series = result.series[at->second].points;
        if (!series.empty() && series.back().time_ms == time_ms) {
          return invalid("vector cannot contain metrics with the same labelset: " +
                         labels_text(sets_[sample.labels]));
        }
        series.push_back(point_of(time_ms, std::move(sample)));
      }
    }
    return {};
  }

  Result<Answer> eval(const Expr& expr, int64_t time_ms) {
    WEIR_TRY(interrupt_.tick());

    struct Visitor {
      Evaluation& self;
      const Expr& expr;
      int64_t time_ms;

      Result<Answer> operator()(const NumberNode& node) const { return Answer{node.value}; }

      Result<Answer> operator()(const StringNode& node) const { return Answer{node.value}; }

      Result<Answer> operator()(const SelectorNode&) const {
        return wrap(self.selected_.at(&expr).instant_at(time_ms, self.interrupt_, self.notes_));
      }

      Result<Answer> operator()(const CallNode& node) const {
        return wrap(self.call(expr, node, time_ms));
      }

      Result<Answer> operator()(const AggregateNode& node) const {
        return wrap(self.aggregation(expr, node, time_ms));
      }

      Result<Answer> operator()(const NegateNode& node) const {
        return self.negate(expr, node, time_ms);
      }

      Result<Answer> operator()(const BinaryNode& node) const {
        return self.binary(expr, node, time_ms);
      }
    };

    return std::visit(Visitor{*this, expr, time_ms}, expr.node);
  }

  static Result<Answer> wrap(Result<Vector> vector) {
    if (!vector) return std::move(vector).error();
    return Answer{*std::move(vector)};
  }

  Result<Vector> vector_of(const Expr& expr, int64_t time_ms) {
    WEIR_TRY_ASSIGN(auto answer, eval(expr, time_ms));
    auto* vector = std::get_if<Vector>(&answer);
    WEIR_CHECK(vector != nullptr);  // the parser checked the types
    return std::move(*vector);
  }

  Result<double> number_of(const Expr& expr, int64_t time_ms) {
    WEIR_TRY_ASSIGN(const auto answer, eval(expr, time_ms));
    const auto* number = std::get_if<double>(&answer);
    WEIR_CHECK(number != nullptr);
    return *number;
  }

  Result<Vector> call(const Expr& expr, const CallNode& node, int64_t time_ms) {
    const auto& arguments = node.arguments;
    const auto id = node.function->id;
    if (id == FunctionId::kRate || id == FunctionId::kIncrease) {
      return selected_.at(arguments.front().get()).delta_at(id, time_ms, interrupt_, notes_);
    }
    double phi = 0;
    if (id == FunctionId::kHistogramQuantile || id == FunctionId::kHeavyHitters) {
      WEIR_TRY_ASSIGN(phi, number_of(*arguments.front(), time_ms));
    }
    if (id == FunctionId::kHeavyHitters) {  // of a range: over all of its windows
      const Expr& argument = *arguments.back();
      auto summed =
          argument.type == ExprType::kRange
              ? selected_.at(&argument).delta_at(FunctionId::kIncrease, time_ms, interrupt_, notes_)
              : vector_of(argument, time_ms);
      if (!summed) return std::move(summed).error();
      return heavy_hitters(phi, *summed, sets_, notes_);
    }
    WEIR_TRY_ASSIGN(const auto vector, vector_of(*arguments.back(), time_ms));
    return histogram_function(*node.function, phi, vector, sets_, memos_[&expr].result, notes_);
  }

  Result<Vector> aggregation(const Expr& expr, const AggregateNode& node, int64_t time_ms) {
    double parameter = 0;
    if (node.parameter) {
      WEIR_TRY_ASSIGN(parameter, number_of(*node.parameter, time_ms));
    }
    WEIR_TRY_ASSIGN(auto vector, vector_of(*node.argument, time_ms));
    return aggregate(node, parameter, std::move(vector), sets_, memos_[&expr].result,
                     notes_.warnings);
  }

  Result<Answer> negate(const Expr& expr, const NegateNode& node, int64_t time_ms) {
    if (expr.type == ExprType::kScalar) {
      WEIR_TRY_ASSIGN(const double number, number_of(*node.argument, time_ms));
      return Answer{-number};
    }
    WEIR_TRY_ASSIGN(auto vector, vector_of(*node.argument, time_ms));
    return wrap(negated(std::move(vector), sets_, memos_[&expr].result));
  }

  Result<Answer> binary(const Expr& expr, const BinaryNode& node, int64_t time_ms) {
    WEIR_TRY_ASSIGN(auto left, eval(*node.left, time_ms));
    WEIR_TRY_ASSIGN(auto right, eval(*node.right, time_ms));
    const auto* left_number = std::get_if<double>(&left);
    const auto* right_number = std::get_if<double>(&right);
    if (left_number != nullptr && right_number != nullptr) {
      return Answer{compute(node.op, *left_number, *right_number)};
    }
    auto* left_vector = std::get_if<Vector>(&left);
    auto* right_vector = std::get_if<Vector>(&right);
    auto& memo = memos_[&expr];
    if (right_number != nullptr) {
      return wrap(vector_with_number(node, std::move(*left_vector), *right_number,
                                     NumberSide::kRight, sets_, memo));
    }
    if (left_number != nullptr) {
      return wrap(vector_with_number(node, std::move(*right_vector), *left_number,
                                     NumberSide::kLeft, sets_, memo));
    }
    return wrap(vector_with_vector(node, *left_vector, *right_vector, sets_, memo));
  }

  DataSource& source_;
  const EvalOptions& options_;
  Interrupt interrupt_;
  LabelSets sets_;
  QueryNotes notes_;
  std::unordered_map<const Expr*, SelectedWindows> selected_;
  std::unordered_map<const Expr*, BinaryMemo> memos_;
};

}  // namespace

void set_value(ResultPoint& point, Number&& number) {
  if (auto* histogram = std::get_if<Histogram>(&number)) {
    point.value = std::move(*histogram);
    return;
  }
  point.value = to_double(number);
  if (const auto* members = std::get_if<Members>(&number)) {
    point.bound = bound_of(*members->distinct);
  }
}

Result<QueryResult> evaluate(const Expr& root, DataSource& source, const EvalOptions& options) {
  return Evaluation(source, options).run(root);
}

}  // namespace weir::aggregator
