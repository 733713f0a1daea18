#pragma once
// Sender: the upward half of the delivery protocol. Offers every pending batch of an Outbox to the
// next tier until it is acknowledged at the last one (docs/wire.md "Acknowledgement").
//
// Owner: the edge loop, or an aggregator's store thread (the thread of the Outbox and the Link).
// Promise: a batch leaves the outbox only on ACK_G or a permanent NACK (then it is quarantined and
// counted); losing any message is harmless; no elapsed-time cap on retries; at most `credit` bytes
// sent and not ACK_R'd. Pure of time: everything is driven by tick(now) and on_message(now, ...).

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/outbox.h"
#include "common/transport.h"

namespace weir {

struct SenderOptions {
  FrameType type = FrameType::kData;  // kOut from an aggregator
  bool compress = true;               // zstd level 1
  std::string name;
  std::string tier;
};

struct SenderStats {
  bool connected = false;  // WELCOME seen and PONGs arrive
  uint64_t sent = 0;
  uint64_t resent = 0;
  uint64_t acked_r = 0;
  uint64_t acked_g = 0;
  uint64_t nacked = 0;
  uint64_t in_flight_bytes = 0;
};

class Sender {
 public:
  Sender(Outbox& outbox, Link& link, SenderOptions options);

  // Sends HELLO, PINGs (1 s), new and overdue batches. Call every 100 ms and after append.
  Status tick(MonoTime now, UnixTime wall);
  Status on_message(MonoTime now, ByteView header, ByteView body);
  void set_report(SourceReport report);
  [[nodiscard]] const SenderStats& stats() const;
  // Batches that reached the last tier since the previous call; an aggregator releases the
  // manifests of these to the tier below. Empty on an edge.
  std::vector<SeqSpan> take_released();
};

}  // namespace weir
