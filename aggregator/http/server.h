#pragma once
// HttpServer: the API on a socket. libmicrohttpd's epoll thread reads requests and suspends them
// into a bounded queue; query threads, each with its own DataSource, answer and resume them.
//
// Owner: whoever called start(); the destructor answers what waits with 503, joins and closes.
// Thread: start, port, stats and the destructor from any one thread; hooks are called from the
// server's threads and must be thread-safe. Promise: slow or half-open clients never block an
// answer; everything is bounded (HttpConfig) and every refusal is counted; the listener is loopback
// or start() fails, because there is no TLS yet; GET and POST only, neither changes state.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "aggregator/http/api.h"
#include "common/clock.h"
#include "common/result.h"

namespace weir::aggregator {

struct HttpConfig {
  std::string listen = "127.0.0.1:7480";  // port 0: the system picks one, port() tells
  unsigned query_threads = 2;
  size_t queue = 64;  // suspended requests; one more gets 503
  size_t max_body_bytes = size_t{1} << 20;
  unsigned max_connections = 1024;
  // Of one remote address. All local clients share one, so a loopback listener must be generous;
  // for others, which need TLS first, 32 is right.
  unsigned connections_per_address = 512;
  std::chrono::seconds idle_timeout{10};
  std::chrono::milliseconds query_timeout{10'000};
  QueryLimits limits{};  // deadline is set per request from query_timeout
};

struct HttpHooks {
  StatusFn status;
  DataSourceFactory open_source;  // called on each query thread, again after it failed
  AnomaliesFn anomalies;
};

class HttpServer {
 public:
  // `clock` outlives the server. kInvalid: address not loopback or not parsable. kIo: cannot bind.
  static Result<std::unique_ptr<HttpServer>> start(HttpConfig config, const Clock& clock,
                                                   HttpHooks hooks);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] uint16_t port() const;
  [[nodiscard]] std::map<std::string, uint64_t> stats() const;  // weir_http_*

  struct State;  // of server.cc

 private:
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::aggregator
