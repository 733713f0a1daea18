#pragma once
// The tables of an aggregator's database, beside those of Outbox and Ledger in the same file.
//
// Owner: the store thread. Promise: opening an existing file with other window widths or a newer
// version is an error that says so; nothing is ever migrated silently.

#include "aggregator/store/block_key.h"
#include "aggregator/tier.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

inline constexpr int kSchemaVersion = 5;

// Creates the tables if the file is new: `now_s` then chooses the origin of short windows, and
// `new_epoch` is the database's.
Result<WindowNumbers> open_schema(Database& db, const Tier& tier, int64_t now_s,
                                  uint64_t new_epoch);

// For read-only connections: the origin, after the same checks.
Result<WindowNumbers> read_schema(Database& db, const Tier& tier);

// A column that names a source: one of another size, of a damaged row, is nobody's.
[[nodiscard]] SourceId source_in(ByteView column);

}  // namespace weir::aggregator
