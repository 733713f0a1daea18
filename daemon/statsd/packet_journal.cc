#include "daemon/statsd/packet_journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/core.h>

#include "common/check.h"

namespace weir::daemon {
namespace {

constexpr uint64_t kMagic = 0x314c4e4a52494557;  // "WEIRJNL1"
constexpr size_t kPage = 4096;

struct Position {
  uint64_t seq = 0;   // newest batch in the log
  uint64_t tail = 0;  // bytes used
};

// First page of the mapping. `positions` is a pair: the inactive one is written, then `active`
// flips, so a kill leaves the old state or the new one.
struct Header {
  uint64_t magic = 0;
  uint64_t log_bytes = 0;
  std::array<char, 64> boot_id{};
  std::array<Position, 2> positions{};
  std::atomic<uint32_t> active{0};
  // The batch the slots are being received into, and since when.
  std::atomic<uint64_t> receiving_seq{0};
  int64_t receiving_unix_ns = 0;
};

static_assert(sizeof(Header) <= kPage);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

struct RecordHead {
  uint64_t seq = 0;
  int64_t unix_ns = 0;
  uint64_t size = 0;
};

constexpr size_t padded(size_t size) { return (size + 7) & ~size_t{7}; }

constexpr size_t kMessagesAt = kPage;
constexpr size_t kSlotsAt =
    kPage + ((PacketJournal::kSlots * sizeof(mmsghdr) + kPage - 1) / kPage) * kPage;
constexpr size_t kLogAt = kSlotsAt + PacketJournal::kSlots * PacketJournal::kSlotBytes;
constexpr size_t kWorstBatch =
    PacketJournal::kSlots * (sizeof(RecordHead) + PacketJournal::kSlotBytes);

Error io_error(const std::string& what) {
  return {Errc::kIo,
          fmt::format("{}: {}", what, std::strerror(errno))};  // NOLINT(concurrency-mt-unsafe)
}

// Half a packet could be a wrong number; an empty one says nothing.
bool deliverable(const mmsghdr& message) {
  return message.msg_len > 0 && (message.msg_hdr.msg_flags & MSG_TRUNC) == 0;
}

UnixTime at_nanos(int64_t ns) { return UnixTime{std::chrono::nanoseconds(ns)}; }

}  // namespace

struct PacketJournal::Map {
  std::byte* base = nullptr;
  size_t size = 0;

  Map(std::byte* mapped, size_t bytes) : base(mapped), size(bytes) {}

  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;

  ~Map() { ::munmap(base, size); }

  [[nodiscard]] Header& header() const { return *reinterpret_cast<Header*>(base); }

  [[nodiscard]] mmsghdr* messages() const { return reinterpret_cast<mmsghdr*>(base + kMessagesAt); }

  [[nodiscard]] char* slot(size_t i) const {
    return reinterpret_cast<char*>(base + kSlotsAt + i * kSlotBytes);
  }

  [[nodiscard]] std::byte* log() const { return base + kLogAt; }

  [[nodiscard]] size_t log_bytes() const { return size - kLogAt; }

  [[nodiscard]] Position position() const {
    const Header& h = header();
    return h.positions[h.active.load(std::memory_order_acquire) & 1];
  }

  void move_to(Position next) const {
    Header& h = header();
    const uint32_t other = (h.active.load(std::memory_order_relaxed) & 1) ^ 1;
    h.positions[other] = next;
    h.active.store(other, std::memory_order_release);
  }

