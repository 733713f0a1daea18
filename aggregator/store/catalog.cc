#include "aggregator/store/catalog.h"

#include "aggregator/store/block_key.h"
#include "aggregator/store/labels_codec.h"
#include "common/check.h"

namespace weir::aggregator {
namespace {

constexpr uint32_t kNoRow = UINT32_MAX;
constexpr size_t kRowsOfKey = size_t{kMaxShards} * kRowsPerShard;

std::string text_of(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Metric read_metric(const Statement& row) {
  return {.name = std::string(row.text(1)),
          .kind = static_cast<Kind>(row.integer(2)),
          .unit = std::string(row.text(3)),
          .quantum = static_cast<int8_t>(row.integer(4))};
}

}  // namespace

Status Catalog::prepare() {
  WEIR_TRY_ASSIGN(insert_metric_,
                  db_->prepare("INSERT INTO metric(id,name,kind,unit,quantum) VALUES(?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(insert_series_,
                  db_->prepare("INSERT INTO series(metric,row,labels) VALUES(?,?,?)"));
  return {};
}

Result<Catalog> Catalog::load(Database& db, const Tier& tier, size_t max_rows) {
  // Two rows of the key space stay free for the overflow row and its coarse twin.
  WEIR_CHECK(max_rows > 0 && max_rows <= kRowsOfKey - 2);
  Catalog out(db, tier, max_rows);
  WEIR_TRY(out.prepare());
  WEIR_TRY_ASSIGN(auto metrics, db.prepare("SELECT id,name,kind,unit,quantum FROM metric"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, metrics.step());
    if (!more) break;
    const auto id = static_cast<uint32_t>(metrics.integer(0));
    Metric metric = read_metric(metrics);
    out.metrics_.emplace(metric, id);
    out.rows_[id].metric = std::move(metric);
  }
  WEIR_TRY_ASSIGN(auto series,
                  db.prepare("SELECT metric,row,labels FROM series ORDER BY metric,row"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, series.step());
    if (!more) break;
    const auto at = out.rows_.find(static_cast<uint32_t>(series.integer(0)));
    if (at == out.rows_.end() ||
        series.integer(1) != static_cast<int64_t>(at->second.labels.size())) {
      return Error{Errc::kIo, "the series table is damaged: rows are missing"};
    }
    WEIR_TRY_ASSIGN(Labels labels, decode_labels(series.blob(2)));
    at->second.by_labels.emplace(text_of(series.blob(2)),
                                 static_cast<uint32_t>(at->second.labels.size()));
    at->second.labels.push_back(std::move(labels));
    ++out.series_;
  }
  return out;
}

Result<uint32_t> Catalog::metric(const Metric& metric) {
  if (const auto at = metrics_.find(metric); at != metrics_.end()) return at->second;
  const auto id = static_cast<uint32_t>(metrics_.size() + 1);
  if (id >= kMaxMetrics) return Error{Errc::kLimit, "the store holds 65,535 metrics already"};
  insert_metric_.bind(1, int64_t{id}).bind(2, metric.name);
  insert_metric_.bind(3, static_cast<int64_t>(metric.kind)).bind(4, metric.unit);
  insert_metric_.bind(5, int64_t{metric.quantum});
  WEIR_TRY(insert_metric_.run());
  metrics_.emplace(metric, id);
  rows_[id].metric = metric;
  return id;
}

std::optional<uint32_t> Catalog::find(const Metric& metric) const {
  const auto at = metrics_.find(metric);
  return at == metrics_.end() ? std::nullopt : std::optional(at->second);
}

Catalog::Rows& Catalog::rows_of(uint32_t metric) {
  const auto at = rows_.find(metric);
  WEIR_CHECK(at != rows_.end());
  return at->second;
}

Result<uint32_t> Catalog::add_row(uint32_t metric, Rows& rows, std::string key,
                                  const Labels& labels) {
  const auto row = static_cast<uint32_t>(rows.labels.size());
  insert_series_.bind(1, int64_t{metric}).bind(2, int64_t{row}).bind(3, as_bytes(key));
  WEIR_TRY(insert_series_.run());
  rows.by_labels.emplace(std::move(key), row);
  rows.labels.push_back(labels);
  ++series_;
  return row;
}

Result<uint32_t> Catalog::row(uint32_t metric, const Labels& labels) {
  Rows& rows = rows_of(metric);
  std::string key = text_of(encode_labels(labels));
  if (const auto at = rows.by_labels.find(key); at != rows.by_labels.end()) return at->second;
  if (rows.labels.size() < max_rows_) return add_row(metric, rows, std::move(key), labels);
  ++overflowed_;
  const Labels overflow = with_added(*tier_, {{std::string(kOverflowLabel), "true"}});
  key = text_of(encode_labels(overflow));
  if (const auto at = rows.by_labels.find(key); at != rows.by_labels.end()) return at->second;
  return add_row(metric, rows, std::move(key), overflow);
}

Result<uint32_t> Catalog::coarse_row(uint32_t metric, uint32_t row) {
  Rows& rows = rows_of(metric);
  WEIR_CHECK(row < rows.labels.size());
  if (rows.coarse.size() <= row) rows.coarse.resize(rows.labels.size(), kNoRow);
  if (rows.coarse[row] == kNoRow) {
    WEIR_TRY_ASSIGN(const uint32_t coarse,
                    this->row(metric, without_dropped(*tier_, rows.labels[row])));
    rows.coarse[row] = coarse;
  }
  return rows.coarse[row];
}

const Metric& Catalog::metric_of(uint32_t metric) const {
  const auto at = rows_.find(metric);
  WEIR_CHECK(at != rows_.end());
  return at->second.metric;
}

const Labels& Catalog::labels_of(uint32_t metric, uint32_t row) const {
  const auto at = rows_.find(metric);
  WEIR_CHECK(at != rows_.end() && row < at->second.labels.size());
  return at->second.labels[row];
}

std::vector<uint32_t> Catalog::metric_ids() const {
  std::vector<uint32_t> out;
  for (const auto& [id, rows] : rows_) out.push_back(id);
  return out;
}

Result<SnapshotCatalog> SnapshotCatalog::open(Database& db) {
  SnapshotCatalog out;
  WEIR_TRY_ASSIGN(out.new_metrics_, db.prepare("SELECT id,name,kind,unit,quantum FROM metric "
                                               "WHERE id > ? ORDER BY id"));
  WEIR_TRY_ASSIGN(out.new_series_, db.prepare("SELECT labels FROM series WHERE metric = ? "
                                              "AND row >= ? ORDER BY row"));
  return out;
}

Status SnapshotCatalog::refresh() {
  new_metrics_.bind(1, rows_.empty() ? int64_t{0} : int64_t{rows_.rbegin()->first});
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, new_metrics_.step());
    if (!more) return {};
    auto metric = std::make_shared<const Metric>(read_metric(new_metrics_));
    by_metric_[*metric] = metric;
    rows_[static_cast<uint32_t>(new_metrics_.integer(0))].metric = std::move(metric);
  }
}

std::shared_ptr<const Metric> SnapshotCatalog::find(const Metric& metric) const {
  const auto at = by_metric_.find(metric);
  return at == by_metric_.end() ? nullptr : at->second;
}

Status SnapshotCatalog::refresh_rows(uint32_t metric) {
  const auto at = rows_.find(metric);
  WEIR_CHECK(at != rows_.end());
  std::vector<Labels>& labels = at->second.labels;
  new_series_.bind(1, int64_t{metric}).bind(2, static_cast<int64_t>(labels.size()));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, new_series_.step());
    if (!more) return {};
    WEIR_TRY_ASSIGN(Labels decoded, decode_labels(new_series_.blob(0)));
    labels.push_back(std::move(decoded));
  }
}

}  // namespace weir::aggregator
