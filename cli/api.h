#pragma once
// The aggregator's JSON API as the CLI sees it: one call, the envelope checked, nlohmann-json's
// exceptions turned into values. Thread: the caller's.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/http_client.h"
#include "common/result.h"

namespace weir::cli {

// The envelope checked: see call_api().
[[nodiscard]] Result<nlohmann::json> parse_answer(const HttpResponse& response,
                                                  const std::string& where);

// The whole body. kInvalid with the server's own sentence when it answered status "error";
// kInternal when what came is not the API's JSON.
[[nodiscard]] Result<nlohmann::json> call_api(const HttpClient& client, const std::string& path,
                                              const Parameters& parameters);

}  // namespace weir::cli
