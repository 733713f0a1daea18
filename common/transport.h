#pragma once
// ZeroMQ behind one wrapper: Link (DEALER, connects upward) and Door (ROUTER, binds). The only
// file that includes zmq.hpp is common/transport.cc. Options and their reasons: docs/wire.md.
//
// Owner and thread: the thread that created it; sockets register in that thread's Loop. Promise:
// nothing blocks (DONTWAIT), LINGER is 0, messages are whole; messages that are not exactly two
// frames are drained and counted. Plain endpoints must be loopback, ipc or inproc, else refused.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/bytes.h"
#include "common/keys.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir {

// One per process; owns the I/O thread.
class TransportContext {
 public:
  TransportContext();
  ~TransportContext();
  TransportContext(const TransportContext&) = delete;
  TransportContext& operator=(const TransportContext&) = delete;

  [[nodiscard]] void* native() const { return context_; }

 private:
  void* context_;
};

// kInvalid unless the endpoint is tcp to loopback (127.0.0.0/8, ::1, localhost), ipc or inproc:
// anything else needs CURVE keys, and a plain socket there would take batches from anybody.
Status check_endpoint_is_safe(const std::string& endpoint);

// The seam towards the next tier: a real DEALER, or a simulated one in tests.
class Link {
 public:
  using Receiver = std::function<void(ByteView header, ByteView body)>;
  virtual ~Link() = default;
  // False when the pipe is full or not connected: keep it and try later.
  [[nodiscard]] virtual bool send(ByteView header, ByteView body) = 0;
  virtual void on_receive(Receiver receiver) = 0;
  [[nodiscard]] virtual uint64_t bad_frame_count() const = 0;  // not exactly two frames
};

// Succeeds whether or not the peer is there: ZeroMQ connects, and reconnects, on its own.
Result<std::unique_ptr<Link>> connect_link(TransportContext& context, Loop& loop,
                                           const std::string& endpoint);

// A connected peer of a Door; local to this process's life.
using PeerId = std::string;

class Door {
 public:
  // `identity`: whose key the sender proved to have; absent on a plain door, where it may be anyone
  // on this host.
  using Receiver = std::function<void(const PeerId&, const std::optional<Identity>& identity,
                                      ByteView header, ByteView body)>;
  virtual ~Door() = default;
  [[nodiscard]] virtual bool send(const PeerId& peer, ByteView header, ByteView body) = 0;
  virtual void on_receive(Receiver receiver) = 0;
  [[nodiscard]] virtual std::string endpoint() const = 0;  // the bound one, port resolved
  [[nodiscard]] virtual uint64_t bad_frame_count() const = 0;
};

Result<std::unique_ptr<Door>> bind_door(TransportContext& context, Loop& loop,
                                        const std::string& endpoint);

}  // namespace weir
