#include "aggregator/http/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "aggregator/http/listen_address.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_data_source.h"

namespace weir::aggregator {
namespace {

// A client connection; reads give up after some seconds so a broken server fails instead of hangs.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }

  Client(Client&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Client& operator=(Client&&) = delete;

  ~Client() {
    if (fd_ >= 0) ::close(fd_);
  }

  Client& send(std::string_view text) {
    while (!text.empty()) {
      const auto n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) break;  // the server may refuse before it has read everything
      text.remove_prefix(static_cast<size_t>(n));
    }
    return *this;
  }

  // Everything until the server closes.
  std::string read_all() {
    std::string out;
    std::array<char, 4096> buffer{};
    while (true) {
      const auto n = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (n <= 0) return out;
      out.append(buffer.data(), static_cast<size_t>(n));
    }
  }

 private:
  int fd_;
};

std::string get_text(const std::string& target) {
  return "GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
}

std::string post_text(const std::string& target, const std::string& type, const std::string& body) {
  return "POST " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: " + type +
         "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

int status_of(const std::string& response) {
  return response.size() > 12 ? std::stoi(response.substr(9, 3)) : 0;
}

// Holds every select until it is opened.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++entered_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }

  void open() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

  void wait_for_entry() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return entered_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int entered_ = 0;
  bool open_ = false;
};

class GatedSource final : public DataSource {
 public:
  explicit GatedSource(Gate& gate) : gate_(gate) {}

  Result<Selection> select(const SelectRequest&, const QueryLimits&) override {
    gate_.pass();
    return Selection{};
  }

  Result<std::vector<std::string>> label_values(const std::string&) override {
    return std::vector<std::string>{};
  }

  [[nodiscard]] std::vector<uint32_t> widths() const override { return {60}; }

 private:
  Gate& gate_;
};

class ServerTest : public testing::Test {
 protected:
  void start(HttpConfig config = {}) {
    config.listen = "127.0.0.1:0";
    if (!hooks_.open_source) {
      hooks_.open_source = [] {
        return Result<std::unique_ptr<DataSource>>(std::make_unique<FakeDataSource>());
      };
    }
    auto started = HttpServer::start(std::move(config), clock_, hooks_);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server_ = *std::move(started);
  }

  std::string ask(const std::string& request) {
    return Client(server_->port()).send(request).read_all();
  }

  void gate_sources(Gate& gate) {
    hooks_.open_source = [&gate] {
      return Result<std::unique_ptr<DataSource>>(std::make_unique<GatedSource>(gate));
    };
  }

  // Waits for the server's threads, however long they take; ctest has the last word.
  void wait_for(const std::string& counter, uint64_t value) {
    while (server_->stats()[counter] < value) std::this_thread::yield();
  }

