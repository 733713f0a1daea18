#include "aggregator/store/reader.h"

#include <algorithm>
#include <map>
#include <set>

#include "aggregator/query/matcher.h"
#include "aggregator/store/inbox_body.h"
#include "aggregator/store/labels_codec.h"
#include "aggregator/store/schema.h"
#include "common/batch.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kNameLabel = "__name__";
constexpr int kSnapshots = 10;  // until a query gives up

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(const std::string& path, const Tier& tier,
                                             const Clock& clock, DatabaseOptions database) {
  database.mode = OpenMode::kReadOnly;
  WEIR_TRY_ASSIGN(auto db, Database::open(path, database));
  std::unique_ptr<Reader> reader(new Reader(std::move(db), path, tier, clock));
  if (auto done = reader->prepare(); !done.ok()) return std::move(done).error().with(path);
  return reader;
}

Status Reader::prepare() {
  WEIR_TRY_ASSIGN(numbers_, read_schema(db_, tier_));
  WEIR_TRY_ASSIGN(catalog_, SnapshotCatalog::open(db_));
  WEIR_TRY_ASSIGN(held_, db_.prepare("SELECT held_from FROM tier ORDER BY id"));
  WEIR_TRY_ASSIGN(blocks_, db_.prepare("SELECT key,codec,rows,raw_len,crc,body FROM block "
                                       "WHERE key >= ? AND key < ? ORDER BY key"));
  WEIR_TRY_ASSIGN(inbox_,
                  db_.prepare("SELECT id,win,raw_len,crc,place,size,body FROM inbox NOT INDEXED "
                              "WHERE win >= ? AND win < ? AND whole = 1 AND kind = 1 ORDER BY id"));
  WEIR_TRY_ASSIGN(inbox_row_, db_.prepare("SELECT 1 FROM inbox WHERE id = ?"));
  WEIR_TRY_ASSIGN(accounts_, db_.prepare("SELECT count(DISTINCT source) FROM account"));
  WEIR_TRY_ASSIGN(accounts_off_,
                  db_.prepare("SELECT off,source FROM account INDEXED BY account_off "
                              "WHERE off <> 0 ORDER BY source"));
  return {};
}

Result<LedgerNote> Reader::read_ledger() {
  LedgerNote out;
  Bytes last;  // the source of the row before
  WEIR_TRY(accounts_.step());
  out.sources = accounts_.unsigned_integer(0);
  accounts_.reset();
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, accounts_off_.step());
    if (!row) return out;
    const uint64_t off = accounts_off_.unsigned_integer(0);
    const ByteView source = accounts_off_.blob(1);
    if (!std::ranges::equal(source, last)) ++out.unbalanced;
    last.assign(source.begin(), source.end());
    out.imbalance += std::min(off, uint64_t{0} - off);
  }
}

Result<Reader::Held> Reader::held() {
  Held out;
  for (int64_t* value : {&out.fine_from_s, &out.coarse_from_s}) {
    WEIR_TRY_ASSIGN(const bool row, held_.step());
    if (!row) return Error{Errc::kIo, "table tier lacks a row"};
    *value = held_.integer(0);
  }
  held_.reset();
  return out;
}

Status Reader::read_inbox(Select& select, Truth* truth, const TimeRange& range,
                          std::vector<int64_t>& unread) {
  // No coarse window reaches further to either side than this.
  inbox_.bind(1, window_at(range.from_s, tier_.out_s).start_s);
  inbox_.bind(2, std::max(range.to_s, range.from_s));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, inbox_.step());
    if (!more) return {};
    const auto body = bodies_.read(inbox_, 3);
    if (!body.ok()) {
      unread.push_back(inbox_.integer(0));
      continue;
    }
    auto batch = decode_stored(*body, inbox_.unsigned_integer(2));
    if (!batch.ok() || batch->window.width_s != tier_.in_s) {
      select.count_damaged();
      continue;
    }
    batch->window.start_s = inbox_.integer(1);  // where intake put it
    if (truth != nullptr) WEIR_TRY(truth->add_batch(*batch, *catalog_));
    WEIR_TRY(select.add_batch(*batch, *catalog_, Select::Use::kTake));
  }
}

Result<bool> Reader::in_inbox(int64_t id) {
  WEIR_TRY_ASSIGN(const bool found, inbox_row_.bind(1, id).step());
  inbox_row_.reset();
  return found;
}

