#pragma once
// GET against an aggregator's HTTP API, by libcurl. The only file that includes curl is its .cc.
//
// Thread: the caller's. Promise: bounded time and size, no redirects followed, no proxy for
// loopback; every failure says what was tried and what to check.

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"

namespace weir::cli {

using Parameters = std::vector<std::pair<std::string, std::string>>;

struct HttpResponse {
  long status = 0;
  std::string body;
};

class HttpClient {
 public:
  explicit HttpClient(std::string server, std::chrono::seconds timeout = std::chrono::seconds(30));
  // kUnavailable when nothing answers; an HTTP error status is a response, not an error.
  [[nodiscard]] Result<HttpResponse> get(const std::string& path,
                                         const Parameters& parameters) const;

  [[nodiscard]] const std::string& server() const { return server_; }

 private:
  std::string server_;
  std::chrono::seconds timeout_;
};

}  // namespace weir::cli
