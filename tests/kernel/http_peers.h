#pragma once
// A small HTTP/1.1 server and raw clients on loopback, for tests that need to choose every segment.
// TCP_NODELAY everywhere: one send is one segment.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.h"

namespace weir::kernel_test {

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) { WEIR_CHECK(fd_ >= 0); }

  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

  Socket& operator=(Socket&&) = delete;

  ~Socket() { close(); }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  [[nodiscard]] int fd() const { return fd_; }

  void no_delay() const {
    const int one = 1;
    WEIR_CHECK(::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
  }

  bool send(std::string_view text) const {
    while (!text.empty()) {
      const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }

  // Appends what is there; false at the end.
  bool receive(std::string& into) const {
    std::array<char, 65536> buffer;
    const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (got <= 0) return false;
    into.append(buffer.data(), static_cast<size_t>(got));
    return true;
  }

 private:
  int fd_;
};

// The size of the first whole message in `text` (head and Content-Length body), or 0.
inline size_t message_size(std::string_view text) {
  const auto head = text.find("\r\n\r\n");
  if (head == std::string_view::npos) return 0;
  size_t body = 0;
  constexpr std::string_view kLength = "Content-Length: ";
  if (const auto at = text.substr(0, head).find(kLength); at != std::string_view::npos) {
    body = std::stoul(std::string(text.substr(at + kLength.size(), 12)));
  }
  const size_t size = head + 4 + body;
  return size <= text.size() ? size : 0;
}

inline std::string response(std::string_view status, std::string_view body) {
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

enum class Family : int { kV4 = AF_INET, kV6 = AF_INET6 };

// Answers each whole request with handler(request): one thread per connection, or one in all.
class Server {
 public:
  using Handler = std::function<void(const Socket&, std::string_view request)>;
  enum class Threads : uint8_t { kPerConnection, kOne };

  explicit Server(Handler handler, Threads threads = Threads::kPerConnection,
                  Family family = Family::kV4, int defer_accept_s = 0, int backlog = 512)
      : handler_(std::move(handler)),
        threads_mode_(threads),
        family_(family),
        listener_(::socket(static_cast<int>(family), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (defer_accept_s > 0) {
      WEIR_CHECK(::setsockopt(listener_.fd(), IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer_accept_s,
                              sizeof defer_accept_s) == 0);
    }
    sockaddr_storage address = loopback(family, 0);
    WEIR_CHECK(::bind(listener_.fd(), as_sockaddr(address), sizeof(sockaddr_in6)) == 0);
    WEIR_CHECK(::listen(listener_.fd(), backlog) == 0);
    socklen_t size = sizeof address;
    WEIR_CHECK(::getsockname(listener_.fd(), as_sockaddr(address), &size) == 0);
    port_ = ntohs(family == Family::kV4 ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                        : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }

  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  ~Server() {
    ::shutdown(listener_.fd(), SHUT_RDWR);
    acceptor_.join();
    for (auto& thread : connections_) thread.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }

  // Connections may bring their first bytes with the SYN.
  void allow_fast_open() const {
    const int queue = 128;
    WEIR_CHECK(::setsockopt(listener_.fd(), IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof queue) == 0);
  }

  // Brings them.
  [[nodiscard]] Socket connect_with(std::string_view first) const {
    Socket out(::socket(static_cast<int>(family_), SOCK_STREAM | SOCK_CLOEXEC, 0));
    out.no_delay();
    sockaddr_storage address = loopback(family_, port_);
    WEIR_CHECK(::sendto(out.fd(), first.data(), first.size(), MSG_FASTOPEN | MSG_NOSIGNAL,
                        as_sockaddr(address),
                        sizeof(sockaddr_in6)) == static_cast<ssize_t>(first.size()));
    return out;
  }

  [[nodiscard]] Socket connect() const {
    Socket out(::socket(static_cast<int>(family_), SOCK_STREAM | SOCK_CLOEXEC, 0));
    out.no_delay();
    sockaddr_storage address = loopback(family_, port_);
    WEIR_CHECK(::connect(out.fd(), as_sockaddr(address), sizeof(sockaddr_in6)) == 0);
    return out;
  }

 private:
  static sockaddr* as_sockaddr(sockaddr_storage& address) {
    return reinterpret_cast<sockaddr*>(&address);
  }

  static sockaddr_storage loopback(Family family, uint16_t port) {
    sockaddr_storage out{};
    if (family == Family::kV4) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(out);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      v6.sin6_addr = in6addr_loopback;
    }
    return out;
  }

  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      if (threads_mode_ == Threads::kPerConnection) {
        connections_.emplace_back([this, fd] { serve(Socket(fd)); });
      } else {
        serve(Socket(fd));
      }
    }
  }

  void serve(const Socket& peer) const {
    peer.no_delay();
    std::string input;
    do {
      for (size_t size = message_size(input); size > 0; size = message_size(input)) {
        handler_(peer, std::string_view(input).substr(0, size));
        input.erase(0, size);
      }
    } while (peer.receive(input));
  }

  Handler handler_;
  Threads threads_mode_;
  Family family_;
  Socket listener_;
  uint16_t port_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> connections_;
};

// Reads whole responses until `count` came; their total size in bytes, 0 when the peer closed.
inline size_t read_responses(const Socket& from, size_t count) {
  std::string input;
  size_t total = 0;
  while (count > 0) {
    const size_t size = message_size(input);
    if (size > 0) {
      input.erase(0, size);
      total += size;
      --count;
    } else if (!from.receive(input)) {
      return 0;
    }
  }
  return total;
}

inline std::string request(std::string_view method, std::string_view path,
                           std::string_view body = {}) {
  std::string out = std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: t\r\n";
  if (!body.empty()) out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return out + "\r\n" + std::string(body);
}

}  // namespace weir::kernel_test
