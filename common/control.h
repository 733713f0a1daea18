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

struct Hello {
  uint8_t minor_min = kWireMinor;
  uint8_t minor_max = kWireMinor;
  std::string name;
  std::string tier;
  uint64_t epoch = 0;
  int64_t unix_ns = 0;
  int64_t mono_ns = 0;
  uint64_t outbox_rows = 0;
  uint64_t outbox_bytes = 0;
  friend bool operator==(const Hello&, const Hello&) = default;
};

struct Welcome {
  uint8_t minor = kWireMinor;
  uint64_t credit_bytes = 0;       // may be under way and not ACK_R'd
  std::vector<SeqSpan> here;       // durable at this tier
  std::vector<SeqSpan> last_tier;  // durable at the last one
  friend bool operator==(const Welcome&, const Welcome&) = default;
};

struct Ack {
  std::vector<SeqSpan> spans;  // of one epoch, at least one
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
  friend bool operator==(const Ping&, const Ping&) = default;
};

struct Pong {
  int64_t echo_mono_ns = 0;
  int64_t unix_ns = 0;
  friend bool operator==(const Pong&, const Pong&) = default;
};

using ControlMessage = std::variant<Hello, Welcome, Ack, Nack, Ping, Pong>;

[[nodiscard]] Bytes encode_control(const ControlMessage& message);
[[nodiscard]] Result<ControlMessage> decode_control(ByteView body);

// A NACK that is no verdict on a batch: this peer has not said HELLO on this connection.
inline constexpr const char* kNackNoHello = "no_hello";

}  // namespace weir
