// What is not HTTP/1 is counted as connections and never read as requests.

#include "tests/kernel/requests_fixture.h"

namespace weir::kernel_test {
namespace {

// Reads what comes until the client closes, and says so.
Server::Handler mute() {
  return [](const Socket&, std::string_view) {};
}

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kSettings("\0\0\0\x04\0\0\0\0\0", 9);

// HEADERS and DATA of a stream: bytes that could mislead a parser of HTTP/1.
std::string stream_frames() {
  std::string out("\0\0\x05\x01\x04\0\0\0\x01\x82\x86\x84\x41\x0f", 14);
  const std::string body = "GET /not/a/request HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
  out += std::string("\0\0", 2) + static_cast<char>(body.size());
  return out + std::string("\0\x01\0\0\0\x01", 6) + body;
}

TEST_F(Requests, AnHttp2ConnectionIsOneHoweverItsPrefaceIsCut) {
  Server server(mute());
  for (size_t cut = 1; cut <= kPreface.size(); ++cut) {
    const Socket client = server.connect();
    client.send(std::string_view(kPreface).substr(0, cut));
    std::this_thread::sleep_for(1ms);
    client.send(kPreface.substr(cut) + kSettings);
    client.send(stream_frames());
    client.send("GET /not/a/request HTTP/1.1\r\n\r\n");
  }
  for (const char* role : {"server", "client"}) {
    Seen out;
    for (int i = 0; i < 200 && out.http2_connections < kPreface.size(); ++i) {
      std::this_thread::sleep_for(5ms);
      out = seen(server.port(), role);
    }
    EXPECT_EQ(out.http2_connections, kPreface.size()) << role;
    EXPECT_EQ(out.tls_connections, 0U) << role;
    EXPECT_EQ(out.n, 0U) << role;
  }
}

TEST_F(Requests, ATlsConnectionIsOneAndItsRecordsAreNoRequests) {
  Server server(mute());
  const std::string hello = std::string("\x16\x03\x01\0\x30\x01", 6) + std::string(43, 'r');
  const std::string record = std::string("\x17\x03\x03\0\x30", 5) + std::string(48, 'x');
  constexpr uint64_t kConnections = 20;
  for (uint64_t i = 0; i < kConnections; ++i) {
    const Socket client = server.connect();
    client.send(std::string_view(hello).substr(0, 3));
    std::this_thread::sleep_for(1ms);
    client.send(std::string_view(hello).substr(3));
    client.send(record);
    client.send("GET /not/a/request HTTP/1.1\r\n\r\n");
  }
  for (const char* role : {"server", "client"}) {
    Seen out;
    for (int i = 0; i < 200 && out.tls_connections < kConnections; ++i) {
      std::this_thread::sleep_for(5ms);
      out = seen(server.port(), role);
    }
    EXPECT_EQ(out.tls_connections, kConnections) << role;
    EXPECT_EQ(out.http2_connections, 0U) << role;
    EXPECT_EQ(out.n, 0U) << role;
  }
}

}  // namespace
}  // namespace weir::kernel_test
