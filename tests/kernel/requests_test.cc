// The case matrix of requests: what a client sends and a server answers is what is counted.

#include <array>
#include <atomic>
#include <mutex>

#include "tests/kernel/requests_fixture.h"

namespace weir::kernel_test {
namespace {

TEST_F(Requests, KeepAliveCountsEveryRequestAndByteInBothRoles) {
  Server server(answer(kReply));
  uint64_t sent = 0;
  {
    const Socket client = server.connect();
    for (int i = 0; i < 200; ++i) {
      const auto text = request("GET", "/users/" + std::to_string(i) + "/orders?page=3");
      sent += text.size();
      client.send(text);
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 200, role);
    EXPECT_EQ(out.by, (Counts{{"GET 2xx /users/{id}/orders", 200}})) << role;
    EXPECT_EQ(out.request_bytes, sent) << role;
    EXPECT_EQ(out.response_bytes, 200 * kReply.size()) << role;
    EXPECT_EQ(out.first_byte, out.latency) << role;  // one segment
  }
}

TEST_F(Requests, AHundredThousandPathsAreFewRoutesAndEveryRequestIsCounted) {
  constexpr uint64_t kRequests = 100'000;
  constexpr uint64_t kAtOnce = 4;
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    for (uint64_t i = 0; i < kRequests; i += kAtOnce) {
      std::string text;
      for (uint64_t k = i; k < i + kAtOnce; ++k) {
        std::string path = "/shop/";
        for (uint64_t left = k; left > 0; left /= 26) path += static_cast<char>('a' + left % 26);
        text += request("GET", path);
      }
      client.send(text);
      ASSERT_EQ(read_responses(client, kAtOnce), kAtOnce * kReply.size());
      if (i % 5'000 == 0) seen(server.port());
    }
  }
  const auto out = settle(server.port(), kRequests);
  EXPECT_EQ(out.n, kRequests);
  EXPECT_LE(out.by.size(), 101U);
  EXPECT_GT(out.by.at("GET 2xx /shop/*"), kRequests * 8 / 10);
}

TEST_F(Requests, AConnectionPerRequest) {
  Server server([](const Socket& peer, std::string_view) {
    peer.send(kReply);
    ::shutdown(peer.fd(), SHUT_WR);
  });
  for (int i = 0; i < 200; ++i) {
    const Socket client = server.connect();
    client.send(request("GET", "/"));
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  EXPECT_EQ(settle(server.port(), 200).by, (Counts{{"GET 2xx /", 200}}));
}

class IdleRequests : public Requests {
 protected:
  IdleRequests() {
    config_.idle = 100ms;
    drain_ = Source::Drain::kRegular;
  }
};

TEST_F(IdleRequests, TheLastAnswerOfAnOpenConnectionIsNotHeldBack) {
  Server server(answer(kReply));
  const Socket client = server.connect();
  for (int i = 0; i < 3; ++i) {
    client.send(request("GET", "/idle"));
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  const auto out = settle(server.port(), 3);
  EXPECT_EQ(out.by, (Counts{{"GET 2xx /idle", 3}}));
  EXPECT_EQ(out.response_bytes, 3 * kReply.size());
}

TEST_F(IdleRequests, WhatFollowsAfterAPauseAddsItsBytesAndNoRequest) {
  std::atomic<bool> go = false;
  Server server([&go](const Socket& peer, std::string_view) {
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
    while (!go) std::this_thread::sleep_for(1ms);
    peer.send("done");
  });
  {
    const Socket client = server.connect();
    client.send(request("GET", "/pause"));
    EXPECT_EQ(settle(server.port(), 1).n, 1U);  // while it pauses
    go = true;
    ASSERT_GT(read_responses(client, 1), 0U);
    go = false;
    client.send(request("GET", "/pause"));
    go = true;
    ASSERT_GT(read_responses(client, 1), 0U);
  }
  const auto out = settle(server.port(), 2);
  EXPECT_EQ(out.by, (Counts{{"GET 2xx /pause", 2}}));
  EXPECT_EQ(out.response_bytes, 2 * (response("200 OK", "halfdone").size()));
}

TEST_F(Requests, PipelinedInOneSegmentAndInFour) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    for (int round = 0; round < 25; ++round) {
      std::string four;
      for (const char* path : {"/a", "/b", "/c", "/d"}) four += request("GET", path);
      client.send(four);
      ASSERT_EQ(read_responses(client, 4), 4 * kReply.size());
    }
    for (int round = 0; round < 25; ++round) {
      for (const char* path : {"/a", "/b", "/c", "/d"}) client.send(request("GET", path));
      ASSERT_EQ(read_responses(client, 4), 4 * kReply.size());
    }
  }
  EXPECT_EQ(
      settle(server.port(), 200).by,
      (Counts{{"GET 2xx /a", 50}, {"GET 2xx /b", 50}, {"GET 2xx /c", 50}, {"GET 2xx /d", 50}}));
}

TEST_F(Requests, PipelinedAnswersInOneSegmentAreTakenApart) {
  int waiting = 0;
  Server server([&waiting](const Socket& peer, std::string_view) {
    if (++waiting < 4) return;
    waiting = 0;
    peer.send(kReply + response("404 Not Found", std::string(300, 'x')) + kReply +
              response("500 Oops", ""));
  });
  {
    const Socket client = server.connect();
    for (int round = 0; round < 20; ++round) {
      client.send(request("GET", "/a") + request("GET", "/b") + request("GET", "/c") +
                  request("GET", "/d"));
      ASSERT_GT(read_responses(client, 4), 0U);
    }
  }
  EXPECT_EQ(
      settle(server.port(), 80).by,
      (Counts{{"GET 2xx /a", 20}, {"GET 4xx /b", 20}, {"GET 2xx /c", 20}, {"GET 5xx /d", 20}}));
}

TEST_F(Requests, PipeliningDeeperThanEightKeepsTheTotal) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    std::string twenty;
    for (int i = 0; i < 20; ++i) twenty += request("GET", "/deep");
    for (int round = 0; round < 10; ++round) {
      client.send(twenty);
      ASSERT_EQ(read_responses(client, 20), 20 * kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 200).n, 200U);
  EXPECT_GT(counter("weir_ebpf_fifo_overflow_total"), 0U);
}

TEST_F(Requests, AHeadSplitAtAnyOfItsFirst32Bytes) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    for (size_t cut = 1; cut <= 32; ++cut) {
      const auto text = request("GET", "/split/path/of/words");
      client.send(text.substr(0, cut));
      std::this_thread::sleep_for(1ms);  // so the server reads two segments, too
      client.send(text.substr(cut));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  for (const char* role : {"server", "client"}) {
    EXPECT_EQ(settle(server.port(), 32, role).by, (Counts{{"GET 2xx /split/path/of/words", 32}}));
  }
}

TEST_F(Requests, ByteByByteInBothDirections) {
  Server server([](const Socket& peer, std::string_view) {
    for (const char c : kReply) peer.send({&c, 1});
  });
  {
    const Socket client = server.connect();
    for (int i = 0; i < 50; ++i) {
      for (const char c : request("DELETE", "/byte/by/byte")) client.send({&c, 1});
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 50).by, (Counts{{"DELETE 2xx /byte/by/byte", 50}}));
}

TEST_F(Requests, LargeBodiesBothWays) {
  const std::string big = response("200 OK", std::string(1 << 20, 'b'));
  Server server([&big](const Socket& peer, std::string_view text) {
    peer.send(text.starts_with("POST") ? kReply : big);
  });
  uint64_t sent = 0;
  {
    const Socket client = server.connect();
    for (int i = 0; i < 30; ++i) {
      const auto post = request("POST", "/upload", std::string(200'000, 'G'));
      const auto get = request("GET", "/download");
      sent += post.size() + get.size();
      client.send(post);
      ASSERT_EQ(read_responses(client, 1), kReply.size());
      client.send(get);
      ASSERT_EQ(read_responses(client, 1), big.size());
    }
  }
  for (const char* role : {"server", "client"}) {
    const auto out = settle(server.port(), 60, role);
    EXPECT_EQ(out.by, (Counts{{"GET 2xx /download", 30}, {"POST 2xx /upload", 30}})) << role;
    EXPECT_EQ(out.request_bytes, sent) << role;
    EXPECT_EQ(out.response_bytes, 30 * (kReply.size() + big.size())) << role;
  }
}

TEST_F(Requests, AnAnswerBeforeTheEndOfThePostIsCountedOnce) {
  Server server([](const Socket& peer, std::string_view) { peer.send(kReply); });
  {
    // The server sees a whole request (no Content-Length) and answers; the rest is "body" whose
    // end shares a segment with the next head.
    const Socket client = server.connect();
    for (int i = 0; i < 20; ++i) {
      client.send("POST /early HTTP/1.1\r\n\r\n");
      ASSERT_EQ(read_responses(client, 1), kReply.size());
      client.send("tail of the body that came late" + request("GET", "/next"));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 40).n, 40U);
}

TEST_F(Requests, ErrorsByClassHeadAndChunked) {
  Server server([](const Socket& peer, std::string_view text) {
    if (text.starts_with("HEAD"))
      peer.send("HTTP/1.1 200 OK\r\n\r\n");
    else if (text.starts_with("PUT"))
      peer.send(response("404 Not Found", "gone"));
    else if (text.starts_with("OPTIONS"))
      peer.send("HTTP/1.1 204 No Content\r\n\r\n");
    else
      peer.send(response("503 Service Unavailable", "no"));
  });
  {
    const Socket client = server.connect();
    for (int i = 0; i < 25; ++i) {
      for (const char* method : {"GET", "HEAD", "PUT", "OPTIONS", "PATCH"}) {
        client.send(request(method, "/e"));
        ASSERT_GT(read_responses(client, 1), 0U);
      }
    }
  }
  EXPECT_EQ(settle(server.port(), 125).by, (Counts{{"GET 5xx /e", 25},
                                                   {"HEAD 2xx /e", 25},
                                                   {"PUT 4xx /e", 25},
                                                   {"OPTIONS 2xx /e", 25},
                                                   {"PATCH 5xx /e", 25}}));
}

TEST_F(Requests, ChunkedAnswersEndWithTheirLastChunk) {
  Server server([](const Socket& peer, std::string_view) {
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::this_thread::sleep_for(20ms);
    peer.send("5\r\nhello\r\n");
    peer.send("0\r\n\r\n");
    ::shutdown(peer.fd(), SHUT_WR);
  });
  for (int i = 0; i < 10; ++i) {
    const Socket client = server.connect();
    client.send(request("GET", "/chunks"));
    std::string all;
    while (client.receive(all)) {
    }
    ASSERT_TRUE(all.ends_with("0\r\n\r\n"));
  }
  const auto out = settle(server.port(), 10);
  EXPECT_EQ(out.by, (Counts{{"GET 2xx /chunks", 10}}));
  EXPECT_GE(out.latency.min(), 20'000'000U);
  EXPECT_EQ(out.first_byte.count(), 10U);
  EXPECT_LT(out.first_byte.sum(), out.latency.sum() - Int128{200'000'000});
}

TEST_F(Requests, ContinueIsNoAnswer) {
  Server server([](const Socket& peer, std::string_view text) {
    peer.send(text.find("Expect") == std::string_view::npos ? kReply
                                                            : "HTTP/1.1 100 Continue\r\n\r\n");
  });
  {
    const Socket client = server.connect();
    for (int i = 0; i < 20; ++i) {
      client.send("PUT /slow HTTP/1.1\r\nExpect: 100-continue\r\n\r\n");
      std::string got;
      while (got.find("\r\n\r\n") == std::string::npos) ASSERT_TRUE(client.receive(got));
      client.send("the body, which the server takes for a request\r\n\r\n");
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 20).by, (Counts{{"PUT 2xx /slow", 20}}));
}

TEST_F(Requests, AClientThatLeavesIsAnAbortedRequest) {
  Server server([](const Socket&, std::string_view) {});
  for (int i = 0; i < 20; ++i) {
    const Socket client = server.connect();
    client.send(request("GET", "/never"));
    std::this_thread::sleep_for(2ms);
  }
  const auto out = settle(server.port(), 20);
  EXPECT_EQ(out.by, (Counts{{"GET aborted /never", 20}}));
  EXPECT_EQ(out.first_byte.count(), 0U);
  EXPECT_EQ(settle(server.port(), 20, "client").by, (Counts{{"GET aborted /never", 20}}));
}

TEST_F(Requests, EveryPipelinedRequestOfAClientThatLeavesIsAnAbortedOne) {
  Server server([](const Socket&, std::string_view) {});
  {
    const Socket client = server.connect();
    std::string twelve;
    for (int i = 0; i < 12; ++i) twelve += request("GET", "/never");
    client.send(twelve);
    std::this_thread::sleep_for(2ms);
  }
  EXPECT_EQ(settle(server.port(), 12).n, 12U);
  EXPECT_EQ(settle(server.port(), 12, "client").n, 12U);
  EXPECT_EQ(counter("weir_ebpf_aborted_total"), 24U);
}

TEST_F(Requests, IPv6) {
  Server server(answer(kReply), Server::Threads::kPerConnection, Family::kV6);
  {
    const Socket client = server.connect();
    for (int i = 0; i < 50; ++i) {
      client.send(request("GET", "/six"));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  EXPECT_EQ(settle(server.port(), 50).by, (Counts{{"GET 2xx /six", 50}}));
}

TEST_F(Requests, ARequestThatMeetsTheListenerIsCountedFromThere) {
  for (const auto family : {Family::kV4, Family::kV6}) {
    Server server(answer(kReply), Server::Threads::kPerConnection, family, 5);
    for (int i = 0; i < 30; ++i) {
      const Socket client = server.connect();
      client.send(request("GET", "/deferred"));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
    EXPECT_EQ(settle(server.port(), 30).by, (Counts{{"GET 2xx /deferred", 30}}));
  }
  EXPECT_GT(counter("weir_ebpf_early_total"), 0U);
}

TEST_F(Requests, OtherProtocolsPassUntouched) {
  Server server([](const Socket& peer, std::string_view text) { peer.send(text); });
  std::string sent;
  std::string got;
  {
    const Socket client = server.connect();
    for (int i = 0; i < 50; ++i) {
      const std::string line = "SET key" + std::to_string(i) + " value\r\n\r\n";
      sent += line;
      client.send(line);
      while (got.size() < sent.size()) ASSERT_TRUE(client.receive(got));
    }
  }
  EXPECT_EQ(got, sent);
  EXPECT_EQ(seen(server.port()).n, 0U);
  EXPECT_GE(counter("weir_ebpf_opaque_total"), 2U);
}

TEST_F(Requests, QueueingIsSeenAsTheClientsSeeIt) {
  constexpr int kClients = 10;
  constexpr int kEach = 40;
  // One thread, 20 ms a request, a connection each: clients wait in the accept queue.
  Server server(
      [](const Socket& peer, std::string_view) {
        std::this_thread::sleep_for(20ms);
        peer.send(kReply);
        ::shutdown(peer.fd(), SHUT_RDWR);
      },
      Server::Threads::kOne);
  Distribution truth(-9);
  std::mutex mutex;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        const Socket client = server.connect();
        const auto begin = std::chrono::steady_clock::now();
        client.send(request("GET", "/queue"));
        EXPECT_EQ(read_responses(client, 1), kReply.size());
        const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - begin;
        const std::scoped_lock lock(mutex);
        EXPECT_TRUE(truth.add(static_cast<uint64_t>(took.count())).ok());
      }
    });
  }
  for (auto& client : clients) client.join();
  const auto out = settle(server.port(), kClients * kEach);
  ASSERT_EQ(out.n, static_cast<uint64_t>(kClients * kEach));
  for (const uint32_t phi : {500'000'000U, 990'000'000U}) {
    const auto want = truth.quantile(phi);
    const auto have = out.latency.quantile(phi);
    ASSERT_TRUE(want.ok() && have.ok());
    EXPECT_NEAR(have->value / want->value, 1.0, 0.03) << phi;
  }
}

TEST_F(Requests, TheServiceOfAServerOutsideAnyUnitIsItsListenersName) {
  Server server(answer(kReply));
  {
    const Socket client = server.connect();
    client.send(request("GET", "/"));
    ASSERT_EQ(read_responses(client, 1), kReply.size());
  }
  EXPECT_EQ(settle(server.port(), 1).n, 1U);
  EXPECT_FALSE(service_.empty());
}

TEST_F(Requests, RoutesBeyondTheLimitAreOneRouteAndTheTotalStays) {
  Server server(answer(kReply));
  const auto path = [](int i) {  // no level is a crowd
    return std::string{'/', static_cast<char>('a' + i / 15), '/', static_cast<char>('a' + i % 15)};
  };
  {
    const Socket client = server.connect();
    for (int i = 0; i < 150; ++i) {
      client.send(request("GET", path(i)));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  const auto out = settle(server.port(), 150);
  EXPECT_EQ(out.n, 150U);
  EXPECT_EQ(out.by.size(), 101U);
  EXPECT_EQ(out.by.at("GET 2xx __other__"), 50U);
}

// With room for almost nothing, what finds no cell is counted without its labels.
TEST(RequestProbe, AFullMapFoldsAndLosesNothing) {
  const auto root = find_cgroup2_root("/proc/self/mountinfo");
  Obstacle why;
  const auto probe =
      root.ok() ? RequestProbe::create({.cgroup_root = *root, .capacity = 8}, why) : nullptr;
  if (!probe) WEIR_SKIP_IF(why.reason + "; " + why.fix);
  constexpr uint64_t kRequests = 400;
  // Many routes share one cell when the map is nearly full; many methods cannot.
  constexpr std::array kMethods = {"GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"};
  {
    Server server([](const Socket& peer, std::string_view) {  // two segments: two times
      peer.send(std::string_view(kReply).substr(0, 20));
      peer.send(std::string_view(kReply).substr(20));
    });
    const Socket client = server.connect();
    for (uint64_t i = 0; i < kRequests; ++i) {
      const auto path = std::string("/") + static_cast<char>('a' + i % 26);
      client.send(request(kMethods[i % kMethods.size()], path));
      ASSERT_EQ(read_responses(client, 1), kReply.size());
    }
  }
  uint64_t named = 0;
  uint64_t folded = 0;
  uint64_t last_bytes = 0;
  uint64_t first_bytes = 0;
  uint64_t bytes = 0;
  const auto add_up = [&] {
    const auto harvest = probe->harvest();
    EXPECT_EQ(harvest.errors, 0U);
    for (const auto* cells : {&harvest.cells, &harvest.folded}) {
      for (const auto& cell : *cells) {
        if (cell.key.role != WEIR_ROLE_SERVER) continue;
        uint64_t n = 0;
        for (const auto count : cell.n) n += count;
        if (cell.key.what == WEIR_FIRST) {
          first_bytes += n;
          continue;
        }
        if (cell.key.what == WEIR_LAST) last_bytes += n;
        (cells == &harvest.cells ? named : folded) += n;
        bytes += cell.response_bytes;
        EXPECT_LE(n * cell.min_ns, cell.sum_ns);
        EXPECT_GE(n * cell.max_ns, cell.sum_ns);
      }
    }
  };
  for (int i = 0; i < 200 && named + folded < kRequests; ++i) {
    add_up();
    std::this_thread::sleep_for(5ms);
  }
  // Others on this host may be counted, too; ours are all there.
  EXPECT_GE(named + folded, kRequests);
  EXPECT_GE(bytes, kRequests * kReply.size());
  EXPECT_GT(folded, 0U);
  EXPECT_GE(last_bytes, kRequests);
  EXPECT_EQ(first_bytes, last_bytes);
}

TEST(RequestProbe, ACgroupThatIsNotThereIsRefusedWithAReason) {
  Obstacle why;
  EXPECT_EQ(RequestProbe::create({.cgroup_root = "/nonexistent"}, why), nullptr);
  EXPECT_NE(why.reason.find("/nonexistent"), std::string::npos);
  EXPECT_FALSE(why.fix.empty());
}

}  // namespace
}  // namespace weir::kernel_test
