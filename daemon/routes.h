#pragma once
// From the path bytes the kernel kept to the label of a route.
//
// Pure. Promise: the same rule as the kernel's route hash (bpf/http_parse.h): the query is cut, a
// segment holding a digit is {id}; the result is printable ASCII of at most 161 bytes.

#include <span>
#include <string>

namespace weir::daemon {

// "/users/17/orders?x=1 HTTP/1.1..." -> "/users/{id}/orders". A path longer than the 64 bytes the
// kernel keeps ends in "*".
[[nodiscard]] std::string route_template(std::span<const unsigned char> path);

}  // namespace weir::daemon
