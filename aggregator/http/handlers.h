#pragma once
// The calls behind api.h, by subject. Internal to aggregator/http.

#include "aggregator/http/api.h"
#include "aggregator/http/json.h"

namespace weir::aggregator {

// By error code: kInvalid 422 execution (parameters are checked before and give 400), kLimit 422
// execution, kUnavailable 503 timeout, else 500 internal.
[[nodiscard]] ApiResponse failed(const Error& error);
[[nodiscard]] ApiResponse bad_data(const Error& error);
// {"status":"success","data": and the caller's data; finish() closes it.
[[nodiscard]] JsonWriter success();
[[nodiscard]] ApiResponse finish(JsonWriter json);

// queries.cc
ApiResponse answer_query(const ApiRequest& request, DataSource& source, const ApiContext& context);
ApiResponse answer_query_range(const ApiRequest& request, DataSource& source,
                               const ApiContext& context);
// labels.cc
ApiResponse answer_labels(const ApiRequest& request, DataSource& source, const ApiContext& context);
ApiResponse answer_label_values(const ApiRequest& request, const std::string& label,
                                DataSource& source, const ApiContext& context);
ApiResponse answer_series(const ApiRequest& request, DataSource& source, const ApiContext& context);
// profiles.cc
ApiResponse answer_profile(const ApiRequest& request, DataSource& source,
                           const ApiContext& context);
// statuses.cc
ApiResponse answer_alerts(const ApiRequest& request, const ApiContext& context);
ApiResponse answer_status(const ApiContext& context);
ApiResponse answer_build_information();
ApiResponse answer_metrics(const ApiContext& context);

// Windows a call without start and end is about: the last hour.
inline constexpr int64_t kDefaultSpanMs = 3'600'000;

// start and end of a call, in seconds, (start, end]; kInvalid when end is before start.
Result<TimeRange> time_range(const ApiRequest& request, const ApiContext& context);

}  // namespace weir::aggregator
