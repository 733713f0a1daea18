#include "common/transport.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

#include <zmq.hpp>

#include "common/batch.h"
#include "common/check.h"

namespace weir {
namespace {

constexpr int kHighWaterMark = 8;  // a fuse only: credit is what limits a sender
constexpr int64_t kMaxFrameBytes = static_cast<int64_t>(kBatchMaxBytes) + 64 * 1024;
constexpr int kMaxMessagesPerTurn = 64;  // then the loop serves its other entries

Error zmq_error(std::string_view what, const std::string& endpoint, const zmq::error_t& error) {
  return {Errc::kIo, std::string(what) + " " + endpoint + ": " + error.what()};
}

bool is_loopback_host(std::string_view host) {
  if (host == "localhost" || host == "[::1]") return true;
  if (!host.starts_with("127.")) return false;
  int parts = 0;
  while (true) {  // exactly four numbers 0..255, so that 127.0.0.1.example.org is no address
    unsigned number = 256;
    const auto [end, error] = std::from_chars(host.data(), host.data() + host.size(), number);
    if (error != std::errc{} || number > 255) return false;
    host.remove_prefix(static_cast<size_t>(end - host.data()));
    ++parts;
    if (host.empty()) return parts == 4;
    if (host.front() != '.') return false;
    host.remove_prefix(1);
  }
}

// Many peers of one restarted tier must not come back in step; libzmq's own jitter is poor.
int random_milliseconds(int low, int high) {
  std::random_device device;
  return std::uniform_int_distribution<int>(low, high)(device);
}

void set_common_options(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::linger, 0);  // the outbox keeps what matters
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::sndhwm, kHighWaterMark);
  socket.set(zmq::sockopt::rcvhwm, kHighWaterMark);
  socket.set(zmq::sockopt::maxmsgsize, kMaxFrameBytes);
  socket.set(zmq::sockopt::handshake_ivl, 3000);
  socket.set(zmq::sockopt::heartbeat_ivl, 1000);
  socket.set(zmq::sockopt::heartbeat_timeout, 2000);
  socket.set(zmq::sockopt::heartbeat_ttl, 3000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, 60);
}

ByteView view_of(const zmq::message_t& message) {
  return {static_cast<const std::byte*>(message.data()), message.size()};
}

// One whole message without blocking. More frames than `parts` are drained and dropped; `count`
// tells how many there were. False: nothing to read.
bool receive(zmq::socket_t& socket, std::span<zmq::message_t> parts, size_t& count) {
  count = 0;
  zmq::message_t surplus;
  bool more = true;
  while (more) {
    zmq::message_t& part = count < parts.size() ? parts[count] : surplus;
    if (!socket.recv(part, zmq::recv_flags::dontwait)) return false;  // only before the first
    ++count;
    more = part.more();
  }
  return true;
}

bool send_part(zmq::socket_t& socket, const void* data, size_t size, zmq::send_flags more) {
  return socket.send(zmq::const_buffer(data, size), zmq::send_flags::dontwait | more).has_value();
}

// A socket in a loop: what Link and Door share.
class LoopSocket {
 public:
  LoopSocket(TransportContext& context, Loop& loop, zmq::socket_type type,
             const std::string& endpoint)
      : socket_(*static_cast<zmq::context_t*>(context.native()), type), loop_(loop) {
    set_common_options(socket_);
    // Only where asked for: with it, a bound 127.0.0.1 calls itself [::ffff:127.0.0.1].
    socket_.set(zmq::sockopt::ipv6, endpoint.starts_with("tcp://["));
  }

  LoopSocket(const LoopSocket&) = delete;
  LoopSocket& operator=(const LoopSocket&) = delete;

  ~LoopSocket() {
    if (registered_) loop_.remove(entry_);
  }

  void watch(Loop::Callback callback) {
    entry_ = loop_.on_socket(socket_.handle(), std::move(callback));
    registered_ = true;
  }

  zmq::socket_t& operator*() { return socket_; }

  zmq::socket_t* operator->() { return &socket_; }

  const zmq::socket_t* operator->() const { return &socket_; }

 private:
  zmq::socket_t socket_;
  Loop& loop_;
  Loop::EntryId entry_ = 0;
  bool registered_ = false;
};

class ZmqLink final : public Link {
 public:
  ZmqLink(TransportContext& context, Loop& loop, const std::string& endpoint)
      : socket_(context, loop, zmq::socket_type::dealer, endpoint) {
    socket_->set(zmq::sockopt::connect_timeout, 5000);
    socket_->set(zmq::sockopt::reconnect_ivl, random_milliseconds(200, 1000));
    socket_->set(zmq::sockopt::reconnect_ivl_max, random_milliseconds(3000, 5000));
    socket_->connect(endpoint);
    socket_.watch([this] { drain(); });
  }

