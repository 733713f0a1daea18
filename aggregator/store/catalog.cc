#include "aggregator/store/catalog.h"

#include <string>
#include <utility>

#include "aggregator/store/labels_codec.h"
#include "common/check.h"

namespace weir::aggregator {
namespace {

std::string_view text_of(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Metric read_metric(const Statement& row) {
  return {.name = std::string(row.text(1)),
          .kind = static_cast<Kind>(row.integer(2)),
          .unit = std::string(row.text(3)),
          .quantum = static_cast<int8_t>(row.integer(4))};
}

// The data of a row whose name is damaged stays, under a name that says so; what comes for the lost
// name gets a row of its own.
Labels labels_of_row(Result<Labels>&& stored, size_t row) {
  return stored.ok() ? *std::move(stored) : Labels{{"damaged", "row " + std::to_string(row)}};
}

}  // namespace

Status Catalog::prepare() {
  WEIR_TRY_ASSIGN(insert_metric_,
                  db_->prepare("INSERT INTO metric(id,name,kind,unit,quantum) VALUES(?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(insert_series_,
                  db_->prepare("INSERT INTO series(metric,row,labels) VALUES(?,?,?)"));
  return {};
}

Result<Catalog> Catalog::load(Database& db) {
  Catalog out(db);
  WEIR_TRY(out.prepare());
  WEIR_TRY_ASSIGN(auto metrics,
                  db.prepare("SELECT id,name,kind,unit,quantum FROM metric ORDER BY id"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, metrics.step());
    if (!more) break;
    const auto id = static_cast<uint32_t>(metrics.integer(0));
    if (id != out.rows_.size() + 1) {
      return Error{Errc::kIo, "the metric table is damaged: rows are missing"};
    }
    Metric metric = read_metric(metrics);
    out.metrics_.emplace(metric, id);
    out.rows_.emplace_back().metric = std::move(metric);
  }
  WEIR_TRY_ASSIGN(auto series,
                  db.prepare("SELECT metric,row,labels FROM series ORDER BY metric,row"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, series.step());
    if (!more) break;
    const auto metric = static_cast<size_t>(series.integer(0));
    if (metric - 1 >= out.rows_.size() ||
        series.integer(1) != static_cast<int64_t>(out.rows_[metric - 1].labels.size())) {
      return Error{Errc::kIo, "the series table is damaged: rows are missing"};
    }
    auto labels = decode_labels(series.blob(2));
    out.damaged_ += labels.ok() ? 0U : 1U;
    Rows& rows = out.rows_[metric - 1];
    rows.by_labels.emplace(text_of(series.blob(2)), static_cast<uint32_t>(rows.labels.size()));
    rows.labels.push_back(labels_of_row(std::move(labels), rows.labels.size()));
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
  rows_.emplace_back().metric = metric;
  return id;
}

std::optional<uint32_t> Catalog::find(const Metric& metric) const {
  const auto at = metrics_.find(metric);
  return at == metrics_.end() ? std::nullopt : std::optional(at->second);
}

const Catalog::Rows& Catalog::rows_of(uint32_t metric) const {
  WEIR_CHECK(metric - 1 < rows_.size());
  return rows_[metric - 1];
}

std::optional<uint32_t> Catalog::find_row(uint32_t metric, ByteView key) const {
  const Rows& rows = rows_of(metric);
  const auto at = rows.by_labels.find(text_of(key));
  return at == rows.by_labels.end() ? std::nullopt : std::optional(at->second);
}

Result<uint32_t> Catalog::add_row(uint32_t metric, ByteView key, const Labels& labels) {
  Rows& rows = rows_.at(metric - 1);
  const auto row = static_cast<uint32_t>(rows.labels.size());
  WEIR_CHECK(row < kMaxRows);
  insert_series_.bind(1, int64_t{metric}).bind(2, int64_t{row}).bind(3, key);
  WEIR_TRY(insert_series_.run());
  rows.by_labels.emplace(text_of(key), row);
  rows.labels.push_back(labels);
  ++series_;
  return row;
}

const Metric& Catalog::metric_of(uint32_t metric) const { return rows_of(metric).metric; }

const Labels& Catalog::labels_of(uint32_t metric, uint32_t row) const {
  const Rows& rows = rows_of(metric);
  WEIR_CHECK(row < rows.labels.size());
  return rows.labels[row];
}

size_t Catalog::rows(uint32_t metric) const { return rows_of(metric).labels.size(); }

std::vector<uint32_t> Catalog::metric_ids() const {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < rows_.size(); ++i) out.push_back(static_cast<uint32_t>(i + 1));
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
    labels.push_back(labels_of_row(decode_labels(new_series_.blob(0)), labels.size()));
  }
}

}  // namespace weir::aggregator
