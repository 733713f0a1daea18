#pragma once
// Bytes that look like HTTP/1.x to a careless reader: heads of both directions, bodies with wrong
// and absurd lengths, other protocols, noise; several of them, mutated, cut anywhere. The seed
// decides everything.

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace weir::kernel_test {

class WildHttp {
 public:
  explicit WildHttp(uint64_t seed) : random_(seed) {}

  uint64_t below(uint64_t n) { return random_() % n; }

  std::string noise(size_t size) {
    std::string out(size, '\0');
    for (auto& c : out) c = static_cast<char>(random_());
    return out;
  }

  // Mostly short, up to `most` bytes.
  std::string bytes(size_t most) {
    std::string out;
    const size_t wanted = below(8) == 0 ? most : below(std::min<size_t>(most, 2048) + 1);
    do {
      out += piece();
    } while (out.size() < wanted && below(16) != 0);
    if (below(4) == 0 && out.size() < wanted) out.resize(wanted, 'x');
    for (uint64_t flips = below(3) == 0 ? below(8) : 0; flips > 0 && !out.empty(); --flips) {
      out[below(out.size())] = static_cast<char>(random_());
    }
    if (below(3) == 0) out.erase(0, below(out.size() + 1) / (1 + below(32)));
    if (below(3) == 0) out.resize(below(out.size() + 1));
    if (out.size() > most) out.resize(most);
    return out;
  }

 private:
  template <size_t N>
  std::string pick(const std::array<std::string_view, N>& from) {
    return std::string(from[below(N)]);
  }

  std::string target() {
    std::string out;
    for (uint64_t segments = below(6); segments > 0; --segments) {
      out += "/" + pick<6>({"users", "v1", "1234567", "a1b2-c3", "jquery-3.6.0.min.js", ""});
    }
    if (below(16) == 0) out += std::string(below(200), '/');
    if (below(4) == 0) out += "?page=" + std::to_string(below(100));
    return out;
  }

  std::string length() {
    return pick<9>({"0", "1", "5", "64", "70000", "-1", "18446744073709551615",
                    "99999999999999999999999999", " 12 34"});
  }

  std::string fields() {
    std::string out;
    for (uint64_t lines = below(5); lines > 0; --lines) {
      switch (below(5)) {
        case 0:
          out += pick<3>({"Content-Length: ", "content-length:", "Content-length:\t"}) + length();
          break;
        case 1:
          out += "Transfer-Encoding: chunked";
          break;
        case 2:
          out += "Cookie: " + std::string(below(1500), 'c');
          break;
        default:
          out += pick<4>({"Host: h", "Connection: close", "Coat: no", "\r"});
      }
      out += "\r\n";
    }
    return out + (below(8) == 0 ? "" : "\r\n");
  }

  std::string piece() {
    switch (below(10)) {
      case 0:
      case 1:
      case 2:
        return pick<11>({"GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE",
                         "CONNECT", "BREW", "get"}) +
               " " + target() + pick<3>({" HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n"}) + fields();
      case 3:
      case 4:
        return pick<2>({"HTTP/1.1 ", "HTTP/1.0 "}) +
               pick<8>({"200", "404", "500", "100", "101", "204", "999", "2x0"}) + " OK\r\n" +
               fields();
      case 5:
        return pick<7>({"\r\n", "\r\n\r\n", "H", "HTTP", "HTTP/1.1 20", "GE", "Content-Length: "});
      case 6:
        return "\x16\x03\x01" + noise(below(64));
      case 7:
        return std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").substr(0, below(26));
      case 8:
        return std::string(below(3000), "\r\nHTP 0"[below(8)]);
      default:
        return noise(below(300));
    }
  }

  std::mt19937_64 random_;
};

}  // namespace weir::kernel_test
