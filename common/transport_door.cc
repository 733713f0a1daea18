#include "common/transport_door.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <utility>

#include "common/frame.h"
#include "common/log.h"

namespace weir::transport {
namespace {

constexpr const char* kGiants = "weir_transport_giant_messages_total";
constexpr const char* kRevoked = "weir_transport_revoked_messages_total";
constexpr const char* kBanned = "weir_transport_banned_messages_total";
constexpr const char* kCuts = "weir_transport_cuts_total";
constexpr const char* kRebinds = "weir_transport_rebinds_total";
constexpr std::chrono::milliseconds kBindAgain{20};
// The I/O thread may be long at decrypting what others send; an answer that is lost meanwhile costs
// its peer a retry, and us a copy. As many as libzmq's smallest queue has place for.
constexpr int kAnswersOfPeer = 128;

// Null: let in, or counted by the ZAP handler.
const char* reason_of(Handshake outcome) {
  switch (outcome) {
    case Handshake::kDone:
    case Handshake::kRefused:
      return nullptr;
    case Handshake::kUnfinished:
      return "unfinished";
    case Handshake::kPlain:
      return "plain";
    case Handshake::kCrypto:
      return "crypto";
    case Handshake::kProtocol:
      return "protocol";
  }
  return nullptr;
}

std::optional<PublicKey> key_of(const zmq::message_t& part) {
  const char* user = zmq_msg_gets(part.handle(), "User-Id");
  return user == nullptr ? std::nullopt : parse_z85(user);
}

int descriptor_of(const zmq::message_t& part) { return zmq_msg_get(part.handle(), ZMQ_SRCFD); }

// Ends the TCP connection a message came by. Its descriptor may be another's by now: that must then
// be a connection of this door as well, and its peer connects again.
bool shut_down(int fd, const std::string& endpoint) {
  sockaddr_storage peer{};
  sockaddr_storage own{};
  socklen_t peer_size = sizeof peer;
  socklen_t own_size = sizeof own;
  if (fd < 0 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_size) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) != 0) {
    return false;
  }
  uint16_t port = 0;  // at the same place in both families
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  if (own.ss_family != AF_INET && own.ss_family != AF_INET6) return false;
  std::memcpy(&port, reinterpret_cast<const char*>(&own) + offsetof(sockaddr_in, sin_port),
              sizeof port);
  if (!endpoint.ends_with(":" + std::to_string(ntohs(port)))) return false;
  return ::shutdown(fd, SHUT_RDWR) == 0;
}

}  // namespace

std::string refused(std::string_view reason) {
  return "weir_transport_handshakes_refused_total{reason=\"" + std::string(reason) + "\"}";
}

ZmqDoor::ZmqDoor(TransportContext& context, Loop& loop, std::string endpoint, DoorOptions options)
    : context_(context), loop_(loop), endpoint_(std::move(endpoint)), options_(options) {
  for (const char* name : {kGiants, kRevoked, kBanned, kCuts, kRebinds}) counters_[name] = 0;
  for (const char* reason : {"unknown_key", "expired_key", "banned_key", "question", "plain",
                             "crypto", "protocol", "unfinished"}) {
    counters_[refused(reason)] = 0;
  }
  if (options_.keys != nullptr) {
    zap_ = std::make_unique<ZapHandler>(context, loop,
                                        [this](const PublicKey* key) { return judge(key); });
  }
  open();
  endpoint_ = (*socket_)->get(zmq::sockopt::last_endpoint);
  if (options_.keys != nullptr) sweep_ = loop_.every(kSweepEvery, [this] { sweep(); });
}

ZmqDoor::~ZmqDoor() {
  if (rebind_ != 0) loop_.remove(rebind_);
  if (sweep_ != 0) loop_.remove(sweep_);
}

