#include "cli/api.h"

#include "cli/json_fields.h"
#include "cli/terminal.h"

namespace weir::cli {

Result<nlohmann::json> call_api(const HttpClient& client, const std::string& path,
                                const Parameters& parameters) {
  WEIR_TRY_ASSIGN(const HttpResponse response, client.get(path, parameters));
  return parse_answer(response, client.server() + path);
}

Result<nlohmann::json> parse_answer(const HttpResponse& response, const std::string& where) {
  nlohmann::json body = nlohmann::json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded() || !body.is_object() || !body.contains("status")) {
    return Error{Errc::kInternal, where + " answered " + std::to_string(response.status) +
                                      " and not Weir's JSON; is this a weir-aggregator?"};
  }
  if (body["status"] == "success") return body;
  if (body["status"] != "error") return Error{Errc::kInternal, where + " answered no status"};
  const Errc code = response.status == 503 ? Errc::kUnavailable : Errc::kInvalid;
  return Error{code, printable(text_field(body, "errorType") + ": " + text_field(body, "error"))};
}

}  // namespace weir::cli
