#include "aggregator/http/server.h"

#include <microhttpd.h>
#include <poll.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "aggregator/http/listen_address.h"
#include "aggregator/http/params.h"

namespace weir::aggregator {
namespace {

// Request line and headers. A 16 KiB expression, every byte percent-escaped, fits.
constexpr size_t kConnectionMemory = size_t{64} << 10;
constexpr size_t kMaxFields = 256;
constexpr std::string_view kFormType = "application/x-www-form-urlencoded";

// One request, from its headers to the last byte of its answer. Belongs to libmicrohttpd's thread,
// except while its connection is suspended: then to the queue, and to the query thread that took
// it.
struct Exchange {
  enum class Stage : uint8_t { kReading, kAnswered };
  Stage stage = Stage::kReading;
  MHD_Connection* connection = nullptr;
  ApiRequest request;
  std::string body;
  ApiResponse response;
  std::chrono::steady_clock::time_point deadline;
};

bool client_left(MHD_Connection* connection) {
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info == nullptr) return false;
  pollfd watched{.fd = info->connect_fd, .events = POLLRDHUP, .revents = 0};
  return ::poll(&watched, 1, 0) == 1 && (watched.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void free_body(void* body) { delete static_cast<std::string*>(body); }

MHD_Result send(MHD_Connection* connection, ApiResponse&& answer) {
  auto* body = new std::string(std::move(answer.body));  // freed by libmicrohttpd when sent
  MHD_Response* response = MHD_create_response_from_buffer_with_free_callback_cls(
      body->size(), body->data(), &free_body, body);
  if (response == nullptr) {
    delete body;
    return MHD_NO;
  }
  MHD_add_response_header(response, "Content-Type", answer.type.c_str());
  MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
  MHD_add_response_header(response, "Cache-Control", "no-store");
  if (answer.status == 405) MHD_add_response_header(response, "Allow", "GET, HEAD, POST");
  if (answer.status == 503) MHD_add_response_header(response, "Retry-After", "1");
  const auto result =
      MHD_queue_response(connection, static_cast<unsigned>(answer.status), response);
  MHD_destroy_response(response);
  return result;
}

MHD_Result collect_argument(void* fields, MHD_ValueKind /*kind*/, const char* key, size_t key_size,
                            const char* value, size_t value_size) {
  auto& out = *static_cast<FormFields*>(fields);
  if (out.size() == kMaxFields) return MHD_NO;  // the rest is not looked at
  out.emplace_back(std::string(key, key_size),
                   value == nullptr ? std::string() : std::string(value, value_size));
  return MHD_YES;
}

}  // namespace

struct HttpServer::State {
  State(HttpConfig config_in, const Clock& clock_in, HttpHooks hooks_in)
      : config(std::move(config_in)), clock(clock_in), hooks(std::move(hooks_in)) {}

  HttpConfig config;
  const Clock& clock;
  HttpHooks hooks;
  MHD_Daemon* daemon = nullptr;
  uint16_t port = 0;
  std::atomic<bool> stopping = false;
  std::vector<std::jthread> threads;

  mutable std::mutex mutex;  // guards what follows
  std::condition_variable waiting;
  std::deque<Exchange*> queue;
  std::map<std::string, uint64_t> counters;

  void count(const std::string& name) {
    const std::scoped_lock lock(mutex);
    ++counters[name];
  }

  std::map<std::string, uint64_t> stats() const {
    const std::scoped_lock lock(mutex);
    auto copy = counters;
    copy["weir_http_queue"] = queue.size();
    return copy;
  }

  MHD_Result reply(Exchange& exchange, ApiResponse&& answer) {
    count(fmt::format("weir_http_requests_total{{code=\"{}\"}}", answer.status));
    exchange.stage = Exchange::Stage::kAnswered;
    return send(exchange.connection, std::move(answer));
  }

  ApiContext context() const {
    ApiContext out;
    out.now = clock.now();
    out.limits = config.limits;
    out.status = hooks.status;
    out.anomalies = hooks.anomalies;
    out.http_counters = stats();
    return out;
  }

  // --- on libmicrohttpd's thread

  MHD_Result begin(Exchange& exchange, const char* method) {
    const std::string_view verb = method;
    if (verb != "GET" && verb != "HEAD" && verb != "POST") {
      return reply(exchange, error_response(405, "bad_data", "only GET, HEAD and POST are served"));
    }
    const char* length = MHD_lookup_connection_value(exchange.connection, MHD_HEADER_KIND,
                                                     MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != nullptr &&
        std::strtoull(length, nullptr, 10) > config.max_body_bytes) {  // overflow gives the maximum
      return reply(exchange, error_response(413, "bad_data", "the request body is too large"));
    }
    return MHD_YES;
  }

  // A body without Content-Length that grows too large ends the connection: libmicrohttpd takes
  // no answer in the middle of one.
  MHD_Result read_body(Exchange& exchange, const char* data, size_t* size) {
    if (exchange.stage == Exchange::Stage::kReading) {
      if (exchange.body.size() + *size > config.max_body_bytes) {
        count("weir_http_body_too_large_total");
        return MHD_NO;
      }
      exchange.body.append(data, *size);
    }
    *size = 0;
    return MHD_YES;
  }

  Status read_fields(Exchange& exchange, std::string_view method) {
    MHD_get_connection_values_n(exchange.connection, MHD_GET_ARGUMENT_KIND, &collect_argument,
                                &exchange.request.fields);
    if (method != "POST" || exchange.body.empty()) return {};
    const char* type = MHD_lookup_connection_value(exchange.connection, MHD_HEADER_KIND,
                                                   MHD_HTTP_HEADER_CONTENT_TYPE);
    if (type == nullptr || !std::string_view(type).starts_with(kFormType)) {
      return invalid(fmt::format("a POST body must be {}", kFormType));
    }
    WEIR_TRY_ASSIGN(auto form, decode_form(exchange.body));
    exchange.request.fields.insert(exchange.request.fields.end(),
                                   std::make_move_iterator(form.begin()),
                                   std::make_move_iterator(form.end()));
    return {};
  }

