#pragma once
// What the loop thread and the store thread hand each other: requests down, answers back.
//
// Plain values, moved through mailboxes. Promise: every AcceptedBatch comes back as exactly one
// acknowledgement or refusal of its (source, epoch, seq), duplicates included.

#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/control.h"
#include "common/frame.h"
#include "common/metric.h"

namespace weir::aggregator {

// A verified batch on its way to the store thread.
struct AcceptedBatch {
  FrameType type =
      FrameType::kData;  // kData from an edge, kOut from a tier, kTombstone from either
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t seq = 0;
  uint64_t target_epoch = 0;  // the one of ours it is assigned to
  Window window;              // where it counts: moved if its sender's clock is far off
  uint64_t mass = 0;
  uint64_t cum_mass = 0;
  uint64_t rows = 0;
  uint32_t part = 0;
  uint32_t parts = 1;
  std::vector<ManifestEntry> manifest;  // of a kOut
  uint32_t crc32c = 0;                  // of body
  uint32_t raw_len = 0;                 // of what check_batch accepted, or of the control message
  Bytes body;                           // that, or where it is shorter the zstd frame it came in
};

// A tier's HELLO: which epoch is it in? Answered once that is on disk.
struct Greeting {
  SourceId source{};
  std::string name;
  uint64_t current = 0;  // the epoch it says it has; 0: none
};

// An ASK_INCLUDED of somebody below. `silent_s`: how long this process has not heard of the tier it
// is about, though it was listening.
struct Question {
  SourceId asker{};
  AskIncluded ask;
  int64_t silent_s = 0;
};

using StoreRequest = std::variant<AcceptedBatch, Greeting, Question>;

// For now: the sender tries again. For good: it quarantines the batch.
enum class Refusal : uint8_t { kForNow, kForGood };

// Durable (kAckR, kAckG; after COMMIT); refused (kNack; also of a batch that was held and has been
// damaged since: the sender is to bring it again); or of an epoch that is fenced (kFenced).
struct Acknowledgement {
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t lo = 0;
  uint64_t hi = 0;
  FrameType level = FrameType::kAckR;
  Refusal refusal = Refusal::kForGood;  // of a kNack, with its reason
  std::string reason;
};

struct Greeted {
  SourceId source{};
  uint64_t your_epoch = 0;
};

struct Told {
  SourceId asker{};
  Included included;
};

struct Answers {
  std::vector<Acknowledgement> acks;
  std::vector<Greeted> greeted;
  std::vector<Told> told;
  std::vector<SeqRange> gone;         // held no more, silently: parts of a fenced epoch
  std::optional<uint64_t> own_epoch;  // from now on; what is not at the last tier is forgotten

  void add(Answers&& more);

  [[nodiscard]] bool empty() const {
    return acks.empty() && greeted.empty() && told.empty() && gone.empty() && !own_epoch;
  }
};

inline void Answers::add(Answers&& more) {
  const auto append = [](auto& to, auto& from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  };
  append(acks, more.acks);
  append(greeted, more.greeted);
  append(told, more.told);
  append(gone, more.gone);
  if (more.own_epoch) own_epoch = more.own_epoch;
}

}  // namespace weir::aggregator
