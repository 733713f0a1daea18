#pragma once
// ZeroMQ behind one wrapper: Link (DEALER, connects upward) and Door (ROUTER, binds). The only
// files that include zmq.hpp are common/transport*. Options and their reasons: docs/wire.md.
//
// Owner and thread: the thread that created it; sockets register in that thread's Loop. Promise:
// nothing blocks (DONTWAIT), LINGER is 0 (but for a goodbye), messages are whole; messages that are
// not exactly two frames are drained and counted. With keys everything is encrypted (CURVE) and
// both ends are who they say; a door lets in and hears only the keys its allow-list holds now.
// Without keys an endpoint must be loopback, ipc or inproc, else it is refused.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/allow_list.h"
#include "common/bytes.h"
#include "common/clock.h"
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

  // False: send() would be, so nothing needs to be made for it.
  [[nodiscard]] virtual bool writable() const { return true; }

  virtual void on_receive(Receiver receiver) = 0;
  [[nodiscard]] virtual uint64_t bad_frame_count() const = 0;  // not exactly two frames

  // Why the last handshake failed, for people; empty: it did not.
  [[nodiscard]] virtual std::string refusal() const { return {}; }

  // Begins anew: for a connection that never speaks. libzmq does not connect again after some
  // errors of the protocol. What was queued is gone.
  virtual void reopen() {}
};

// Both or neither.
struct LinkOptions {
  const KeyPair* keys = nullptr;           // ours; outlives the link
  std::vector<std::string> server_keys{};  // Z85: tried in turn; the server has one of them
};

// Succeeds whether or not the peer is there: ZeroMQ connects, and reconnects, on its own.
Result<std::unique_ptr<Link>> connect_link(TransportContext& context, Loop& loop,
                                           const std::string& endpoint,
                                           const LinkOptions& options = {});

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

  // How long what was sent may still leave after the door is gone; 0 before this is called. Its
  // context's end waits for that long at most.
  virtual void linger(std::chrono::milliseconds /*time*/) {}

  // weir_transport_*: handshakes refused by reason, messages of unwelcome keys, forced cuts.
  [[nodiscard]] virtual std::map<std::string, uint64_t> counters() const { return {}; }
};

// All or none; all outlive the door.
struct DoorOptions {
  const KeyPair* keys = nullptr;
  const AllowList* allow = nullptr;
  const Clock* clock = nullptr;
};

// With keys: one door per context, and it is tried before this returns: a stranger's key and a
// client without one must be refused, or binding fails.
Result<std::unique_ptr<Door>> bind_door(TransportContext& context, Loop& loop,
                                        const std::string& endpoint,
                                        const DoorOptions& options = {});

// As many descriptors as the kernel grants this process: a peer takes one, an idle connection too.
void raise_descriptor_limit();

}  // namespace weir