void ZmqDoor::open() {
  auto made = make_socket(context_, loop_, zmq::socket_type::router, endpoint_);
  zmq::socket_t& socket = **made;
  socket.set(zmq::sockopt::router_mandatory, true);  // a send to nobody is an error we see
  socket.set(zmq::sockopt::backlog, 4096);
  socket.set(zmq::sockopt::sndhwm, kAnswersOfPeer);
  if (options_.keys != nullptr) {
    const PublicKey& secret = options_.keys->secret();
    socket.set(zmq::sockopt::curve_server, true);
    socket.set(zmq::sockopt::curve_secretkey, zmq::buffer(secret.data(), secret.size()));
    socket.set(zmq::sockopt::zap_domain, "weir");
    // ZMQ_ZAP_ENFORCE_DOMAIN, behind the draft macro in zmq.h: without it, libzmq lets any key in
    // whenever nobody answers ZAP.
    constexpr int kZapEnforceDomain = 93;
    const int enforce = 1;
    if (zmq_setsockopt(socket.handle(), kZapEnforceDomain, &enforce, sizeof enforce) != 0) {
      throw zmq::error_t();
    }
  }
  auto monitor =
      std::make_unique<HandshakeMonitor>(context_, loop_, *made, [this](Handshake outcome) {
        if (const char* reason = reason_of(outcome)) count(refused(reason));
      });
  socket.bind(endpoint_);
  made->watch([this] { drain(); });
  socket_ = std::move(made);
  monitor_ = std::move(monitor);
}

bool ZmqDoor::send(const PeerId& peer, ByteView header, ByteView body) {
  if (socket_ == nullptr) return false;
  zmq::socket_t& socket = **socket_;
  try {
    return send_part(socket, peer.data(), peer.size(), zmq::send_flags::sndmore) &&
           send_part(socket, header.data(), header.size(), zmq::send_flags::sndmore) &&
           send_part(socket, body.data(), body.size(), zmq::send_flags::none);
  } catch (const zmq::error_t&) {
    return false;  // gone; it will say HELLO again
  }
}

void ZmqDoor::drain() {
  Parts parts;
  size_t frames = 0;
  try {
    for (int i = 0; i < kMaxMessagesPerTurn && receive(**socket_, parts, frames); ++i) {
      if (frames > kMaxFrames) {
        take_giant(parts.back());
      } else {
        take(parts, frames);
      }
    }
  } catch (const zmq::error_t&) {
    ++bad_frames_;
  }
}

void ZmqDoor::take(Parts& parts, size_t frames) {
  std::optional<Identity> identity;
  if (options_.keys != nullptr) {
    const zmq::message_t& last = parts[std::min(frames, parts.size()) - 1];
    const auto key = key_of(last);
    if (!key) {
      ++bad_frames_;
      return;
    }
    identity = welcome(*key, parts, frames);
    if (!identity) return;
    if (frames != parts.size()) return take_misshapen(*key, last);
  } else if (frames != parts.size()) {
    ++bad_frames_;
    return;
  }
  if (receiver_) receiver_(parts[0].to_string(), identity, view_of(parts[1]), view_of(parts[2]));
}

// Whose key it is, as the allow-list says now; nothing: it is dealt with.
std::optional<Identity> ZmqDoor::welcome(const PublicKey& key, Parts& parts, size_t frames) {
  const zmq::message_t& last = parts[std::min(frames, parts.size()) - 1];
  if (is_banned(key)) {
    count(kBanned);
    strike(key, last);
    return {};
  }
  const int fd = descriptor_of(last);
  const auto found = options_.allow->find(key);
  if (found.verdict == AllowList::Verdict::kAllowed) {
    if (fd >= 0) heard_[fd] = {key, parts[0].to_string(), found.owner.source};
    return found.owner;
  }
  count(kRevoked);
  const auto theirs = decode_header(frames == parts.size() ? view_of(parts[1]) : ByteView());
  tell_revoked(parts[0].to_string(), theirs ? theirs->source : SourceId{});
  if (const auto it = heard_.find(fd); it != heard_.end()) it->second.told = true;
  strike(key, last);
  return {};
}

void ZmqDoor::tell_revoked(const PeerId& peer, const SourceId& source) {
  FrameHeader header;
  header.type = FrameType::kRevoked;
  header.source = source;
  // It may be gone: then there is nobody to tell.
  [[maybe_unused]] const bool told = send(peer, encode_header_for(header, {}), {});
}

void ZmqDoor::take_misshapen(const PublicKey& key, const zmq::message_t& part) {
  ++bad_frames_;
  if (++unwelcome_[key].misshapen < kStrikes) return;
  log::warn("{}: {} messages that are not two frames: key {} is banned for {} minutes", endpoint_,
            kStrikes, z85_text(key), kBan.count());
  ban(key, part);
}

