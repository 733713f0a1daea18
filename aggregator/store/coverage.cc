#include "aggregator/store/coverage.h"

#include <algorithm>

#include "aggregator/store/labels_codec.h"
#include "common/check.h"

namespace weir::aggregator {
namespace {

// reported: of windows not settled yet, who brought something (missing = 0); of settled ones, what
// was called missing and has not come since. The next window to settle is table tier's closed_to
// of the fine windows.
constexpr std::string_view kTables = R"sql(
CREATE TABLE IF NOT EXISTS source(id INTEGER PRIMARY KEY, labels BLOB NOT NULL UNIQUE,
  first_s INTEGER NOT NULL, last_s INTEGER NOT NULL, newest_s INTEGER NOT NULL,
  newest INTEGER NOT NULL, usual INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reported(win INTEGER NOT NULL, source INTEGER NOT NULL,
  missing INTEGER NOT NULL, PRIMARY KEY(win, source)) WITHOUT ROWID;
)sql";

}  // namespace

Result<Coverage> Coverage::open(Database& db, const Tier& tier) {
  Coverage out(db, tier);
  WEIR_TRY(db.exec(kTables));
  WEIR_TRY(out.prepare());
  return out;
}

Status Coverage::prepare() {
  WEIR_TRY_ASSIGN(find_, db_->prepare("SELECT id,first_s,last_s,newest_s,newest,usual FROM source "
                                      "WHERE labels = ?"));
  WEIR_TRY_ASSIGN(insert_, db_->prepare("INSERT INTO source(labels,first_s,last_s,newest_s,newest,"
                                        "usual) VALUES(?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(update_, db_->prepare("UPDATE source SET first_s=?2, last_s=?3, newest_s=?4, "
                                        "newest=?5, usual=?6 WHERE labels = ?1"));
  WEIR_TRY_ASSIGN(found_,
                  db_->prepare("SELECT missing FROM reported WHERE win = ? AND source = ?"));
  WEIR_TRY_ASSIGN(found_erase_, db_->prepare("DELETE FROM reported WHERE win = ? AND source = ?"));
  WEIR_TRY_ASSIGN(note_, db_->prepare("INSERT OR IGNORE INTO reported VALUES(?,?,?)"));
  WEIR_TRY_ASSIGN(owing_, db_->prepare("SELECT id,labels,iif(usual > 0, usual, newest) FROM source "
                                       "WHERE first_s <= ?1 AND last_s >= ?2 AND NOT EXISTS("
                                       "SELECT 1 FROM reported WHERE win = ?1 AND source = id) "
                                       "ORDER BY labels"));
  WEIR_TRY_ASSIGN(move_on_, db_->prepare("UPDATE tier SET closed_to = ? WHERE id = 0"));
  WEIR_TRY_ASSIGN(auto read, db_->prepare("SELECT closed_to FROM tier WHERE id = 0"));
  WEIR_TRY_ASSIGN(const bool row, read.step());
  if (row && !read.is_null(0)) next_s_ = read.integer(0);
  return {};
}

// Windows may come in any order: only the newest tells what is usual, and a source that comes back
// after a silence owes nothing for it.
void Coverage::update(Source& source, const Came& came, int64_t silent_after_s) {
  if (came.merged > 0) {
    if (came.start_s > source.last_s + silent_after_s) source.first_s = came.start_s;
    source.first_s = std::min(source.first_s, came.start_s);
    source.last_s = std::max(source.last_s, came.start_s);
  }
  if (came.start_s > source.newest_s) {
    source.newest_s = came.start_s;
    source.usual = std::max<int64_t>(source.newest, 0);
    source.newest = 0;
  }
  if (came.start_s == source.newest_s) source.newest += came.expected;
}

Result<uint64_t> Coverage::came(const Came& came) {
  const Bytes labels = encode_labels(came.source);
  Source source;
  find_.bind(1, ByteView(labels));
  WEIR_TRY_ASSIGN(const bool known, find_.step());
  if (known) {
    source = {find_.integer(0), find_.integer(1), find_.integer(2),
              find_.integer(3), find_.integer(4), find_.integer(5)};
  } else if (came.merged == 0) {
    return uint64_t{0};  // not a source before its first mark
  } else {
    source.first_s = source.last_s = source.newest_s = came.start_s;
  }
  find_.reset();
  update(source, came, int64_t{tier_->in_s} + tier_->expect_for_s);
  Statement& write = known ? update_ : insert_;
  write.bind(1, ByteView(labels)).bind(2, source.first_s).bind(3, source.last_s);
  write.bind(4, source.newest_s).bind(5, source.newest).bind(6, source.usual);
  WEIR_TRY(write.run());
  if (!known) source.id = db_->last_insert_rowid();
  if (!next_s_ || came.start_s >= *next_s_) {
    WEIR_TRY(note_.bind(1, came.start_s).bind(2, source.id).bind(3, int64_t{0}).run());
    return uint64_t{0};
  }
  found_.bind(1, came.start_s).bind(2, source.id);
  WEIR_TRY_ASSIGN(const bool missed, found_.step());
  const uint64_t missing = missed ? found_.unsigned_integer(0) : 0;
  found_.reset();
  if (missed) WEIR_TRY(found_erase_.bind(1, came.start_s).bind(2, source.id).run());
  return missing;
}

Status Coverage::begin(int64_t start_s) {
  WEIR_TRY(move_on_.bind(1, start_s).run());
  next_s_ = start_s;
  return {};
}

Result<std::vector<Coverage::Missing>> Coverage::settle() {
  WEIR_CHECK(next_s_.has_value());
  const int64_t start_s = *next_s_;
  std::vector<Missing> out;
  std::vector<int64_t> ids;
  std::vector<int64_t> damaged;
  owing_.bind(1, start_s).bind(2, start_s - tier_->expect_for_s);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, owing_.step());
    if (!more) break;
    if (owing_.integer(2) <= 0) continue;
    auto labels = decode_labels(owing_.blob(1));
    if (!labels.ok()) {
      damaged.push_back(owing_.integer(0));
      continue;
    }
    ids.push_back(owing_.integer(0));
    out.push_back({*std::move(labels), owing_.unsigned_integer(2)});
  }
  if (!damaged.empty()) WEIR_TRY(forget_damaged(damaged));
  WEIR_TRY_ASSIGN(auto settled, db_->prepare("DELETE FROM reported WHERE win = ? AND missing = 0"));
  WEIR_TRY(settled.bind(1, start_s).run());
  for (size_t i = 0; i < ids.size(); ++i) {
    WEIR_TRY(note_.bind(1, start_s).bind(2, ids[i]).bind(3, out[i].windows).run());
  }
  WEIR_TRY(begin(start_s + tier_->in_s));
  return out;
}

// Nobody can tell whose row it is: it owes nothing. The source has another one when it comes again.
Status Coverage::forget_damaged(const std::vector<int64_t>& ids) {
  WEIR_TRY_ASSIGN(auto source, db_->prepare("DELETE FROM source WHERE id = ?"));
  WEIR_TRY_ASSIGN(auto windows, db_->prepare("DELETE FROM reported WHERE source = ?"));
  for (const int64_t id : ids) {
    WEIR_TRY(source.bind(1, id).run());
    WEIR_TRY(windows.bind(1, id).run());
  }
  return {};
}

Status Coverage::forget_missing() { return db_->exec("DELETE FROM reported WHERE missing > 0"); }

Status Coverage::forget(int64_t now_s) {
  WEIR_TRY_ASSIGN(auto windows, db_->prepare("DELETE FROM reported WHERE win < ?"));
  WEIR_TRY(windows.bind(1, now_s - kRememberS).run());
  WEIR_TRY_ASSIGN(auto sources, db_->prepare("DELETE FROM source WHERE newest_s < ?"));
  return sources.bind(1, now_s - kRememberS - tier_->expect_for_s).run();
}

}  // namespace weir::aggregator
