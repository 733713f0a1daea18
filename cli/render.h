#pragma once
// What `weir query`, `weir status` and `weir anomalies` print, made from the API's JSON.
//
// Pure, any thread. Promise: whatever the server sent, the text is safe for a terminal; tables are
// at most 80 columns wide wherever the values themselves allow it.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/commands.h"

namespace weir::cli {

// Empty: no series. Full digits in CSV, six in tables, and under a table what it covers.
[[nodiscard]] std::string query_text(const nlohmann::json& body, Output output);
// Warnings and infos, by line; after a query_text, what that has not said.
enum class Said : uint8_t { kNothing, kCoverage };
[[nodiscard]] std::string notes_text(const nlohmann::json& body, Said said);
[[nodiscard]] std::string status_text(const nlohmann::json& data);
[[nodiscard]] std::string anomalies_text(const nlohmann::json& body, Output output);  // empty: none

}  // namespace weir::cli
