#pragma once
// The inside of the transport: a ZeroMQ socket in a loop, the events of its handshakes, the ZAP
// handler. Included by common/transport_*.cc only: they are the files that see zmq.hpp.
//
// Owner: a Link or a Door. Thread: its loop thread.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include <zmq.hpp>

#include "common/keys.h"
#include "common/loop.h"
#include "common/transport.h"

namespace weir::transport {

inline constexpr int kMaxMessagesPerTurn = 64;  // then the loop serves its other entries

zmq::context_t& native(TransportContext& context);
Error zmq_error(std::string_view what, const std::string& endpoint, const zmq::error_t& error);
// Many peers of one restarted tier must not come back in step; libzmq's own jitter is poor.
int random_milliseconds(int low, int high);
ByteView view_of(const zmq::message_t& message);
// One whole message without blocking. More frames than `parts` are drained and dropped; `count`
// tells how many there were. False: nothing to read.
bool receive(zmq::socket_t& socket, std::span<zmq::message_t> parts, size_t& count);
bool send_part(zmq::socket_t& socket, const void* data, size_t size, zmq::send_flags more);

class LoopSocket {
 public:
  LoopSocket(TransportContext& context, Loop& loop, zmq::socket_type type);
  LoopSocket(const LoopSocket&) = delete;
  LoopSocket& operator=(const LoopSocket&) = delete;
  ~LoopSocket();

  void watch(Loop::Callback callback);

  zmq::socket_t& operator*() { return socket_; }

  zmq::socket_t* operator->() { return &socket_; }

 private:
  zmq::socket_t socket_;
  Loop& loop_;
  Loop::EntryId entry_ = 0;
  bool registered_ = false;
};

// A Link's or a Door's socket: the options both have (docs/wire.md).
std::unique_ptr<LoopSocket> make_socket(TransportContext& context, Loop& loop,
                                        zmq::socket_type type, const std::string& endpoint);

enum class Handshake : uint8_t {
  kDone,
  kUnfinished,  // cut, or not done in time; libzmq connects again
  kPlain,       // the other end speaks another mechanism
  kCrypto,      // the other end does not have the key it should have
  kProtocol,    // no ZMTP
  kRefused,     // by the other end's ZAP handler, or by ours
};

// What became of the handshakes of one socket; begins before it binds or connects. Nobody may make
// libzmq's I/O thread wait for us, so its queue has no bound but the handshakes of one turn.
class HandshakeMonitor {
 public:
  using Callback = std::function<void(Handshake)>;
  HandshakeMonitor(TransportContext& context, Loop& loop, LoopSocket& watched, Callback callback);
  HandshakeMonitor(const HandshakeMonitor&) = delete;
  HandshakeMonitor& operator=(const HandshakeMonitor&) = delete;
  ~HandshakeMonitor();

 private:
  void drain();

  LoopSocket& watched_;
  Callback callback_;
  LoopSocket events_;
};

// Answers for every door of the context, so there is one per context, bound before the door is.
class ZapHandler {
 public:
  // The User-Id of a peer that is let in; empty: refused, and the owner has counted why. No key: a
  // question that is none.
  using Judge = std::function<std::string(const PublicKey* key)>;
  ZapHandler(TransportContext& context, Loop& loop, Judge judge);  // throws zmq::error_t

 private:
  void drain();

  LoopSocket socket_;
  Judge judge_;
};

}  // namespace weir::transport
