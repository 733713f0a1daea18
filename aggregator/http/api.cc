#include "aggregator/http/api.h"

#include <array>

#include "aggregator/http/handlers.h"
#include "aggregator/http/params.h"
#include "aggregator/http/render.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kLabelPrefix = "/api/v1/label/";
constexpr std::string_view kLabelSuffix = "/values";

ApiResponse plain_text(std::string text) {
  return {.type = "text/plain; charset=utf-8", .body = std::move(text)};
}

// Calls that clients make and Weir has nothing for yet: an empty success, not an error.
struct EmptyAnswer {
  std::string_view path;
  std::string_view data;
};

constexpr std::array kEmptyAnswers = std::to_array<EmptyAnswer>({
    {"/api/v1/metadata", "{}"},
    {"/api/v1/rules", "{\"groups\":[]}"},
    {"/api/v1/query_exemplars", "[]"},
});

ApiResponse not_found(const ApiRequest& request) {
  return error_response(404, "not_found", "no such call: " + request.path);
}

}  // namespace

ApiResponse error_response(int status, std::string_view type, std::string_view text) {
  JsonWriter json;
  json.begin_object().text("status", "error").text("errorType", type).text("error", text);
  json.end_object();
  return {.status = status, .body = std::move(json).take()};
}

ApiResponse bad_data(const Error& error) { return error_response(400, "bad_data", error.message); }

ApiResponse failed(const Error& error) {
  switch (error.code) {
    case Errc::kInvalid:
    case Errc::kLimit:
      return error_response(422, "execution", error.message);
    case Errc::kUnavailable:
      return error_response(503, "timeout", error.message);
    case Errc::kNotFound:
      return error_response(404, "not_found", error.message);
    case Errc::kIo:
    case Errc::kInternal:
      return error_response(500, "internal", error.message);
  }
  return error_response(500, "internal", error.message);
}

JsonWriter success() {
  JsonWriter json;
  json.begin_object().text("status", "success").key("data");
  return json;
}

ApiResponse finish(JsonWriter json) {
  json.end_object();
  return {.body = std::move(json).take()};
}

// Not while it waits for its disk (disk_wait.h): it answers, and takes nothing.
ApiResponse answer_ready(const ApiContext& context) {
  if (!context.status().counters.contains("weir_store_unavailable")) {
    return plain_text("Weir is ready.\n");
  }
  ApiResponse response = plain_text("Weir waits until its data_dir can be written.\n");
  response.status = 503;
  return response;
}

Result<TimeRange> time_range(const ApiRequest& request, const ApiContext& context) {
  const int64_t now_ms = unix_seconds(context.now) * 1000;
  WEIR_TRY_ASSIGN(const int64_t end, time_field(request.fields, "end", now_ms));
  WEIR_TRY_ASSIGN(const int64_t start, time_field(request.fields, "start", end - kDefaultSpanMs));
  if (end < start) {
    return invalid("invalid parameter \"end\": end timestamp must not be before start time");
  }
  return TimeRange{.from_s = start / 1000, .to_s = (end + 999) / 1000};
}

std::optional<ApiResponse> route_without_data(const ApiRequest& request,
                                              const ApiContext& context) {
  const std::string_view path = request.path;
  if (path == "/-/healthy") return plain_text("Weir is healthy.\n");
  if (path == "/-/ready") return answer_ready(context);
  if (path == "/metrics") return answer_metrics(context);
  if (path == "/api/v1/status/weir") return answer_status(context);
  if (path == "/api/v1/status/buildinfo") return answer_build_information();
  for (const auto& empty : kEmptyAnswers) {
    if (path == empty.path) {
      return ApiResponse{.body =
                             "{\"status\":\"success\",\"data\":" + std::string(empty.data) + "}"};
    }
  }
  return std::nullopt;
}

ApiResponse route(const ApiRequest& request, DataSource& source, const ApiContext& context) {
  if (auto quick = route_without_data(request, context)) return *std::move(quick);
  const std::string_view path = request.path;
  if (path == "/api/v1/query") return answer_query(request, source, context);
  if (path == "/api/v1/query_range") return answer_query_range(request, source, context);
  if (path == "/api/v1/labels") return answer_labels(request, source, context);
  if (path == "/api/v1/series") return answer_series(request, source, context);
  if (path == "/api/v1/profile") return answer_profile(request, source, context);
  if (path == "/api/v1/alerts") return answer_alerts(request, context);
  if (path.starts_with(kLabelPrefix) && path.ends_with(kLabelSuffix) &&
      path.size() > kLabelPrefix.size() + kLabelSuffix.size()) {
    const auto label =
        path.substr(kLabelPrefix.size(), path.size() - kLabelPrefix.size() - kLabelSuffix.size());
    return answer_label_values(request, std::string(label), source, context);
  }
  return not_found(request);
}

}  // namespace weir::aggregator