void ZmqDoor::take_giant(const zmq::message_t& part) {
  count(kGiants);
  const auto key = options_.keys == nullptr ? std::nullopt : key_of(part);
  if (!key) return;  // a plain door: somebody on this host
  log::warn("{}: a message of more than {} frames: key {} is banned for {} minutes", endpoint_,
            kMaxFrames, z85_text(*key), kBan.count());
  ban(*key, part);
}

void ZmqDoor::ban(const PublicKey& key, const zmq::message_t& part) {
  Unwelcome& who = unwelcome_[key];
  who.misshapen = 0;
  who.banned_until = options_.clock->mono() + kBan;
  cut(key, part);
}

void ZmqDoor::strike(const PublicKey& key, const zmq::message_t& part) {
  Unwelcome& who = unwelcome_[key];
  if (++who.strikes < kStrikes) return;
  who.strikes = 0;
  log::warn("{}: key {} may not speak and goes on: it is cut", endpoint_, z85_text(key));
  cut(key, part);
}

void ZmqDoor::cut(const PublicKey& key, const zmq::message_t& part) {
  const int fd = descriptor_of(part);
  heard_.erase(fd);
  if (shut_down(fd, endpoint_)) return count(kCuts);
  const MonoTime now = options_.clock->mono();
  if (rebind_ != 0 || (last_bind_ != MonoTime{} && now - last_bind_ < kBindEvery)) return;
  last_bind_ = now;
  count(kCuts);
  count(kRebinds);
  log::warn("{}: all connections are cut for key {}", endpoint_, z85_text(key));
  rebind_ = loop_.after(std::chrono::milliseconds(0), [this] { close_all(); });  // not in a drain
}

// Keys that were taken away, or ended: who has nothing to say is told, and cut the next time.
void ZmqDoor::sweep() {
  for (auto it = heard_.begin(); it != heard_.end();) {
    const int fd = it->first;
    Heard& heard = it->second;
    if (options_.allow->find(heard.key).verdict == AllowList::Verdict::kAllowed) {
      ++it;
    } else if (!std::exchange(heard.told, true)) {
      tell_revoked(heard.peer, heard.source);
      ++it;
    } else {
      if (shut_down(fd, endpoint_)) {
        count(kCuts);
        log::warn("{}: key {} is not allowed any more: its connection is cut", endpoint_,
                  z85_text(heard.key));
      }
      it = heard_.erase(it);
    }
  }
}

void ZmqDoor::linger(std::chrono::milliseconds time) {
  if (socket_ != nullptr) (*socket_)->set(zmq::sockopt::linger, static_cast<int>(time.count()));
}

void ZmqDoor::close_all() {
  monitor_.reset();
  socket_.reset();
  heard_.clear();
  std::erase_if(unwelcome_, [&](const auto& entry) { return !is_banned(entry.first); });
  bind_again();
}

// The old socket gives the address back in its own time.
void ZmqDoor::bind_again() {
  rebind_ = 0;
  try {
    open();
  } catch (const zmq::error_t& error) {
    if (error.num() != EADDRINUSE) log::error("binding {} again: {}", endpoint_, error.what());
    rebind_ = loop_.after(kBindAgain, [this] { bind_again(); });
  }
}

bool ZmqDoor::is_banned(const PublicKey& key) const {
  const auto it = unwelcome_.find(key);
  return it != unwelcome_.end() && options_.clock->mono() < it->second.banned_until;
}

std::string ZmqDoor::judge(const PublicKey* key) {
  const auto refuse = [&](const char* reason) {
    count(refused(reason));
    return std::string();
  };
  if (key == nullptr) return refuse("question");
  if (is_banned(*key)) return refuse("banned_key");
  switch (options_.allow->find(*key).verdict) {
    case AllowList::Verdict::kAllowed:
      return z85_text(*key);
    case AllowList::Verdict::kUnknown:
      return refuse("unknown_key");
    case AllowList::Verdict::kExpired:
      return refuse("expired_key");
  }
  return {};
}

}  // namespace weir::transport
