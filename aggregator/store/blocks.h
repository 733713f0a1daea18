#pragma once
// Blocks: up to 256 rows of one (grain, metric, window) per SQLite row, in parts that merge.
//
// Owner: the store thread; every call runs inside the caller's transaction. Promise: appending
// never rewrites what is there, except that the 64th part folds them into one; sealing and folding
// keep every delta; a damaged block is never merged and stays until its retention ends. Blocks of a
// group that is not released yet stay apart, so that take_back_open() finds them; where 64 parts
// leave no room for that they are merged for good, and counted. Cost: one insert per 256 rows; the
// counters of table `tier` are written once per transaction by save_counters().

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "aggregator/store/block_key.h"
#include "aggregator/store/catalog.h"
#include "aggregator/store/row_deltas.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

inline constexpr size_t kMaxStoredBlockBytes = size_t{256} << 20;

// One line of table block; body is valid until the statement steps.
struct StoredBlock {
  BlockKey key;
  uint8_t codec = 0;  // 0 as encoded, 1 zstd, more: known to be damaged
  uint32_t rows = 0;
  uint64_t raw_len = 0;
  uint32_t crc = 0;
  ByteView body;
};

// CRC, then zstd, then every value; the sink sees nothing of a block that fails. kIo: damaged.
Status decode_stored(const Metric& metric, const StoredBlock& block,
                     const std::function<void(uint32_t row, Value&&)>& sink);

class Blocks {
 public:
  static Result<Blocks> open(Database& db, const Catalog& catalog);

  // `group`: the rollup it is part of, until released; 0: nobody takes it back.
  Status append(Grain grain, uint32_t metric, uint32_t window, const RowDeltas& deltas,
                int64_t group);
  Status release(int64_t group);
  // Deletes the blocks of all groups that are not released.
  Status take_back_open();

  // Merges the parts of up to max_groups shards whose window is before `before_window` and writes
  // each as sealed blocks. True: there is more to do.
  Result<bool> seal(Grain grain, uint32_t before_window, size_t max_groups);

  // Deletes up to max_blocks blocks of windows before `before_window`. True: there is more to do.
  Result<bool> erase(Grain grain, uint32_t before_window, size_t max_blocks);

  // Every row of every part from a window on; those of damaged blocks are left out.
  Status each_row(Grain grain, uint32_t metric, uint32_t from_window,
                  const std::function<void(uint32_t row, const Value&)>& sink);

  Status save_counters();

  [[nodiscard]] uint64_t damaged() const { return damaged_; }

  [[nodiscard]] uint64_t sealed() const { return sealed_; }

  // Blocks that could have been taken back and were merged with others.
  [[nodiscard]] uint64_t merged_open() const { return merged_open_; }

 private:
  enum class Codec : uint8_t { kRaw = 0, kZstd = 1 };

  struct Counters {
    int64_t windows = 0;
    int64_t blocks = 0;
    int64_t bytes = 0;
    int64_t newest = -1;  // window number
  };

  struct Group {
    RowDeltas deltas;
    std::vector<int64_t> good_keys;
    std::vector<int64_t> bad_keys;
    std::vector<int64_t> open_keys;  // ascending; left alone
    int64_t good_bytes = 0;
    size_t young = 0;  // good and not sealed
  };

  Blocks(Database& db, const Catalog& catalog) : db_(&db), catalog_(&catalog) {}

  Status prepare();
  enum class Open : uint8_t { kLeave, kTake };

  Status append_shard(BlockKey key, std::span<const std::pair<uint32_t, const Value*>> entries,
                      int64_t group);
  Status append_parts(BlockKey key, std::span<const std::pair<uint32_t, const Value*>> entries,
                      int64_t group);
  // Rewrites what `group` holds at the lowest parts that are free. False: they do not fit.
  Result<bool> rewrite(BlockKey key, const Group& group, Codec codec);
  Result<Group> read_group(BlockKey key, Open open);
  Result<uint32_t> next_part(BlockKey key);
  Status erase_block(int64_t key);
  Status write_block(BlockKey key, std::span<const std::pair<uint32_t, const Value*>> entries,
                     Codec codec);

  Counters& counters(Grain grain) { return counters_[static_cast<size_t>(grain)]; }

  Database* db_;
  const Catalog* catalog_;
  Statement last_part_, insert_, read_range_, erase_one_, young_, oldest_, mark_damaged_, keep_,
      forget_, add_counters_, put_open_, open_range_, erase_open_, release_, open_;
  std::array<Counters, 2> counters_;
  uint64_t damaged_ = 0;
  uint64_t sealed_ = 0;
  uint64_t merged_open_ = 0;
};

}  // namespace weir::aggregator
