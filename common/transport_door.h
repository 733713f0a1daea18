#pragma once
// The Door of common/transport.h over ZeroMQ, and what it does to those who misuse it: a key that
// is no longer listed is answered REVOKED, messages of too many frames (one) or of the wrong number
// (several) ban their key for a while, and who goes on is cut: its own TCP connection alone, found
// by the descriptor libzmq names with each message; where that cannot be (ipc), all of them, by
// binding again. A connection whose key went is told and cut within seconds, should it say nothing
// more.
//
// ZAP asks about a key at the handshake only, so every message of a door with keys is checked
// again, before anything else about it: its User-Id is the key, and the allow-list says whose that
// is now. libzmq puts the User-Id on every frame but may lose the first one's: the last one's
// counts.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "common/allow_list.h"
#include "common/transport_socket.h"

namespace weir::transport {

// The counter of handshakes refused for this reason.
std::string refused(std::string_view reason);

class ZmqDoor final : public Door {
 public:
  // Frames of a message beyond which it was made to hurt: libzmq holds them all until the last.
  static constexpr size_t kMaxFrames = 16;
  static constexpr std::chrono::minutes kBan{10};
  // Messages of one unwelcome key before a cut, and of a wrong number of frames before a ban.
  static constexpr unsigned kStrikes = 8;
  static constexpr std::chrono::seconds kSweepEvery{1};
  static constexpr std::chrono::seconds kBindEvery{10};

  ZmqDoor(TransportContext& context, Loop& loop, std::string endpoint, DoorOptions options);
  ZmqDoor(const ZmqDoor&) = delete;
  ZmqDoor& operator=(const ZmqDoor&) = delete;
  ~ZmqDoor() override;

  bool send(const PeerId& peer, ByteView header, ByteView body) override;

  void on_receive(Receiver receiver) override { receiver_ = std::move(receiver); }

  [[nodiscard]] std::string endpoint() const override { return endpoint_; }

  [[nodiscard]] uint64_t bad_frame_count() const override { return bad_frames_; }

  [[nodiscard]] std::map<std::string, uint64_t> counters() const override { return counters_; }

  void linger(std::chrono::milliseconds time) override;

 private:
  struct Unwelcome {
    unsigned strikes = 0;
    unsigned misshapen = 0;
    MonoTime banned_until{};
  };

  // Who was heard last by a descriptor of libzmq's. It may be closed, or another's by now.
  struct Heard {
    PublicKey key{};
    PeerId peer;
    SourceId source{};
    bool told = false;  // REVOKED
  };

  using Parts = std::array<zmq::message_t, 3>;  // the peer's routing id comes first

  void open();
  void drain();
  void take(Parts& parts, size_t frames);
  [[nodiscard]] std::optional<Identity> welcome(const PublicKey& key, Parts& parts, size_t frames);
  void take_misshapen(const PublicKey& key, const zmq::message_t& part);
  void take_giant(const zmq::message_t& part);
  void tell_revoked(const PeerId& peer, const SourceId& source);
  void ban(const PublicKey& key, const zmq::message_t& part);
  void strike(const PublicKey& key, const zmq::message_t& part);
  void cut(const PublicKey& key, const zmq::message_t& part);
  void sweep();
  void close_all();
  void bind_again();
  std::string judge(const PublicKey* key);
  [[nodiscard]] bool is_banned(const PublicKey& key) const;

  void count(const std::string& name) { ++counters_.at(name); }

  TransportContext& context_;
  Loop& loop_;
  std::string endpoint_;
  DoorOptions options_;
  std::map<std::string, uint64_t> counters_;
  uint64_t bad_frames_ = 0;
  std::unique_ptr<ZapHandler> zap_;
  std::unique_ptr<LoopSocket> socket_;  // null while it is bound again
  std::unique_ptr<HandshakeMonitor> monitor_;
  std::map<PublicKey, Unwelcome> unwelcome_;  // keys that were let in once
  std::map<int, Heard> heard_;                // by descriptor; with keys only
  Loop::EntryId sweep_ = 0;                   // 0: a door without keys
  MonoTime last_bind_{};
  Loop::EntryId rebind_ = 0;  // 0: none is due
  Receiver receiver_;
};

}  // namespace weir::transport
