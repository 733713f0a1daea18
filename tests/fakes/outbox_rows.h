#pragma once
// What an outbox holds, and acknowledgements for rows whose target does not matter.

#include <vector>

#include "common/check.h"
#include "common/outbox.h"

namespace weir {

inline constexpr Target kAnyTarget{{std::byte{1}}, 1};

// All rows that nobody is to get yet, damaged ones as tombstones.
inline std::vector<OutboxEntry> unassigned_rows(Outbox& outbox) {
  auto rows = outbox.pending(std::nullopt, 0, SIZE_MAX);
  WEIR_CHECK(rows.ok());
  return *std::move(rows);
}

inline void assign_all(Outbox& outbox, const Target& target = kAnyTarget) {
  std::vector<uint64_t> ids;
  for (const OutboxEntry& row : unassigned_rows(outbox)) ids.push_back(row.id);
  WEIR_CHECK(outbox.assign(target, ids).ok());
}

inline void acknowledge(Outbox& outbox, const std::vector<SeqSpan>& spans) {
  assign_all(outbox);
  WEIR_CHECK(outbox.acknowledged(kAnyTarget, spans).ok());
}

}  // namespace weir