  // A log whose records do not end exactly at the tail was not written by us.
  [[nodiscard]] bool consistent() const {
    const Position now = position();
    if (now.tail > log_bytes()) return false;
    uint64_t at = 0;
    while (at < now.tail) {
      RecordHead head;
      if (now.tail - at < sizeof head) return false;
      std::memcpy(&head, log() + at, sizeof head);
      if (head.size > kSlotBytes || now.tail - at - sizeof head < padded(head.size)) return false;
      at += sizeof head + padded(head.size);
    }
    return true;
  }
};

PacketJournal::PacketJournal(std::unique_ptr<Map> map) : map_(std::move(map)) {}

PacketJournal::PacketJournal(PacketJournal&&) noexcept = default;
PacketJournal& PacketJournal::operator=(PacketJournal&&) noexcept = default;
PacketJournal::~PacketJournal() = default;

Result<PacketJournal> PacketJournal::open(const std::string& path, size_t log_bytes,
                                          const std::string& boot_id) {
  WEIR_CHECK(log_bytes >= kMinLogBytes && log_bytes % kPage == 0);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return io_error("opening the packet journal " + path);
  const size_t size = kLogAt + log_bytes;
  // Reserved now: a page that could not be backed would kill the process later (SIGBUS).
  if (const int error = ::posix_fallocate(fd, 0, static_cast<off_t>(size)); error != 0) {
    [[maybe_unused]] const int ignored = ::ftruncate(fd, 0);  // a full disk needs the room
    ::close(fd);
    errno = error;
    return io_error(fmt::format("reserving {} MiB for the packet journal {}", size >> 20, path));
  }
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (base == MAP_FAILED) return io_error("mapping the packet journal " + path);
  return adopt(std::make_unique<Map>(static_cast<std::byte*>(base), size), boot_id);
}

Result<PacketJournal> PacketJournal::in_memory(size_t log_bytes) {
  WEIR_CHECK(log_bytes >= kMinLogBytes && log_bytes % kPage == 0);
  const size_t size = kLogAt + log_bytes;
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return io_error("mapping a packet journal in memory");
  return adopt(std::make_unique<Map>(static_cast<std::byte*>(base), size), "");
}

Result<PacketJournal> PacketJournal::adopt(std::unique_ptr<Map> map, const std::string& boot_id) {
  PacketJournal journal(std::move(map));
  Header& header = journal.map_->header();
  const size_t log_bytes = journal.map_->log_bytes();
  const bool ours = header.magic == kMagic && header.log_bytes == log_bytes;
  const bool same_boot = std::string_view(header.boot_id.data()).substr(0, 63) == boot_id;
  if (!ours || !same_boot || !journal.map_->consistent()) {
    // Pages of another boot may be older than what they refer to: nothing in them can be trusted.
    // The batch number goes on, so it never meets one the outbox has recorded.
    journal.discarded_ = ours && journal.map_->position().tail > 0;
    const uint64_t seq = ours ? journal.map_->position().seq + 1 : 0;
    header.magic = 0;
    journal.map_->move_to({seq, 0});
    header.receiving_seq.store(0, std::memory_order_release);
    header.boot_id.fill(0);
    boot_id.copy(header.boot_id.data(), header.boot_id.size() - 1);
    header.log_bytes = log_bytes;
    header.magic = kMagic;
    return journal;
  }
  // Killed between recvmmsg and the append: what the kernel had written into the slots is all
  // there.
  if (header.receiving_seq.load(std::memory_order_acquire) == journal.map_->position().seq + 1) {
    size_t count = kSlots;  // empty datagrams may lie between others
    while (count > 0 && journal.map_->messages()[count - 1].msg_len == 0) --count;
    if (count > 0 && !journal.full())
      journal.append_received(count);  // receive() never fills a full one
  }
  return journal;
}

bool PacketJournal::discarded_other_boot() const { return discarded_; }

size_t PacketJournal::replay(uint64_t committed_seq, const Sink& sink) {
  const Position now = map_->position();
  if (now.seq < committed_seq) {
    // A new journal beside an old outbox, or an old one that was put back: all it holds is
    // committed. Go on from the outbox's number, or the next batches would look committed already.
    map_->move_to({committed_seq, 0});
    return 0;
  }
  size_t packets = 0;
  for (uint64_t at = 0; at < now.tail;) {
    RecordHead head;
    std::memcpy(&head, map_->log() + at, sizeof head);
    const auto* text = reinterpret_cast<const char*>(map_->log() + at + sizeof head);
    if (head.seq > committed_seq) {
      sink({text, head.size}, at_nanos(head.unix_ns));
      ++packets;
    }
    at += sizeof head + padded(head.size);
  }
  return packets;
}

Result<PacketJournal::Received> PacketJournal::receive(int fd, UnixTime now, const Sink& sink) {
  WEIR_CHECK(!full());
  Header& header = map_->header();
  mmsghdr* messages = map_->messages();
  std::array<iovec, kSlots> payloads{};
  alignas(cmsghdr) std::array<std::array<char, CMSG_SPACE(sizeof(uint32_t))>, kSlots> controls{};
  for (size_t i = 0; i < kSlots; ++i) {
    payloads[i] = {map_->slot(i), kSlotBytes};
    messages[i] = {};  // lengths are 0 before the batch gets its number
    messages[i].msg_hdr.msg_iov = &payloads[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_hdr.msg_control = controls[i].data();
    messages[i].msg_hdr.msg_controllen = controls[i].size();
  }
  header.receiving_unix_ns = now.time_since_epoch().count();
  header.receiving_seq.store(map_->position().seq + 1, std::memory_order_release);

  const int got = ::recvmmsg(fd, messages, kSlots, MSG_DONTWAIT, nullptr);
  if (got < 0) {
    if (errno == EAGAIN || errno == EINTR) return Received{};
    return io_error("receiving pushed metrics");
  }
  Received result;
  result.packets = static_cast<size_t>(got);
  for (size_t i = 0; i < result.packets; ++i) {
    msghdr& message = messages[i].msg_hdr;
    if ((message.msg_flags & MSG_TRUNC) != 0) ++result.truncated;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL) continue;
      uint32_t dropped = 0;
      std::memcpy(&dropped, CMSG_DATA(c), sizeof dropped);
      result.kernel_dropped = dropped;
    }
  }
  append_received(result.packets);
  for (size_t i = 0; i < result.packets; ++i) {
    if (deliverable(messages[i])) sink({map_->slot(i), messages[i].msg_len}, now);
  }
  return result;
}

void PacketJournal::append_received(size_t count) {
  const Header& header = map_->header();
  Position next = map_->position();
  ++next.seq;
  for (size_t i = 0; i < count; ++i) {
    if (!deliverable(map_->messages()[i])) continue;
    const size_t size = std::min<size_t>(map_->messages()[i].msg_len, kSlotBytes);
    const RecordHead head{next.seq, header.receiving_unix_ns, size};
    WEIR_CHECK(next.tail + sizeof head + padded(size) <= map_->log_bytes());
    std::memcpy(map_->log() + next.tail, &head, sizeof head);
    std::memcpy(map_->log() + next.tail + sizeof head, map_->slot(i), size);
    next.tail += sizeof head + padded(size);
  }
  map_->move_to(next);
}

bool PacketJournal::full() const { return map_->log_bytes() - map_->position().tail < kWorstBatch; }

uint64_t PacketJournal::seq() const { return map_->position().seq; }

void PacketJournal::committed(uint64_t seq) {
  if (const Position now = map_->position(); seq == now.seq && now.tail > 0)
    map_->move_to({seq, 0});
}

}  // namespace weir::daemon
