#include "common/transport_socket.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "common/batch.h"
#include "common/zap.h"

namespace weir::transport {
namespace {

constexpr int kHighWaterMark = 8;  // a fuse only: credit is what limits a sender
constexpr int64_t kMaxFrameBytes = static_cast<int64_t>(kBatchMaxBytes) + 64 * 1024;
constexpr int kMonitored = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                           ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";

std::string monitor_endpoint() {
  static std::atomic<uint64_t> last{0};
  return "inproc://weir.monitor." + std::to_string(++last);
}

Handshake outcome_of(uint16_t event, uint32_t value) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
      return Handshake::kDone;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return Handshake::kRefused;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) return Handshake::kPlain;
      if (value == ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC) return Handshake::kCrypto;
      return Handshake::kProtocol;
    default:  // NOLINT: numbers of libzmq, no enumeration of ours
      return Handshake::kUnfinished;
  }
}

}  // namespace

zmq::context_t& native(TransportContext& context) {
  return *static_cast<zmq::context_t*>(context.native());
}

Error zmq_error(std::string_view what, const std::string& endpoint, const zmq::error_t& error) {
  return {Errc::kIo, std::string(what) + " " + endpoint + ": " + error.what()};
}

int random_milliseconds(int low, int high) {
  std::random_device device;
  return std::uniform_int_distribution<int>(low, high)(device);
}

ByteView view_of(const zmq::message_t& message) {
  return {static_cast<const std::byte*>(message.data()), message.size()};
}

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

LoopSocket::LoopSocket(TransportContext& context, Loop& loop, zmq::socket_type type)
    : socket_(native(context), type), loop_(loop) {
  socket_.set(zmq::sockopt::linger, 0);  // the outbox keeps what matters
}

LoopSocket::~LoopSocket() {
  if (registered_) loop_.remove(entry_);
}

void LoopSocket::watch(Loop::Callback callback) {
  entry_ = loop_.on_socket(socket_.handle(), std::move(callback));
  registered_ = true;
}

std::unique_ptr<LoopSocket> make_socket(TransportContext& context, Loop& loop,
                                        zmq::socket_type type, const std::string& endpoint) {
  auto out = std::make_unique<LoopSocket>(context, loop, type);
  zmq::socket_t& socket = **out;
  socket.set(zmq::sockopt::immediate, true);
  socket.set(zmq::sockopt::sndhwm, kHighWaterMark);
  socket.set(zmq::sockopt::rcvhwm, kHighWaterMark);
  socket.set(zmq::sockopt::maxmsgsize, kMaxFrameBytes);
  // Thousands that come at once wait for each other; who is cut only has to begin anew.
  socket.set(zmq::sockopt::handshake_ivl, 10'000);
  socket.set(zmq::sockopt::tcp_keepalive, 1);
  socket.set(zmq::sockopt::tcp_keepalive_idle, 60);
  // Only where asked for: with it, a bound 127.0.0.1 calls itself [::ffff:127.0.0.1].
  socket.set(zmq::sockopt::ipv6, endpoint.starts_with("tcp://["));
  return out;
}

// ---- monitor ----

HandshakeMonitor::HandshakeMonitor(TransportContext& context, Loop& loop, LoopSocket& watched,
                                   Callback callback)
    : watched_(watched),
      callback_(std::move(callback)),
      events_(context, loop, zmq::socket_type::pair) {
  const std::string endpoint = monitor_endpoint();
  if (zmq_socket_monitor(watched_->handle(), endpoint.c_str(), kMonitored) != 0) {
    throw zmq::error_t();
  }
  events_->set(zmq::sockopt::rcvhwm, 0);
  events_->connect(endpoint);
  events_.watch([this] { drain(); });
}

HandshakeMonitor::~HandshakeMonitor() { zmq_socket_monitor(watched_->handle(), nullptr, 0); }

void HandshakeMonitor::drain() {
  std::array<zmq::message_t, 2> parts;  // number and value, then the endpoint
  size_t count = 0;
  try {
    for (int i = 0; i < kMaxMessagesPerTurn && receive(*events_, parts, count); ++i) {
      uint16_t event = 0;
      uint32_t value = 0;
      if (parts[0].size() != sizeof event + sizeof value) continue;
      const auto* data = static_cast<const char*>(parts[0].data());
      std::memcpy(&event, data, sizeof event);
      std::memcpy(&value, data + sizeof event, sizeof value);
      callback_(outcome_of(event, value));
    }
  } catch (const zmq::error_t&) {
    return;  // the context ends
  }
}

// ---- ZAP ----

ZapHandler::ZapHandler(TransportContext& context, Loop& loop, Judge judge)
    : socket_(context, loop, zmq::socket_type::rep), judge_(std::move(judge)) {
  socket_->set(zmq::sockopt::rcvhwm, 0);  // as many as there are handshakes
  socket_->set(zmq::sockopt::sndhwm, 0);
  socket_->bind(kZapEndpoint);
  socket_.watch([this] { drain(); });
}

void ZapHandler::drain() {
  std::array<zmq::message_t, 8> parts;
  size_t count = 0;
  try {
    for (int i = 0; i < kMaxMessagesPerTurn && receive(*socket_, parts, count); ++i) {
      std::vector<ByteView> frames;
      for (size_t part = 0; part < std::min(count, parts.size()); ++part) {
        frames.push_back(view_of(parts[part]));
      }
      const auto request = parse_zap(frames);
      const std::string user = judge_(request ? &request->key : nullptr);
      const std::string id = count > 1 ? parts[1].to_string() : "";
      const ZapAnswer answer = user.empty() ? zap_refuse(id, "not allowed") : zap_accept(id, user);
      for (size_t part = 0; part < answer.size(); ++part) {
        const bool last = part + 1 == answer.size();
        if (!send_part(*socket_, answer[part].data(), answer[part].size(),
                       last ? zmq::send_flags::none : zmq::send_flags::sndmore)) {
          break;  // the peer is gone
        }
      }
    }
  } catch (const zmq::error_t&) {
    return;  // the context ends
  }
}

}  // namespace weir::transport
