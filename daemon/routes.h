#pragma once
// From the path bytes the kernel kept to the template of a route.
//
// Pure. Promise: paths of one kernel hash (bpf/route_hash.h) have one template, so it does not
// matter which of them the kernel kept: what the hash collapses is {id}, and the rules below only
// join what it tells apart. A template is printable ASCII of at most 161 bytes.

#include <span>
#include <string>
#include <string_view>

namespace weir::daemon {

// What the hash tells apart: "/users/17/orders?x=1 HTTP/1.1..." -> "/users/{id}/orders". The
// origin of an absolute target is left out; a word cut by the end of the 64 bytes is "*".
[[nodiscard]] std::string hashed_template(std::span<const unsigned char> path);

// Does the kernel take this segment (without its '/') for an id?
[[nodiscard]] bool collapses(std::string_view segment);

// The same by more rules: words of hex digits, base64, signed numbers, e-mail addresses and what is
// percent-encoded are {id} too.
[[nodiscard]] std::string with_rules(std::string_view hashed_template);

// The next segment of a template, with its '/'; taken from the front of `rest`.
std::string_view next_segment(std::string_view& rest);

inline constexpr std::string_view kIdSegment = "{id}";

}  // namespace weir::daemon
