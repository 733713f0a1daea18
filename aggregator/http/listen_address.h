#pragma once
// "127.0.0.1:7480", "localhost:0", "[::1]:7480" as a socket address. Pure.

#include <netinet/in.h>
#include <sys/socket.h>

#include <string_view>

#include "common/result.h"

namespace weir::aggregator {

struct ListenAddress {
  union {
    sockaddr generic;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } address{};

  [[nodiscard]] bool is_v6() const { return address.generic.sa_family == AF_INET6; }
};

// kInvalid: not ADDRESS:PORT, or not loopback: other addresses need TLS, which is not built in yet.
Result<ListenAddress> parse_listen_address(std::string_view text);

}  // namespace weir::aggregator
