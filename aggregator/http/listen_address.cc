#include "aggregator/http/listen_address.h"

#include <arpa/inet.h>

#include <charconv>
#include <string>

#include <fmt/format.h>

namespace weir::aggregator {

Result<ListenAddress> parse_listen_address(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    return invalid(fmt::format("http address \"{}\": {}", text, why));
  };
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad("a port is missing, as in 127.0.0.1:7480");
  const auto port_text = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, fault] =
      std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (fault != std::errc{} || end != port_text.data() + port_text.size()) {
    return bad("the port is not a number from 0 to 65535");
  }
  std::string host(text.substr(0, colon));
  if (host == "localhost") host = "127.0.0.1";
  ListenAddress out;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    out.address.v6.sin6_family = AF_INET6;
    out.address.v6.sin6_port = htons(port);
    const auto inner = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, inner.c_str(), &out.address.v6.sin6_addr) == 1) {
      if (IN6_IS_ADDR_LOOPBACK(&out.address.v6.sin6_addr)) return out;
      return bad("only loopback addresses are served without TLS");
    }
  } else {
    out.address.v4.sin_family = AF_INET;
    out.address.v4.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &out.address.v4.sin_addr) == 1) {
      if ((ntohl(out.address.v4.sin_addr.s_addr) >> 24) == 127) return out;
      return bad("only loopback addresses are served without TLS");
    }
  }
  return bad("the host is neither an IPv4 address, an [IPv6] address, nor localhost");
}

}  // namespace weir::aggregator
