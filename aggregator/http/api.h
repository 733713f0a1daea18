#pragma once
// The HTTP API as a pure function: a decoded request in, status, type and body out. No sockets, no
// threads, no clock; the server (http/server.h) gives it all three as values.
//
// Thread: any; the DataSource belongs to the calling thread. Promise: every answer is Prometheus-
// shaped JSON (text for /-/*, /metrics and folded profiles); hostile parameters give 400; nothing
// here changes state. docs/query.md lists the calls and the `weir` object of weir=1:
//
//   "weir": {"windows": {"finest_s": 60, "coarsest_s": 300, "open": true}, "damaged_blocks": 0,
//            "samples": [{"lo": "0.41", "hi": "0.42", "scale": 6, "error": 0.0054}, ...]}
//
// samples[i] belongs to data.result[i]; a matrix has "points": [[time, "lo", "hi"], ...] instead of
// lo and hi; a sample that is no quantile is {} (or has only scale, for a histogram).

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aggregator/detect/anomaly.h"
#include "aggregator/query/data_source.h"
#include "aggregator/status.h"
#include "common/clock.h"
#include "common/result.h"

namespace weir::aggregator {

using StatusFn = std::function<TierStatus()>;  // thread-safe, quick: a copy under a lock
using DataSourceFactory = std::function<Result<std::unique_ptr<DataSource>>()>;
// Anomalies of windows that end in (from_s, to_s], newest first, at most `limit`. Thread-safe.
using AnomaliesFn =
    std::function<Result<std::vector<Anomaly>>(int64_t from_s, int64_t to_s, size_t limit)>;

using FormFields = std::vector<std::pair<std::string, std::string>>;

struct ApiRequest {
  std::string path;   // decoded, without the query string
  FormFields fields;  // of the query string, then of a form body
};

struct ApiResponse {
  int status = 200;
  std::string type = "application/json";
  std::string body;
};

// What the world contributes to one answer.
struct ApiContext {
  UnixTime now{};
  QueryLimits limits;
  std::function<bool()> stop;  // true: deadline passed or the client left; polled while evaluating
  StatusFn status;
  AnomaliesFn anomalies;
  std::map<std::string, uint64_t> http_counters;  // weir_http_*, shown on /metrics
};

// Calls that read no stored windows: health, metrics, status, build information. Quick enough for
// the network thread. Empty when the path needs a DataSource.
[[nodiscard]] std::optional<ApiResponse> route_without_data(const ApiRequest& request,
                                                            const ApiContext& context);
// Every call.
[[nodiscard]] ApiResponse route(const ApiRequest& request, DataSource& source,
                                const ApiContext& context);

// Prometheus' error body: 400 bad_data, 422 execution, 503 timeout or unavailable, else internal.
[[nodiscard]] ApiResponse error_response(int status, std::string_view type, std::string_view text);

// application/x-www-form-urlencoded; kInvalid for a broken percent escape or more than 256 fields.
[[nodiscard]] Result<FormFields> decode_form(std::string_view text);

}  // namespace weir::aggregator