// A snapshot holds rows, not the bodies beside the database: when a fold deletes a row, its room
// may be taken. Then the data is in blocks by now, and a later snapshot has it.
Result<Selection> Reader::select(const SelectRequest& request, const QueryLimits& limits) {
  for (int i = 0; i < kSnapshots; ++i) {
    WEIR_TRY_ASSIGN(auto selection, try_select(request, limits));
    if (selection) return *std::move(selection);
  }
  return Error{Errc::kUnavailable, "the store changed while it was read; ask again"};
}

Result<std::optional<Selection>> Reader::try_select(const SelectRequest& request,
                                                    const QueryLimits& limits) {
  WEIR_TRY_ASSIGN(auto matchers, compile_matchers(request.matchers));
  Select select(tier_, numbers_, request, std::move(matchers), limits);
  std::unique_ptr<Truth> truth;
  if (request.with_truth) {
    WEIR_TRY_ASSIGN(truth, Truth::open(tier_, numbers_, request, limits));
  }
  std::vector<int64_t> unread;
  const auto read_blocks = [&](uint32_t id, const SnapshotCatalog::Rows& rows) -> Status {
    if (truth && truth->wants(*rows.metric)) WEIR_TRY(truth->read_blocks(blocks_, id, rows));
    if (!select.wants(*rows.metric)) return {};
    return select.read_blocks(blocks_, id, rows);
  };
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(const Held kept, held());
    const int64_t now_s = unix_seconds(clock_->now());
    select.set_times(now_s, kept.fine_from_s, kept.coarse_from_s);
    if (truth) truth->set_times(now_s, kept.fine_from_s, kept.coarse_from_s);
    WEIR_TRY(catalog_->refresh());
    for (const auto& [id, rows] : catalog_->metrics()) {
      if (!select.wants(*rows.metric) && !(truth && truth->wants(*rows.metric))) continue;
      WEIR_TRY(catalog_->refresh_rows(id));
      Status read = read_blocks(id, rows);
      blocks_.reset();  // a limit may have stopped it in the middle
      WEIR_TRY(std::move(read));
    }
    Status read = read_inbox(select, truth.get(), request.range, unread);
    inbox_.reset();
    return read;
  });
  if (!done.ok()) return std::move(done).error();
  for (const int64_t id : unread) {
    WEIR_TRY_ASSIGN(const bool still_there, in_inbox(id));
    if (!still_there) return std::optional<Selection>();
    select.count_damaged();
  }
  std::optional<LedgerNote> ledger;
  if (truth && tier_.last()) {
    WEIR_TRY_ASSIGN(ledger, read_ledger());
  }
  Selection out = select.finish();
  out.notes.ledger = ledger;
  if (truth) truth->finish(out.notes);
  return std::optional(std::move(out));
}

Result<std::vector<std::string>> Reader::label_values(const std::string& label) {
  std::set<std::string> out;
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(catalog_->refresh());
    if (label.empty() && !catalog_->metrics().empty()) out.emplace(kNameLabel);
    for (const auto& [id, rows] : catalog_->metrics()) {
      if (label == kNameLabel) {
        out.insert(rows.metric->name);
        continue;
      }
      WEIR_TRY(catalog_->refresh_rows(id));
      for (const Labels& labels : rows.labels) {
        for (const auto& [name, value] : labels) {
          if (label.empty()) out.insert(name);
          if (name == label) out.insert(value);
        }
      }
    }
    return {};
  });
  if (!done.ok()) return std::move(done).error();
  return std::vector<std::string>(out.begin(), out.end());
}

std::vector<uint32_t> Reader::widths() const { return {tier_.in_s, tier_.out_s}; }

Result<std::vector<Anomaly>> Reader::anomalies(int64_t from_s, int64_t to_s, size_t limit) {
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT start,width,detector,signal,labels,score,value,"
                                         "expected,summary FROM anomaly WHERE start + width > ? "
                                         "AND start + width <= ? ORDER BY start DESC, id LIMIT ?"));
  read.bind(1, from_s).bind(2, to_s).bind(3,
                                          static_cast<int64_t>(std::min(limit, size_t{1} << 30)));
  std::vector<Anomaly> out;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, read.step());
    if (!more) return out;
    WEIR_TRY_ASSIGN(Labels labels, decode_labels(read.blob(4)));
    out.push_back({.window = {read.integer(0), static_cast<uint32_t>(read.integer(1))},
                   .detector = std::string(read.text(2)),
                   .signal = std::string(read.text(3)),
                   .labels = std::move(labels),
                   .score = read.real(5),
                   .value = read.real(6),
                   .expected = read.real(7),
                   .summary = std::string(read.text(8))});
  }
}

}  // namespace weir::aggregator
