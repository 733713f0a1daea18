#pragma once
// What `weir query`, `weir status` and `weir anomalies` print, made from the API's JSON.
//
// Pure, any thread. Promise: whatever the server sent, the text is safe for a terminal; tables are
// at most 80 columns wide wherever the values themselves allow it.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/commands.h"

namespace weir::cli {

// Empty: no series. Full digits in CSV, six in tables.
[[nodiscard]] std::string query_text(const nlohmann::json& body, Output output);
[[nodiscard]] std::string notes_text(const nlohmann::json& body);  // warnings and infos, by line
[[nodiscard]] std::string status_text(const nlohmann::json& data);
[[nodiscard]] std::string anomalies_text(const nlohmann::json& body, Output output);  // empty: none

}  // namespace weir::cli
