#include "cli/api.h"

#include <nlohmann/json.hpp>

#include "cli/terminal.h"

namespace weir::cli {

Result<nlohmann::json> call_api(const HttpClient& client, const std::string& path,
                                const Parameters& parameters) {
  WEIR_TRY_ASSIGN(const HttpResponse response, client.get(path, parameters));
  nlohmann::json body = nlohmann::json::parse(response.body, nullptr, /*allow_exceptions=*/false);
  if (body.is_discarded() || !body.is_object() || !body.contains("status")) {
    return Error{Errc::kInternal, client.server() + path + " answered " +
                                      std::to_string(response.status) +
                                      " and not Weir's JSON; is this a weir-aggregator?"};
  }
  if (body["status"] == "success") return body;
  const auto text = [&](const char* key) {
    const auto it = body.find(key);
    return it != body.end() && it->is_string() ? printable(it->get<std::string>()) : std::string();
  };
  const Errc code = response.status == 503 ? Errc::kUnavailable : Errc::kInvalid;
  return Error{code, text("errorType") + ": " + text("error")};
}

}  // namespace weir::cli
