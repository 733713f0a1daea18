#pragma once
// Control messages (schemas/control.fbs): the bodies of all frames that are not batches.
//
// Pure. Promise: decode(encode(x)) == x within the limits below, which encode keeps by cutting
// (strings, lists); decode verifies the FlatBuffer, then every limit and list length, and refuses
// anything with not exactly one message in it. Cost: one copy.

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/bytes.h"
#include "common/frame.h"
#include "common/metric.h"
#include "common/outbox.h"
#include "common/result.h"

namespace weir {

// What a source tells the next tier about itself with every PING; shown by `weir status`.
struct CollectorReport {
  std::string name;
  uint8_t state = 0;  // 1 running, 2 degraded, 3 unavailable
  std::string reason;
  std::string fix;
  friend bool operator==(const CollectorReport&, const CollectorReport&) = default;
};

struct SourceReport {
  std::string name;  // host name, or region name
  std::string tier;  // "edge", "region", "global"
  std::vector<CollectorReport> collectors;
  std::vector<std::pair<std::string, uint64_t>> counters;
  // Every event that ended before this has been sent with seq <= complete_seq.
  int64_t complete_until_s = 0;
  uint64_t complete_seq = 0;
  friend bool operator==(const SourceReport&, const SourceReport&) = default;
};

inline constexpr size_t kMaxControlBytes = size_t{256} << 10;
inline constexpr size_t kMaxControlText = 512;  // bytes of one string
inline constexpr size_t kMaxCollectors = 32;
inline constexpr size_t kMaxReportCounters = 256;
inline constexpr size_t kMaxRanges = 2048;  // per list; what is not told is only offered again
inline constexpr size_t kMaxHelloEpochs = 64;

struct Hello {
  uint8_t minor_min = kWireMinor;
  uint8_t minor_max = kWireMinor;
  std::string name;
  std::string tier;
  uint64_t epoch = 0;  // of new batches; 0: a tier that has none and asks for one
  int64_t unix_ns = 0;
  int64_t mono_ns = 0;
  uint64_t outbox_rows = 0;
  uint64_t outbox_bytes = 0;
  uint64_t features = 0;         // bits, none assigned yet
  std::vector<uint64_t> epochs;  // of which the outbox holds rows: the newest kMaxHelloEpochs
  friend bool operator==(const Hello&, const Hello&) = default;
};

struct Welcome {
  uint8_t minor = kWireMinor;
  uint64_t credit_bytes = 0;       // may be under way and not ACK_R'd
  std::vector<SeqSpan> here;       // durable at this tier
  std::vector<SeqSpan> last_tier;  // durable at the last one
  uint64_t features = 0;           // of those offered, the ones in use
  SourceId tier_source{};          // who says this: what is sent to it is assigned to
  uint64_t tier_epoch = 0;         // (tier_source, tier_epoch)
  uint64_t your_epoch = 0;         // of a tier's outbox, handed out by the tier above; 0: an edge
  friend bool operator==(const Welcome&, const Welcome&) = default;
};

struct Ack {
  std::vector<SeqSpan> spans;  // of one epoch, at least one
  uint64_t credit_bytes = 0;   // as of now, in place of the WELCOME's
  friend bool operator==(const Ack&, const Ack&) = default;
};

struct Nack {
  uint64_t epoch = 0;
  uint64_t seq = 0;  // 0: not about a batch
  std::string reason;
  bool permanent = false;  // never send it again
  friend bool operator==(const Nack&, const Nack&) = default;
};

struct Ping {
  int64_t unix_ns = 0;
  int64_t mono_ns = 0;
  SourceReport report;
  int64_t clock_offset_ns = 0;  // the receiver's clock minus the sender's, at the least delay
  friend bool operator==(const Ping&, const Ping&) = default;
};

struct Pong {
  int64_t echo_mono_ns = 0;
  int64_t unix_ns = 0;
  std::vector<SeqSpan> waiting;  // here, and not decided yet: a copy is of no use
  friend bool operator==(const Pong&, const Pong&) = default;
};

// In place of a batch that its source gave up: same (epoch, seq), same assignment, acknowledged
// and deduplicated like it.
struct Tombstone {
  Window window;
  uint64_t mass = 0;      // of the batch given up
  uint64_t cum_mass = 0;  // as the batch had it (common/batch.h)
  std::string reason;     // a word, for a label
  Labels labels;          // common to all the source sends, sorted; texts as above
  friend bool operator==(const Tombstone&, const Tombstone&) = default;
};

struct Credit {
  uint64_t bytes = 0;
  friend bool operator==(const Credit&, const Credit&) = default;
};

// Which of the source's (epoch, lo..hi) are in rollups that the last tier took from (tier_source,
// tier_epoch)? Asking is what lets the last tier fence that epoch.
struct AskIncluded {
  SourceId tier_source{};
  uint64_t tier_epoch = 0;
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;
  friend bool operator==(const AskIncluded&, const AskIncluded&) = default;
};

// The answer. The ranges are complete for lo..complete_to and say nothing of the rest: ask again
// for that. Not fenced: nothing follows from it; ask again later.
struct Included {
  SourceId tier_source{};
  uint64_t tier_epoch = 0;
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t complete_to = 0;  // lo - 1: of nothing
  bool fenced = false;
  std::vector<SeqSpan> spans;  // of `epoch`, within lo..complete_to; at most kMaxRanges
  friend bool operator==(const Included&, const Included&) = default;
};

// The receiver's epoch takes nothing new any more: it must drop what it has and greet anew.
struct Fenced {
  uint64_t epoch = 0;
  friend bool operator==(const Fenced&, const Fenced&) = default;
};

struct Revoked {
  std::string reason;
  friend bool operator==(const Revoked&, const Revoked&) = default;
};

// Send nothing new here, and greet again only after the delay.
struct Goaway {
  uint64_t retry_after_ms = 0;
  std::string reason;
  friend bool operator==(const Goaway&, const Goaway&) = default;
};

using ControlMessage = std::variant<Hello, Welcome, Ack, Nack, Ping, Pong, Tombstone, Credit,
                                    AskIncluded, Included, Fenced, Revoked, Goaway>;

[[nodiscard]] Bytes encode_control(const ControlMessage& message);
[[nodiscard]] Result<ControlMessage> decode_control(ByteView body);

// A NACK that is no verdict on a batch: this peer has not said HELLO on this connection.
inline constexpr const char* kNackNoHello = "no_hello";
// Nor are these: the receiver has no epoch yet, or another than the batch is assigned to.
inline constexpr const char* kNackNoEpoch = "no_epoch";
inline constexpr const char* kNackTargetEpoch = "target_epoch";
// What waits here is as much as may: new rows go elsewhere, if they can.
inline constexpr const char* kNackOverload = "overload";

}  // namespace weir
