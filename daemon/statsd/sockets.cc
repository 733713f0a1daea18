#include "daemon/statsd/sockets.h"

#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace weir::daemon::statsd {
namespace {

Error failed(const std::string& what) {
  const Errc code = errno == EADDRINUSE || errno == EACCES ? Errc::kUnavailable : Errc::kIo;
  return {code, what + ": " + std::system_category().message(errno)};
}

const sockaddr* generic(const void* address) { return static_cast<const sockaddr*>(address); }

uint64_t grow_buffer(int fd, int bytes) {
  // FORCE needs CAP_NET_ADMIN; without it the kernel's rmem_max is the limit.
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  }
  int got = 0;
  socklen_t size = sizeof got;
  ::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &size);
  return static_cast<uint64_t>(got);
}

// "[::1]:8125" for people.
std::string text_of(const UdpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address.storage, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, host.data(), host.size());
    return "[" + std::string(host.data()) + "]:" + std::to_string(ntohs(v6.sin6_port));
  }
  sockaddr_in v4{};
  std::memcpy(&v4, &address.storage, sizeof v4);
  ::inet_ntop(AF_INET, &v4.sin_addr, host.data(), host.size());
  return std::string(host.data()) + ":" + std::to_string(ntohs(v4.sin_port));
}

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return invalid("a socket path has 1 to 107 bytes: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Leaves no file at `path`, or says why it must not be touched.
Status clear_path(const std::string& path, const sockaddr_un& address) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) != 0) return {};
  if (!S_ISSOCK(info.st_mode)) return invalid(path + " exists and is no socket");
  const Fd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe.valid()) return failed("socket");
  if (::connect(probe.get(), generic(&address), sizeof address) == 0 || errno == EPROTOTYPE) {
    return Error{Errc::kUnavailable, path + " is in use by another process"};
  }
  if (errno != ECONNREFUSED) return failed(path);
  if (::unlink(path.c_str()) != 0) return failed("cannot replace " + path);
  return {};
}

}  // namespace

Result<UdpAddress> parse_udp_address(const std::string& text) {
  const Error wrong =
      invalid("expected ADDRESS:PORT in numbers, like 127.0.0.1:8125 or [::1]:8125");
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return wrong;
  uint16_t port = 0;
  const char* const last = text.data() + text.size();
  const auto [end, ec] = std::from_chars(text.data() + colon + 1, last, port);
  if (ec != std::errc{} || end != last) return wrong;
  std::string host = text.substr(0, colon);
  UdpAddress out;
  if (host.starts_with('[') && host.ends_with(']')) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    host = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) return wrong;
    std::memcpy(&out.storage, &v6, sizeof v6);
    out.size = sizeof v6;
  } else {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) != 1) return wrong;
    std::memcpy(&out.storage, &v4, sizeof v4);
    out.size = sizeof v4;
  }
  return out;
}

Result<PushSocket> open_udp(const std::string& address, int receive_buffer) {
  WEIR_TRY_ASSIGN(const UdpAddress parsed, parse_udp_address(address));
  Fd fd(::socket(parsed.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failed("udp " + address);
  const uint64_t buffer = grow_buffer(fd.get(), receive_buffer);
  if (::bind(fd.get(), generic(&parsed.storage), parsed.size) != 0) return failed("udp " + address);
  WEIR_TRY_ASSIGN(PushSocket socket, adopt(std::move(fd)));
  socket.receive_buffer = buffer;
  return socket;
}

Result<PushSocket> open_unix(const std::string& path, int receive_buffer) {
  WEIR_TRY_ASSIGN(const sockaddr_un address, unix_address(path));
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && ::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) {
    return failed("cannot make " + folder.string());
  }
  WEIR_TRY(clear_path(path, address));
  Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return failed("unix " + path);
  const uint64_t buffer = grow_buffer(fd.get(), receive_buffer);
  if (::bind(fd.get(), generic(&address), sizeof address) != 0) return failed("unix " + path);
  // Every local application may push, as on UDP; the directory is what the operator restricts.
  if (::chmod(path.c_str(), 0666) != 0) return failed("chmod " + path);
  return PushSocket{
      .fd = std::move(fd), .what = "unix " + path, .path = path, .receive_buffer = buffer};
}

Result<PushSocket> adopt(Fd fd) {
  int type = 0;
  socklen_t type_size = sizeof type;
  UdpAddress address;
  address.size = sizeof address.storage;
  auto* const raw = static_cast<sockaddr*>(static_cast<void*>(&address.storage));
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &type_size) != 0 || type != SOCK_DGRAM ||
      ::getsockname(fd.get(), raw, &address.size) != 0) {
    return invalid("descriptor " + std::to_string(fd.get()) + " is no datagram socket");
  }
  PushSocket socket;
  int buffer = 0;
  socklen_t buffer_size = sizeof buffer;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &buffer, &buffer_size);
  socket.receive_buffer = static_cast<uint64_t>(buffer);
  if (address.storage.ss_family == AF_UNIX) {
    sockaddr_un un{};
    std::memcpy(&un, &address.storage, sizeof un);
    socket.what = "unix " + std::string(un.sun_path, ::strnlen(un.sun_path, sizeof un.sun_path));
  } else if (address.storage.ss_family == AF_INET || address.storage.ss_family == AF_INET6) {
    socket.what = "udp " + text_of(address);
  } else {
    return invalid("descriptor " + std::to_string(fd.get()) + " is neither UDP nor unix");
  }
  socket.fd = std::move(fd);
  return socket;
}

bool is_unix(const PushSocket& socket) { return socket.what.starts_with("unix "); }

uint32_t kernel_drops(const PushSocket& socket) {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket.fd.get(), SOL_SOCKET, SO_MEMINFO, info.data(), &size) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace weir::daemon::statsd
