#include "daemon/routes.h"

#include <algorithm>
#include <string_view>

#include "bpf/http_parse.h"

namespace weir::daemon {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_printable(char c) { return c > ' ' && c < 0x7f; }

// "http://host:80/x" -> "/x": proxies and HTTP/1.1 absolute targets.
std::string_view without_origin(std::string_view path) {
  const auto colon = path.find("://");
  if (path.starts_with('/') || colon == std::string_view::npos) return path;
  const auto slash = path.find('/', colon + 3);
  return slash == std::string_view::npos ? std::string_view("/") : path.substr(slash);
}

}  // namespace

std::string route_template(std::span<const unsigned char> path) {
  const auto size = static_cast<unsigned>(std::min<size_t>(path.size(), WEIR_PATH_BYTES));
  const unsigned length = weir_hash_path(path.data(), size).length;
  std::string text(path.begin(), path.begin() + length);
  std::replace_if(
      text.begin(), text.end(), [](char c) { return !is_printable(c); }, '_');
  std::string_view rest = without_origin(text);
  std::string out;
  while (!rest.empty()) {
    const auto segment = rest.substr(0, rest.find('/', 1));
    const auto body = segment.substr(segment.starts_with('/') ? 1 : 0);
    const bool cut = length == WEIR_PATH_BYTES && segment.size() == rest.size();
    out += segment.substr(0, segment.size() - body.size());
    if (cut) {
      out += '*';
    } else if (std::any_of(body.begin(), body.end(), is_digit)) {
      out += "{id}";
    } else {
      out += body;
    }
    rest.remove_prefix(segment.size());
  }
  return out.empty() ? "/" : out;
}

}  // namespace weir::daemon