  FakeClock clock_;
  HttpHooks hooks_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ServerTest, AnswersGetAndFormPost) {
  start();
  const std::string answer =
      R"({"status":"success","data":{"resultType":"scalar","result":[4,"2"]}})";
  const auto got = ask(get_text("/api/v1/query?query=1%2B1&time=4"));
  EXPECT_EQ(status_of(got), 200);
  EXPECT_TRUE(got.ends_with(answer)) << got;
  EXPECT_NE(got.find("X-Content-Type-Options: nosniff"), std::string::npos);
  EXPECT_NE(got.find("Content-Type: application/json"), std::string::npos);
  const auto posted = ask(post_text(
      "/api/v1/query?time=4", "application/x-www-form-urlencoded; charset=UTF-8", "query=1+%2B+1"));
  EXPECT_TRUE(posted.ends_with(answer)) << posted;
}

TEST_F(ServerTest, TwoHundredHalfOpenClientsDoNotBlockAnAnswer) {
  start();
  std::vector<Client> half_open;
  for (int i = 0; i < 200; ++i) {
    half_open.emplace_back(server_->port());
    half_open.back().send(i % 2 == 0 ? "GET /api/v1/query?query=1 HTTP/1.1\r\nHo"
                                     : "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: "
                                       "application/x-www-form-urlencoded\r\nContent-Length: "
                                       "100\r\n\r\nquery=");
  }
  EXPECT_EQ(status_of(ask(get_text("/api/v1/query?query=1"))), 200);
  EXPECT_EQ(status_of(ask(get_text("/-/healthy"))), 200);
}

TEST_F(ServerTest, AKeptConnectionServesOneRequestAfterAnother) {
  start();
  Client client(server_->port());
  client.send("GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  client.send("GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto both = client.send(get_text("/api/v1/query?query=2")).read_all();
  size_t answers = 0;
  for (size_t at = both.find("HTTP/1.1 200"); at != std::string::npos;
       at = both.find("HTTP/1.1 200", at + 1)) {
    ++answers;
  }
  EXPECT_EQ(answers, 3u) << both;
}

TEST_F(ServerTest, AFullQueueRefusesAtOnceAndStatusStillAnswers) {
  Gate gate;
  gate_sources(gate);
  start({.query_threads = 1, .queue = 2});
  const auto query = get_text("/api/v1/query?query=x");
  Client running(server_->port());
  running.send(query);
  gate.wait_for_entry();
  Client first(server_->port());
  Client second(server_->port());
  first.send(query);
  wait_for("weir_http_queue", 1);
  second.send(query);
  wait_for("weir_http_queue", 2);
  const auto refused = ask(query);
  EXPECT_EQ(status_of(refused), 503);
  EXPECT_NE(refused.find("\"errorType\":\"unavailable\""), std::string::npos);
  EXPECT_NE(refused.find("Retry-After: 1"), std::string::npos);
  const auto metrics = ask(get_text("/metrics"));
  EXPECT_NE(metrics.find("weir_http_queue_full_total 1\n"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("weir_http_queue 2\n"), std::string::npos) << metrics;
  gate.open();
  EXPECT_EQ(status_of(running.read_all()), 200);
  EXPECT_EQ(status_of(first.read_all()), 200);
  EXPECT_EQ(status_of(second.read_all()), 200);
}

TEST_F(ServerTest, BadRequestsGetOneClearErrorEach) {
  start();
  EXPECT_EQ(status_of(ask("PUT /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
                          "Connection: close\r\n\r\n")),
            405);
  EXPECT_EQ(status_of(ask(post_text("/api/v1/query", "application/json", "{}"))), 400);
  EXPECT_EQ(
      status_of(ask(post_text("/api/v1/query", "application/x-www-form-urlencoded", "query=%zz"))),
      400);
  EXPECT_EQ(status_of(ask(get_text("/api/v1/query?query=sum("))), 400);
  EXPECT_EQ(status_of(ask(get_text("/nosuch"))), 404);
  EXPECT_EQ(status_of(ask("HEAD /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")),
            200);
  ask("\x16\x03\x01 nonsense\r\n\r\n");
  EXPECT_EQ(status_of(ask(get_text("/-/healthy"))), 200);
}

TEST_F(ServerTest, OversizeBodiesAreRefused) {
  start({.max_body_bytes = 1000});
  const std::string body = "query=1&x=" + std::string(2000, 'x');
  EXPECT_EQ(status_of(ask(post_text("/api/v1/query", "application/x-www-form-urlencoded", body))),
            413);
  const auto chunked =
      "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
      std::string(2000, 'x') + "\r\n0\r\n\r\n";
  EXPECT_EQ(status_of(ask(chunked)), 0);  // closed without an answer
  EXPECT_EQ(server_->stats()["weir_http_body_too_large_total"], 1u);
  const std::string fits = "query=1&x=" + std::string(900, 'x');
  EXPECT_EQ(status_of(ask(post_text("/api/v1/query", "application/x-www-form-urlencoded", fits))),
            200);
}

TEST_F(ServerTest, AClientThatLeavesFreesItsThread) {
  Gate gate;
  gate_sources(gate);
  start({.query_threads = 1});
  {
    Client gone(server_->port());
    gone.send(get_text("/api/v1/query_range?query=x%2B1&start=0&end=10000&step=1"));
    gate.wait_for_entry();
  }
  gate.open();
  wait_for("weir_http_client_left_total", 1);
  EXPECT_EQ(status_of(ask(get_text("/api/v1/query?query=1"))), 200);
}

TEST_F(ServerTest, ASourceThatCannotOpenIsUnavailableAndTriedAgain) {
  int tries = 0;
  hooks_.open_source = [&tries]() -> Result<std::unique_ptr<DataSource>> {
    if (++tries == 1) return Error{Errc::kIo, "opening weir.db: no such file"};
    return Result<std::unique_ptr<DataSource>>(std::make_unique<FakeDataSource>());
  };
  start({.query_threads = 1});
  const auto failed = ask(get_text("/api/v1/query?query=1"));
  EXPECT_EQ(status_of(failed), 503);
  EXPECT_NE(failed.find("opening weir.db: no such file"), std::string::npos);
  EXPECT_EQ(status_of(ask(get_text("/api/v1/query?query=1"))), 200);
}

TEST_F(ServerTest, AQueryThatWaitedTooLongIsATimeout) {
  Gate gate;
  gate_sources(gate);
  start({.query_threads = 1});
  Client running(server_->port());
  running.send(get_text("/api/v1/query?query=x"));
  gate.wait_for_entry();
  Client late(server_->port());
  late.send(get_text("/api/v1/query?query=x&timeout=1ms"));
  wait_for("weir_http_queue", 1);
  // Its deadline is a millisecond of real time, which the gate outlasts.
  const auto enough = std::chrono::steady_clock::now() + std::chrono::milliseconds(2);
  while (std::chrono::steady_clock::now() < enough) std::this_thread::yield();
  gate.open();
  EXPECT_EQ(status_of(running.read_all()), 200);
  const auto response = late.read_all();
  EXPECT_EQ(status_of(response), 503);
  EXPECT_NE(response.find("\"errorType\":\"timeout\""), std::string::npos);
}

TEST_F(ServerTest, StoppingAnswersWhatWaits) {
  Gate gate;
  gate_sources(gate);
  start({.query_threads = 1});
  Client running(server_->port());
  running.send(get_text("/api/v1/query?query=x"));
  gate.wait_for_entry();
  Client waiting(server_->port());
  waiting.send(get_text("/api/v1/query?query=x"));
  wait_for("weir_http_queue", 1);
  std::thread opener([&gate] { gate.open(); });
  server_.reset();
  opener.join();
}

TEST(ListenAddress, OnlyLoopbackIsServed) {
  for (const auto* good : {"127.0.0.1:0", "127.9.9.9:80", "localhost:7480", "[::1]:7480"}) {
    EXPECT_TRUE(parse_listen_address(good).ok()) << good;
  }
  const auto outside = parse_listen_address("0.0.0.0:7480");
  ASSERT_FALSE(outside.ok());
  EXPECT_EQ(outside.error().message,
            "http address \"0.0.0.0:7480\": only loopback addresses are served without TLS");
  for (const auto* bad : {"10.0.0.1:80", "[::]:80", "[::ffff:10.0.0.1]:80", "127.0.0.1",
                          "127.0.0.1:65536", "127.0.0.1:x", "example.org:80", ":80", ""}) {
    EXPECT_FALSE(parse_listen_address(bad).ok()) << bad;
  }
}

TEST(ListenAddress, ABusyPortIsAnErrorThatNamesIt) {
  const FakeClock clock;
  auto first = HttpServer::start({.listen = "127.0.0.1:0"}, clock, {});
  ASSERT_TRUE(first.ok());
  const auto taken = "127.0.0.1:" + std::to_string((*first)->port());
  auto second = HttpServer::start({.listen = taken}, clock, {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::kIo);
  EXPECT_NE(second.error().message.find(taken), std::string::npos);
}

}  // namespace
}  // namespace weir::aggregator
