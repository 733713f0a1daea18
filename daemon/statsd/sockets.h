#pragma once
// The two push sockets: UDP and unix datagram. Opened, adopted from the service manager, measured.
//
// Thread: plain values, one owner. Promise: a socket that cannot be had is an Error with the
// remedy.
//
// What can be lost where. UDP: the kernel drops when the receive buffer is full; kernel_drops()
// tells how many, at once and exactly (the same count as SO_RXQ_OVFL and /proc/net/udp, without
// waiting for a next packet and without reading /proc). Unix datagram: never; a full queue
// (net.unix.max_dgram_qlen messages) makes the sender wait, or gives it EAGAIN if it will not.
// Either: what waits in a socket dies with it, so use socket activation (daemon/listen_fds.h)
// where the daemon may be killed or upgraded.

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/result.h"

namespace weir::daemon::statsd {

struct UdpAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// "127.0.0.1:8125" or "[::1]:8125"; numeric only. kInvalid otherwise.
Result<UdpAddress> parse_udp_address(const std::string& text);

struct PushSocket {
  Fd fd;
  std::string what;             // "udp 127.0.0.1:8125", "unix /run/weir/statsd.sock"
  std::string path;             // of a socket file this process made, and removes
  uint64_t receive_buffer = 0;  // bytes, as the kernel counts them
};

// Asks for `receive_buffer` bytes, by force where allowed; the socket says what it got.
Result<PushSocket> open_udp(const std::string& address, int receive_buffer);

// Mode 0666 in a directory that is made 0755 if missing. A stale socket file is replaced; one that
// somebody reads from is kUnavailable, and any other file is kInvalid.
Result<PushSocket> open_unix(const std::string& path, int receive_buffer);

// Sorts what the service manager handed over; what is no datagram socket is an Error.
Result<PushSocket> adopt(Fd fd);
[[nodiscard]] bool is_unix(const PushSocket& socket);

// Datagrams the kernel dropped on this socket since it was made, modulo 2^32.
[[nodiscard]] uint32_t kernel_drops(const PushSocket& socket);

}  // namespace weir::daemon::statsd
