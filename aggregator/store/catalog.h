#pragma once
// Catalog: which metric ids and series rows exist. Rows are dense per metric and never reused; fine
// and coarse series of a metric share one numbering.
//
// Owner and thread: the store thread (Catalog, the writer's, grows inside the caller's transaction)
// or one reader (SnapshotCatalog, follows the database). Promise: the same metric and labels give
// the same row for ever. Who may have a row is Names' to say (store/names.h). After a rolled-back
// transaction the Catalog must be loaded anew. Cost: about 300 B a series; a hit is one hash
// lookup.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "aggregator/store/block_key.h"
#include "common/bytes.h"
#include "common/hash.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

class Catalog {
 public:
  static constexpr size_t kMaxRows = size_t{kMaxShards} * kRowsPerShard;  // of a metric

  static Result<Catalog> load(Database& db);  // `db` outlives it

  // kLimit: 65,535 metrics exist.
  Result<uint32_t> metric(const Metric& metric);
  [[nodiscard]] std::optional<uint32_t> find(const Metric& metric) const;
  // `key` is encode_labels() of a row.
  [[nodiscard]] std::optional<uint32_t> find_row(uint32_t metric, ByteView key) const;
  Result<uint32_t> add_row(uint32_t metric, ByteView key, const Labels& labels);

  [[nodiscard]] const Metric& metric_of(uint32_t metric) const;
  [[nodiscard]] const Labels& labels_of(uint32_t metric, uint32_t row) const;
  [[nodiscard]] std::vector<uint32_t> metric_ids() const;

  [[nodiscard]] size_t rows(uint32_t metric) const;

  [[nodiscard]] uint64_t series() const { return series_; }

  // Of these: the stored name cannot be read.
  [[nodiscard]] uint64_t damaged() const { return damaged_; }

 private:
  struct Rows {
    Metric metric;
    std::deque<Labels> labels;  // by row; a deque so that references stay
    std::unordered_map<std::string, uint32_t, TextHash, std::equal_to<>> by_labels;
  };

  explicit Catalog(Database& db) : db_(&db) {}

  Status prepare();
  [[nodiscard]] const Rows& rows_of(uint32_t metric) const;

  Database* db_;
  Statement insert_metric_;
  Statement insert_series_;
  std::map<Metric, uint32_t> metrics_;
  std::deque<Rows> rows_;  // by metric id - 1; a deque so that references stay
  uint64_t series_ = 0;
  uint64_t damaged_ = 0;
};

// What a read-only connection knows; refresh() inside its read transaction loads what is new.
class SnapshotCatalog {
 public:
  struct Rows {
    std::shared_ptr<const Metric> metric;
    std::vector<Labels> labels;
  };

  static Result<SnapshotCatalog> open(Database& db);
  Status refresh();                      // metrics
  Status refresh_rows(uint32_t metric);  // series of one metric

  [[nodiscard]] const std::map<uint32_t, Rows>& metrics() const { return rows_; }

  // Null: not folded yet.
  [[nodiscard]] std::shared_ptr<const Metric> find(const Metric& metric) const;

 private:
  std::map<Metric, std::shared_ptr<const Metric>> by_metric_;
  Statement new_metrics_;
  Statement new_series_;
  std::map<uint32_t, Rows> rows_;
};

}  // namespace weir::aggregator
