#pragma once
// PacketJournal: datagrams are received straight into a shared file mapping and stay there until
// the outbox holds what they said. A daemon killed with -9 at any instruction loses none it had
// taken.
//
// How: recvmmsg() writes payloads and lengths into mapped slots; whole batches are then appended to
// a log in the same mapping and become visible by one store. The kernel keeps mapped pages when a
// process dies, so on the next start whatever was received and not committed is replayed. `seq`
// numbers the batches; the outbox commit records the highest one it includes (exactly once, both
// directions).
//
// Owner and thread: the StatsD source, loop thread. Promise: every datagram taken from a socket is
// given to a sink exactly once between two commits, across kills. It does not survive the machine's
// power loss: a journal of another boot is discarded and counted. Bounded: a fixed log; when
// full() the caller must flush first. Cost: one memcpy of the payload; no system call beside
// recvmmsg.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/result.h"

namespace weir::daemon {

class PacketJournal {
 public:
  static constexpr size_t kSlots = 64;
  static constexpr size_t kSlotBytes = size_t{64} << 10;  // the largest UDP datagram fits
  static constexpr size_t kMinLogBytes = size_t{16} << 20;

  using Sink = std::function<void(std::string_view packet, UnixTime received)>;

  struct Received {
    size_t packets = 0;
    size_t truncated = 0;                    // longer than a slot: cut by the kernel, not delivered
    std::optional<uint32_t> kernel_dropped;  // SO_RXQ_OVFL: the socket's drops so far, if it said
  };

  // Opens or creates the file and reserves its space, so a full disk fails here and not later.
  // boot_id is the kernel's random id of this boot.
  static Result<PacketJournal> open(const std::string& path, size_t log_bytes,
                                    const std::string& boot_id);
  // The same without a file: nothing survives a kill.
  static Result<PacketJournal> in_memory(size_t log_bytes);

  PacketJournal(PacketJournal&&) noexcept;
  PacketJournal& operator=(PacketJournal&&) noexcept;
  ~PacketJournal();

  // Gives every packet of batches after committed_seq to the sink, oldest first. Call once, before
  // the first receive. Returns how many.
  size_t replay(uint64_t committed_seq, const Sink& sink);
  [[nodiscard]] bool discarded_other_boot() const;

  // Takes up to kSlots waiting datagrams without blocking. Must not be called when full().
  Result<Received> receive(int fd, UnixTime now, const Sink& sink);

  [[nodiscard]] bool full() const;     // no room for one more whole batch
  [[nodiscard]] uint64_t seq() const;  // of the newest batch
  // The outbox has committed everything up to `seq`; frees the log when that is all there is.
  void committed(uint64_t seq);

 private:
  struct Map;
  explicit PacketJournal(std::unique_ptr<Map> map);
  static Result<PacketJournal> adopt(std::unique_ptr<Map> map, const std::string& boot_id);
  void append_received(size_t count);

  std::unique_ptr<Map> map_;
  bool discarded_ = false;
};

}  // namespace weir::daemon