  bool send(ByteView header, ByteView body) override {
    try {
      return send_part(*socket_, header.data(), header.size(), zmq::send_flags::sndmore) &&
             send_part(*socket_, body.data(), body.size(), zmq::send_flags::none);
    } catch (const zmq::error_t&) {
      return false;  // the sender keeps the batch and tries again
    }
  }

  void on_receive(Receiver receiver) override { receiver_ = std::move(receiver); }

  [[nodiscard]] uint64_t bad_frame_count() const override { return bad_frames_; }

 private:
  void drain() {
    std::array<zmq::message_t, 2> parts;
    size_t count = 0;
    try {
      for (int i = 0; i < kMaxMessagesPerTurn && receive(*socket_, parts, count); ++i) {
        if (count != parts.size()) {
          ++bad_frames_;
        } else if (receiver_) {
          receiver_(view_of(parts[0]), view_of(parts[1]));
        }
      }
    } catch (const zmq::error_t&) {
      ++bad_frames_;
    }
  }

  LoopSocket socket_;
  Receiver receiver_;
  uint64_t bad_frames_ = 0;
};

class ZmqDoor final : public Door {
 public:
  ZmqDoor(TransportContext& context, Loop& loop, const std::string& endpoint)
      : socket_(context, loop, zmq::socket_type::router, endpoint) {
    socket_->set(zmq::sockopt::router_mandatory, true);  // a send to nobody is an error we see
    socket_->set(zmq::sockopt::backlog, 4096);
    socket_->bind(endpoint);
    socket_.watch([this] { drain(); });
  }

  bool send(const PeerId& peer, ByteView header, ByteView body) override {
    try {
      return send_part(*socket_, peer.data(), peer.size(), zmq::send_flags::sndmore) &&
             send_part(*socket_, header.data(), header.size(), zmq::send_flags::sndmore) &&
             send_part(*socket_, body.data(), body.size(), zmq::send_flags::none);
    } catch (const zmq::error_t&) {
      return false;  // gone; it will say HELLO again
    }
  }

  void on_receive(Receiver receiver) override { receiver_ = std::move(receiver); }

  [[nodiscard]] std::string endpoint() const override {
    return socket_->get(zmq::sockopt::last_endpoint);
  }

  [[nodiscard]] uint64_t bad_frame_count() const override { return bad_frames_; }

 private:
  void drain() {
    std::array<zmq::message_t, 3> parts;  // the peer's routing id comes first
    size_t count = 0;
    try {
      for (int i = 0; i < kMaxMessagesPerTurn && receive(*socket_, parts, count); ++i) {
        if (count != parts.size()) {
          ++bad_frames_;
        } else if (receiver_) {
          receiver_(parts[0].to_string(), std::nullopt, view_of(parts[1]), view_of(parts[2]));
        }
      }
    } catch (const zmq::error_t&) {
      ++bad_frames_;
    }
  }

  LoopSocket socket_;
  Receiver receiver_;
  uint64_t bad_frames_ = 0;
};

}  // namespace

TransportContext::TransportContext() : context_(new zmq::context_t(1)) {}

TransportContext::~TransportContext() { delete static_cast<zmq::context_t*>(context_); }

Status check_endpoint_is_safe(const std::string& endpoint) {
  const std::string_view text = endpoint;
  if (text.starts_with("ipc://") || text.starts_with("inproc://")) return {};
  constexpr std::string_view kTcp = "tcp://";
  if (text.starts_with(kTcp)) {
    const auto colon = text.rfind(':');
    if (colon > kTcp.size() && is_loopback_host(text.substr(kTcp.size(), colon - kTcp.size()))) {
      return {};
    }
  }
  return invalid("endpoint " + endpoint +
                 " is not on this host, so CURVE keys are needed: make a pair with `weir keys new` "
                 "and give `keys: {dir: ...}`, and to connect, the server's own key as "
                 "`server_keys`; without keys use tcp on loopback (127.0.0.1, [::1], localhost), "
                 "ipc or inproc");
}

Result<std::unique_ptr<Link>> connect_link(TransportContext& context, Loop& loop,
                                           const std::string& endpoint) {
  WEIR_TRY(check_endpoint_is_safe(endpoint));
  try {
    return std::unique_ptr<Link>(std::make_unique<ZmqLink>(context, loop, endpoint));
  } catch (const zmq::error_t& error) {
    return zmq_error("connecting to", endpoint, error);
  }
}

Result<std::unique_ptr<Door>> bind_door(TransportContext& context, Loop& loop,
                                        const std::string& endpoint) {
  WEIR_TRY(check_endpoint_is_safe(endpoint));
  try {
    return std::unique_ptr<Door>(std::make_unique<ZmqDoor>(context, loop, endpoint));
  } catch (const zmq::error_t& error) {
    return zmq_error("binding", endpoint, error);
  }
}

}  // namespace weir
