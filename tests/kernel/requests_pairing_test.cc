// Which answer belongs to which request, where bytes alone could mislead: bodies that look like
// heads, more requests than are remembered, connections older than the collector.

#include <atomic>
#include <fstream>

#include "tests/kernel/requests_fixture.h"

namespace weir::kernel_test {
namespace {

TEST_F(Requests, ABodyThatLooksLikeAnAnswerIsABody) {
  const std::string_view kBody = "HTTP/1.1 200 OK\r\n\r\nsaid a log line";
  Server server([&](const Socket& peer, std::string_view) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kBody.size() + 40) +
              "\r\n\r\n");
    std::this_thread::sleep_for(1ms);
    peer.send(kBody);  // a segment of its own
    std::this_thread::sleep_for(20ms);
    peer.send(std::string(40, 'x'));
  });
  uint64_t received = 0;
  {
    const Socket client = server.connect();
    for (int i = 0; i < 10; ++i) {
      client.send(request("GET", "/log"));
      received += read_responses(client, 1);
    }
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 10, role);
    EXPECT_EQ(out.by, (Counts{{"GET 2xx /log", 10}})) << role;
    EXPECT_EQ(out.response_bytes, received) << role;
    EXPECT_GE(out.latency.min(), 20'000'000U) << role;  // to the last byte
  }
}

// Eight are remembered with their route; who comes while others wait beyond them waits there, too.
TEST_F(Requests, BeyondEightNobodyOvertakes) {
  std::atomic<int> got = 0;
  Server server([&](const Socket& peer, std::string_view) {
    const int n = ++got;
    if (n == 10) {
      for (int i = 0; i < 4; ++i) peer.send(kReply);
    } else if (n == 14) {
      for (int i = 0; i < 6; ++i) peer.send(kReply);
      for (int i = 0; i < 4; ++i) peer.send(response("404 Not Found", ""));
    }
  });
  {
    const Socket client = server.connect();
    for (int i = 0; i < 10; ++i) client.send(request("GET", "/one"));
    ASSERT_GT(read_responses(client, 4), 0U);
    for (int i = 0; i < 4; ++i) client.send(request("GET", "/two"));
    ASSERT_GT(read_responses(client, 10), 0U);
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 14, role);
    EXPECT_EQ(out.n, 14U) << role;
    EXPECT_EQ(out.by.count("GET 2xx /two"), 0U) << role;
    EXPECT_EQ(out.by.at("GET 2xx /one"), 8U) << role;
  }
}

TEST_F(Requests, APathCutBeyondEightIsNoOtherRequestsPath) {
  std::atomic<int> got = 0;
  Server server([&](const Socket& peer, std::string_view) {
    if (++got % 9 != 0) return;
    for (int i = 0; i < 9; ++i) peer.send(kReply);
  });
  {
    const Socket client = server.connect();
    for (int round = 0; round < 10; ++round) {
      for (int i = 0; i < 8; ++i) client.send(request("GET", "/word"));
      client.send("GET /cu");
      std::this_thread::sleep_for(1ms);
      client.send("t HTTP/1.1\r\n\r\n");
      ASSERT_GT(read_responses(client, 9), 0U);
    }
  }
  const auto out = settle(server.port(), 90);
  EXPECT_EQ(out.n, 90U);
  EXPECT_EQ(out.by.at("GET 2xx /word"), 80U);
}

TEST_F(Requests, PipelinedEightDeepIsExact) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    for (int round = 0; round < 25; ++round) {
      std::string eight;
      for (const char* path : {"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"}) {
        eight += request("GET", path);
      }
      client.send(eight);
      ASSERT_EQ(read_responses(client, 8), 8 * kReply.size());
    }
  }
  for (const char* role : {"server", "client"}) {
    Counts want;
    for (const char* path : {"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"}) {
      want[std::string("GET 2xx ") + path] = 25;
    }
    EXPECT_EQ(settle(server.port(), 200, role).by, want) << role;
  }
}

TEST_F(Requests, ABodyThatBeginsLikeARequestIsABody) {
  Server server(answer(kReply));
  uint64_t sent = 0;
  {
    const Socket client = server.connect();
    for (int i = 0; i < 20; ++i) {
      const std::string body =
          "GET /from/an/access/log HTTP/1.1\r\n\r\nGET /again HTTP/1.1\r\n\r\n";
      const std::string post = request("POST", "/ship", body);
      const std::string get = request("GET", "/next");
      client.send(std::string_view(post).substr(0, post.size() - body.size()));
      std::this_thread::sleep_for(1ms);
      client.send(body);
      ASSERT_EQ(read_responses(client, 1), kReply.size());
      client.send(get);
      ASSERT_EQ(read_responses(client, 1), kReply.size());
      sent += post.size() + get.size();
    }
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 40, role);
    EXPECT_EQ(out.by, (Counts{{"GET 2xx /next", 20}, {"POST 2xx /ship", 20}})) << role;
    EXPECT_EQ(out.request_bytes, sent) << role;
  }
}

TEST_F(Requests, WhatFollowsABodyInItsSegmentIsARequest) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    for (int i = 0; i < 20; ++i) {
      client.send(request("POST", "/ship", "GET /body HTTP/1.1\r\n\r\n") + request("GET", "/next"));
      ASSERT_EQ(read_responses(client, 2), 2 * kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 40).by, (Counts{{"GET 2xx /next", 20}, {"POST 2xx /ship", 20}}));
}

