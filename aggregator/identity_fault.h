#pragma once
// What a key may say: a message names its own source, and its role sends that type.
//
// Pure. Promise: without an identity (a plain door: this host only) everything may be said; with
// one, nothing in another source's name. Cost: a comparison of 16 bytes.

#include <optional>
#include <string_view>

#include "common/frame.h"
#include "common/keys.h"

namespace weir::aggregator {

// Null when it may; otherwise the reason as it stands in counters: "foreign_source", "role".
[[nodiscard]] const char* identity_fault(const FrameHeader& header,
                                         const std::optional<Identity>& identity);

// Whether a key of this role belongs to a source that calls itself of this tier in its HELLO.
[[nodiscard]] bool role_fits_tier(const std::optional<Identity>& identity, std::string_view tier);

}  // namespace weir::aggregator
