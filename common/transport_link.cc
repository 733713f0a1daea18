#include "common/transport_link.h"

#include <algorithm>
#include <utility>

#include "common/log.h"

namespace weir::transport {
namespace {

using std::chrono::milliseconds;

// libzmq never connects again after a refusal or a protocol error (a session that ends so is not
// replaced), and a socket keeps the server key it connected with: so we make a new one.
constexpr milliseconds kFirstRetry{1000};
constexpr milliseconds kLastRetry{20'000};

const char* meaning_of(Handshake outcome) {
  switch (outcome) {
    case Handshake::kDone:
      return "connected";
    case Handshake::kUnfinished:
      return "the handshake was cut: wrong server_keys, one end without keys, or the network";
    case Handshake::kPlain:
      return "one end has keys and the other has none";
    case Handshake::kCrypto:
      return "it does not have the key that server_keys says";
    case Handshake::kProtocol:
      return "what answers is no Weir door";
    case Handshake::kRefused:
      return "it refuses our key: put our host.pub into its allow.d (weir keys show)";
  }
  return "";
}

}  // namespace

ZmqLink::ZmqLink(TransportContext& context, Loop& loop, std::string endpoint, LinkOptions options)
    : context_(context),
      loop_(loop),
      endpoint_(std::move(endpoint)),
      options_(std::move(options)),
      retry_(kFirstRetry) {
  open();
}

ZmqLink::~ZmqLink() {
  if (reopen_ != 0) loop_.remove(reopen_);
}

void ZmqLink::open() {
  monitor_.reset();
  socket_ = make_socket(context_, loop_, zmq::socket_type::dealer, endpoint_);
  zmq::socket_t& socket = **socket_;
  socket.set(zmq::sockopt::connect_timeout, 5000);
  // One end asks, and its TTL is the other's: a door with thousands of peers has no time for all of
  // them each second. Who is silent is noticed before, by Session.
  socket.set(zmq::sockopt::heartbeat_ivl, 5000);
  socket.set(zmq::sockopt::heartbeat_timeout, 15'000);
  socket.set(zmq::sockopt::heartbeat_ttl, 15'000);
  // On this host nobody waits for a storm of others to pass.
  const bool near = check_endpoint_is_safe(endpoint_).ok();
  socket.set(zmq::sockopt::reconnect_ivl,
             near ? random_milliseconds(200, 1000) : random_milliseconds(500, 3000));
  socket.set(zmq::sockopt::reconnect_ivl_max,
             near ? random_milliseconds(3000, 5000) : random_milliseconds(20'000, 60'000));
  if (options_.keys != nullptr) {
    const auto bytes = [](const PublicKey& key) { return zmq::buffer(key.data(), key.size()); };
    socket.set(zmq::sockopt::curve_serverkey, options_.server_keys[server_key_]);
    socket.set(zmq::sockopt::curve_publickey, z85_text(options_.keys->line().key));
    socket.set(zmq::sockopt::curve_secretkey, bytes(options_.keys->secret()));
  }
  monitor_ = std::make_unique<HandshakeMonitor>(
      context_, loop_, *socket_, [this](Handshake outcome) { on_handshake(outcome); });
  socket.connect(endpoint_);
  socket_->watch([this] { drain(); });
}

void ZmqLink::on_handshake(Handshake outcome) {
  if (outcome == Handshake::kDone) {
    if (!refusal_.empty()) log::info("{}: connected", endpoint_);
    refusal_.clear();
    retry_ = kFirstRetry;
    if (reopen_ != 0) loop_.remove(std::exchange(reopen_, 0));
    return;
  }
  const std::string why = meaning_of(outcome);
  if (why != refusal_) log::warn("{}: {}", endpoint_, why);
  refusal_ = why;
  if (reopen_ != 0) return;
  // Refused by the right server: its other key would not help.
  if (outcome != Handshake::kRefused && options_.server_keys.size() > 1) {
    server_key_ = (server_key_ + 1) % options_.server_keys.size();
  }
  const int low = static_cast<int>(retry_.count()) / 2;
  reopen_ = loop_.after(milliseconds(random_milliseconds(low, 2 * low)), [this] { reopen(); });
  retry_ = std::min(retry_ * 2, kLastRetry);
}

void ZmqLink::reopen() {
  if (reopen_ != 0) loop_.remove(std::exchange(reopen_, 0));
  try {
    open();
  } catch (const zmq::error_t& error) {
    log::error("connecting to {} again: {}", endpoint_, error.what());
    reopen_ = loop_.after(kLastRetry, [this] { reopen(); });
  }
}

bool ZmqLink::send(ByteView header, ByteView body) {
  try {
    return send_part(**socket_, header.data(), header.size(), zmq::send_flags::sndmore) &&
           send_part(**socket_, body.data(), body.size(), zmq::send_flags::none);
  } catch (const zmq::error_t&) {
    return false;  // the sender keeps the batch and tries again
  }
}

bool ZmqLink::writable() const {
  try {
    return ((**socket_).get(zmq::sockopt::events) & ZMQ_POLLOUT) != 0;
  } catch (const zmq::error_t&) {
    return false;
  }
}

void ZmqLink::drain() {
  std::array<zmq::message_t, 2> parts;
  size_t count = 0;
  try {
    for (int i = 0; i < kMaxMessagesPerTurn && receive(**socket_, parts, count); ++i) {
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

}  // namespace weir::transport
