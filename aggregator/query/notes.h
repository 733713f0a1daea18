#pragma once
// What an answer says beside its values: coverage, losses, unnamed events; as numbers and as text.
// docs/query.md "What every answer carries" says it for users. Pure.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "aggregator/query/data_source.h"

namespace weir::aggregator {

struct QueryNotes {
  std::set<std::string> infos;
  std::set<std::string> warnings;
  uint32_t finest_width_s = 0;  // of the windows read; 0: none
  uint32_t coarsest_width_s = 0;
  bool open_window = false;  // one of them had not ended
  uint64_t damaged_blocks = 0;
  SourceWindows coverage;    // of the selector that knows least
  std::vector<Loss> losses;  // of any selector, each by its greatest
};

// Takes what one selector's windows are known to hold and to lack.
void add_truth(QueryNotes& notes, const SelectNotes& selected);

// Once, when all are taken: what it means, in infos and warnings.
void say_truth(QueryNotes& notes);

[[nodiscard]] uint64_t events_lost(const QueryNotes& notes);

}  // namespace weir::aggregator
