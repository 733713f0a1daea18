#pragma once
// Runs a parsed query over a DataSource: one select per selector, then one pass over the steps.
//
// Pure but for the DataSource: time and cancellation come in as values (EvalOptions). Thread: the
// query's own. Promise: sums of counters and distributions stay integers until the last division;
// what an answer does not say by itself is in `infos` and `warnings`; bounded by QueryLimits and by
// max_rows points in the result. Errors: kInvalid (the query cannot be answered), kLimit,
// kUnavailable (stopped).
//
// Windows of a range [R] at time t: those whose end is in (t-R, t], and the open one (its end is
// after now) if it began before t. docs/query.md says it for users.

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "aggregator/query/ast.h"
#include "aggregator/query/notes.h"
#include "aggregator/query/value.h"

namespace weir::aggregator {

inline constexpr int64_t kLookbackMs = 300'000;  // of selectors without a range
inline constexpr size_t kMaxSteps = 11'000;      // Prometheus' limit of points per series

struct EvalOptions {
  int64_t start_ms = 0;
  int64_t end_ms = 0;
  int64_t step_ms = 0;  // 0: an instant query at start_ms
  int64_t now_s = 0;
  QueryLimits limits;
  std::function<bool()> stop;  // empty: never
};

struct ResultPoint {
  int64_t time_ms = 0;
  std::variant<double, Histogram> value;
  std::optional<Bound> bound;
  std::optional<double> overflow_upper{};  // the most it can be, when unnamed events may be its own
  double overflow_share = 0;               // of a quantile's events: unnamed ones that may belong
};

// A set of members becomes their estimated number, with its bound.
void set_value(ResultPoint& point, Number&& number);

struct ResultSeries {
  Labels labels;
  std::vector<ResultPoint> points;  // exactly one in an instant query, unless type is kRange
};

struct QueryResult {
  ExprType type = ExprType::kVector;  // kRange for every query with steps
  int64_t time_ms = 0;                // of the first step
  std::string text;                   // of kString
  std::vector<ResultSeries> series;   // of kScalar: one without labels
  QueryNotes notes;
};

Result<QueryResult> evaluate(const Expr& root, DataSource& source, const EvalOptions& options);

}  // namespace weir::aggregator
