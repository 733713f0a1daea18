#pragma once
// What an answer says beside its values: coverage, losses, unnamed events; as numbers and as text.
// docs/query.md "What every answer carries" says it for users. Pure.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "aggregator/query/data_source.h"

namespace weir::aggregator {

// Of one metric in the windows read: events in unnamed rows (query/unnamed.h).
struct Overflow {
  std::string metric;
  uint64_t events = 0;
  uint64_t total = 0;  // these and the named ones read beside them
};

struct QueryNotes {
  std::set<std::string> infos;
  std::set<std::string> warnings;
  uint32_t finest_width_s = 0;  // of the windows read; 0: none
  uint32_t coarsest_width_s = 0;
  bool open_window = false;  // one of them had not ended
  uint64_t damaged_blocks = 0;
  SourceWindows coverage;    // of the selector that knows least
  std::vector<Loss> losses;  // of any selector, each by its greatest
  std::optional<LedgerNote> ledger{};
  std::vector<Overflow> overflow;
  uint32_t unnamed_rows = 0;  // given out, for UnnamedPart::row
};

// Whether the answer may be more than it says because of unnamed events.
enum class Attribution : uint8_t { kExact, kOpen };

// Takes what one selector's windows are known to hold and to lack.
void add_truth(QueryNotes& notes, const SelectNotes& selected);

// Once, when all are taken: what it means, in infos and warnings.
void say_truth(QueryNotes& notes, Attribution attribution);

void add_overflow(QueryNotes& notes, const Overflow& overflow);

[[nodiscard]] uint64_t events_lost(const QueryNotes& notes);
[[nodiscard]] double share_of(const Overflow& overflow);

}  // namespace weir::aggregator
