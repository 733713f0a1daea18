// /api/v1/query and /api/v1/query_range.

#include <fmt/format.h>

#include "aggregator/http/handlers.h"
#include "aggregator/http/params.h"
#include "aggregator/http/render.h"
#include "aggregator/query/evaluator.h"
#include "aggregator/query/parser.h"

namespace weir::aggregator {
namespace {

Result<ExprPtr> parse_parameter(const FormFields& fields) {
  const auto* text = find_field(fields, "query");
  auto parsed = parse_query(text == nullptr ? std::string_view{} : *text);
  if (!parsed) return std::move(parsed).error().with("invalid parameter \"query\"");
  return parsed;
}

ApiResponse run(const ApiRequest& request, const Expr& root, DataSource& source,
                const EvalOptions& options) {
  const auto result = evaluate(root, source, options);
  if (!result) return failed(result.error());
  const auto* weir = find_field(request.fields, "weir");
  const bool detailed = weir != nullptr && *weir == "1";
  auto body = render_query(*result, detailed ? Detail::kWeir : Detail::kPrometheus);
  if (!body) return failed(body.error());
  return {.body = *std::move(body)};
}

EvalOptions options_of(const ApiContext& context) {
  EvalOptions options;
  options.now_s = unix_seconds(context.now);
  options.limits = context.limits;
  options.stop = context.stop;
  return options;
}

int64_t now_ms(const ApiContext& context) {
  return std::chrono::floor<std::chrono::milliseconds>(context.now).time_since_epoch().count();
}

// A query that is too long or too deep is a limit (422); one that is wrong is bad data (400).
ApiResponse refused(const Error& error) {
  return error.code == Errc::kLimit ? failed(error) : bad_data(error);
}

}  // namespace

ApiResponse answer_query(const ApiRequest& request, DataSource& source, const ApiContext& context) {
  EvalOptions options = options_of(context);
  const auto time = time_field(request.fields, "time", now_ms(context));
  if (!time) return bad_data(time.error());
  options.start_ms = options.end_ms = *time;
  const auto root = parse_parameter(request.fields);
  if (!root) return refused(root.error());
  return run(request, **root, source, options);
}

ApiResponse answer_query_range(const ApiRequest& request, DataSource& source,
                               const ApiContext& context) {
  EvalOptions options = options_of(context);
  for (const auto* needed : {"start", "end"}) {
    if (find_field(request.fields, needed) == nullptr) {
      return bad_data(invalid(
          fmt::format("invalid parameter \"{}\": cannot parse \"\" to a valid timestamp", needed)));
    }
  }
  const auto start = time_field(request.fields, "start", 0);
  if (!start) return bad_data(start.error());
  const auto end = time_field(request.fields, "end", 0);
  if (!end) return bad_data(end.error());
  if (*end < *start) {
    return bad_data(
        invalid("invalid parameter \"end\": end timestamp must not be before start time"));
  }
  const auto step = duration_field(request.fields, "step");
  if (!step) return bad_data(step.error());
  if ((*end - *start) / *step >= static_cast<int64_t>(kMaxSteps)) {
    return bad_data(
        invalid("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the "
                "query resolution (?step=XX)"));
  }
  options.start_ms = *start;
  options.end_ms = *end;
  options.step_ms = *step;
  const auto root = parse_parameter(request.fields);
  if (!root) return refused(root.error());
  return run(request, **root, source, options);
}

}  // namespace weir::aggregator