TEST_F(Requests, TheLastAnswerOfAnOpenConnectionIsCountedWhenTheCollectorStops) {
  Server server(answer(kReply));
  const Socket client = server.connect();
  for (int i = 0; i < 3; ++i) {
    client.send(request("GET", "/open"));
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  EXPECT_EQ(seen(server.port()).by, (Counts{{"GET 2xx /open", 3}}));
}

// With a request at the listening socket (deferred accept) and the next right behind it.
TEST_F(Requests, TheFirstOfTwoIsCountedThoughItMetTheListener) {
  Server server(answer(kReply), Server::Threads::kPerConnection, Family::kV4, 5);
  for (int i = 0; i < 30; ++i) {
    const Socket client = server.connect();
    client.send(request("GET", "/first"));
    client.send(request("GET", "/second"));
    ASSERT_EQ(read_responses(client, 2), 2 * kReply.size());
  }
  EXPECT_EQ(settle(server.port(), 60).by,
            (Counts{{"GET 2xx /first", 30}, {"GET 2xx /second", 30}}));
}

// A request that the full queue of the listener turned away comes again: its client has waited
// since the first time. Connections that wait for their first bytes are not in that queue yet, so
// more of them than it has room for can send.
TEST_F(Requests, AFullAcceptQueueIsPartOfTheLatency) {
  constexpr int kBacklog = 4;
  std::atomic<bool> go = false;
  Server server(
      [&](const Socket& peer, std::string_view) {
        while (!go) std::this_thread::sleep_for(1ms);
        peer.send(kReply);
        ::shutdown(peer.fd(), SHUT_RDWR);
      },
      Server::Threads::kOne, Family::kV4, 5, kBacklog);
  std::vector<Socket> clients;
  for (int i = 0; i < kBacklog; ++i) clients.push_back(server.connect());
  for (int i = 0; i < kBacklog - 1; ++i)
    clients[static_cast<size_t>(i)].send(request("GET", "/full"));
  for (int i = 0; i < kBacklog - 1; ++i) clients.push_back(server.connect());
  for (size_t i = kBacklog - 1; i < clients.size(); ++i) clients[i].send(request("GET", "/full"));
  std::this_thread::sleep_for(500ms);
  go = true;
  for (const Socket& client : clients) ASSERT_GT(read_responses(client, 1), 0U);
  const auto out = settle(server.port(), clients.size());
  EXPECT_EQ(out.by, (Counts{{"GET 2xx /full", clients.size()}}));
  EXPECT_GE(out.latency.min(), 450'000'000U);
}

// Restores what it found.
class Sysctl {
 public:
  Sysctl(std::string path, const std::string& value) : path_(std::move(path)) {
    std::getline(std::ifstream(path_), before_);
    std::ofstream(path_) << value;
  }

  Sysctl(const Sysctl&) = delete;
  Sysctl& operator=(const Sysctl&) = delete;

  ~Sysctl() { std::ofstream(path_) << before_; }

 private:
  std::string path_;
  std::string before_;
};

TEST_F(Requests, FastOpenCountsEveryByteOnce) {
  const Sysctl fast_open("/proc/sys/net/ipv4/tcp_fastopen", "519");  // both ends, without a cookie
  Server server([](const Socket& peer, std::string_view) {
    peer.send(kReply);
    ::shutdown(peer.fd(), SHUT_WR);
  });
  server.allow_fast_open();
  const uint64_t gaps = counter("weir_ebpf_gaps_total");
  uint64_t sent = 0;
  for (int i = 0; i < 30; ++i) {
    const auto text = request("GET", "/fast");
    const Socket client = server.connect_with(text);
    sent += text.size();
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 30, role);
    EXPECT_EQ(out.by, (Counts{{"GET 2xx /fast", 30}})) << role;
    EXPECT_EQ(out.request_bytes, sent) << role;
  }
  EXPECT_EQ(counter("weir_ebpf_gaps_total"), gaps);
}

// Connections that are older than the collector.
class OlderConnections : public Requests {
 protected:
  void SetUp() override {}
};

TEST_F(OlderConnections, AreCountedFromTheirNextRequestOn) {
  Server server(answer(kReply));
  std::vector<Socket> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(server.connect());
    clients.back().send(request("GET", "/before"));
    ASSERT_EQ(read_responses(clients.back(), 1), kReply.size());
  }
  start();
  for (int round = 0; round < 2; ++round) {
    for (const Socket& client : clients) {
      client.send(request("GET", "/after"));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  for (const char* role : {"server", "client"}) {
    EXPECT_EQ(settle(server.port(), 100, role).by, (Counts{{"GET 2xx /after", 100}})) << role;
  }
}

TEST_F(OlderConnections, InTheMiddleOfALongAnswerLoseNoMoreThanThatOne) {
  std::atomic<bool> go = false;
  const std::string half(size_t{1} << 20, 'd');
  Server server([&](const Socket& peer, std::string_view text) {
    if (text.find("/long") == std::string_view::npos) {
      peer.send(kReply);
      return;
    }
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(2 * half.size()) + "\r\n\r\n");
    peer.send(half);
    while (!go) std::this_thread::sleep_for(1ms);
    for (size_t at = 0; at < half.size(); at += 16'384) peer.send(half.substr(at, 16'384));
  });
  const Socket client = server.connect();
  client.send(request("GET", "/long"));
  std::string begin;
  while (begin.size() < half.size()) ASSERT_TRUE(client.receive(begin));
  start();
  go = true;
  size_t rest = message_size(begin);
  while (rest == 0) {
    ASSERT_TRUE(client.receive(begin));
    rest = message_size(begin);
  }
  for (int i = 0; i < 5; ++i) {
    client.send(request("GET", "/after"));
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  for (const char* role : {"server", "client"}) {
    EXPECT_EQ(settle(server.port(), 5, role).by, (Counts{{"GET 2xx /after", 5}})) << role;
  }
}

}  // namespace
}  // namespace weir::kernel_test