  MHD_Result complete(Exchange& exchange, const char* url, const char* method) {
    exchange.request.path = url;
    if (const auto read = read_fields(exchange, method); !read) {
      return reply(exchange, error_response(400, "bad_data", read.error().message));
    }
    if (auto quick = route_without_data(exchange.request, context())) {
      return reply(exchange, *std::move(quick));
    }
    const auto timeout = timeout_of(exchange.request.fields, config.query_timeout);
    exchange.deadline = std::chrono::steady_clock::now() + timeout;
    {
      const std::scoped_lock lock(mutex);
      if (queue.size() < config.queue && !stopping) {
        MHD_suspend_connection(exchange.connection);  // before a query thread can resume it
        queue.push_back(&exchange);
        waiting.notify_one();
        return MHD_YES;
      }
      ++counters["weir_http_queue_full_total"];
    }
    return reply(exchange, error_response(503, "unavailable", "too many queries are waiting"));
  }

  static MHD_Result on_request(void* self, MHD_Connection* connection, const char* url,
                               const char* method, const char* /*version*/, const char* data,
                               size_t* data_size, void** slot) {
    auto& state = *static_cast<State*>(self);
    if (*slot == nullptr) {
      auto* exchange = new Exchange;  // deleted in on_completed
      exchange->connection = connection;
      *slot = exchange;
      return state.begin(*exchange, method);
    }
    auto& exchange = *static_cast<Exchange*>(*slot);
    if (*data_size > 0) return state.read_body(exchange, data, data_size);
    if (exchange.stage == Exchange::Stage::kAnswered) {
      return state.reply(exchange, std::move(exchange.response));
    }
    return state.complete(exchange, url, method);
  }

  static void on_completed(void* /*self*/, MHD_Connection* /*connection*/, void** slot,
                           MHD_RequestTerminationCode /*code*/) {
    delete static_cast<Exchange*>(*slot);
    *slot = nullptr;
  }

  // --- on the query threads

  Exchange* next_exchange() {
    std::unique_lock lock(mutex);
    waiting.wait(lock, [this] { return stopping || !queue.empty(); });
    if (queue.empty()) return nullptr;
    Exchange* exchange = queue.front();
    queue.pop_front();
    return exchange;
  }

  ApiResponse answer(const Exchange& exchange, std::unique_ptr<DataSource>& source) {
    if (stopping) return error_response(503, "unavailable", "the server is stopping");
    if (!source) {
      auto opened = hooks.open_source();
      if (!opened) return error_response(503, "unavailable", opened.error().message);
      source = *std::move(opened);
    }
    ApiContext out = context();
    out.limits.deadline = exchange.deadline;
    out.stop = [this, &exchange] {
      return stopping || std::chrono::steady_clock::now() >= exchange.deadline ||
             client_left(exchange.connection);
    };
    if (out.stop()) {
      return error_response(503, "timeout", "query timed out while it waited for its turn");
    }
    return route(exchange.request, *source, out);
  }

  void serve() {
    std::unique_ptr<DataSource> source;  // this thread's own
    while (Exchange* exchange = next_exchange()) {
      exchange->response = answer(*exchange, source);
      if (client_left(exchange->connection)) count("weir_http_client_left_total");
      if (exchange->response.status == 500) source.reset();  // opened afresh for the next one
      exchange->stage = Exchange::Stage::kAnswered;
      MHD_resume_connection(exchange->connection);
    }
  }
};

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpConfig config, const Clock& clock,
                                                      HttpHooks hooks) {
  WEIR_TRY_ASSIGN(auto address, parse_listen_address(config.listen));
  auto state = std::make_unique<State>(std::move(config), clock, std::move(hooks));
  const auto& limits = state->config;
  unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
  if (address.is_v6()) flags |= MHD_USE_IPv6;
  state->daemon = MHD_start_daemon(
      flags, 0, nullptr, nullptr, &State::on_request, state.get(), MHD_OPTION_SOCK_ADDR,
      &address.address.generic, MHD_OPTION_CONNECTION_LIMIT, limits.max_connections,
      MHD_OPTION_PER_IP_CONNECTION_LIMIT, limits.connections_per_address,
      MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(limits.idle_timeout.count()),
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionMemory, MHD_OPTION_NOTIFY_COMPLETED,
      &State::on_completed, state.get(), MHD_OPTION_END);
  if (state->daemon == nullptr) {
    return Error{Errc::kIo,
                 fmt::format("http: cannot listen on {}: {}", limits.listen, std::strerror(errno))};
  }
  const auto* info = MHD_get_daemon_info(state->daemon, MHD_DAEMON_INFO_BIND_PORT);
  WEIR_CHECK(info != nullptr);
  state->port = info->port;
  auto* raw = state.get();
  for (unsigned i = 0; i < limits.query_threads; ++i) {
    state->threads.emplace_back([raw] { raw->serve(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::~HttpServer() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stopping = true;
    state_->waiting.notify_all();
  }
  // The query threads answer all that waits, quickly now, so nothing is suspended any more.
  state_->threads.clear();
  MHD_stop_daemon(state_->daemon);
}

uint16_t HttpServer::port() const { return state_->port; }

std::map<std::string, uint64_t> HttpServer::stats() const { return state_->stats(); }

}  // namespace weir::aggregator
