#include "aggregator/store/store.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <unordered_map>
#include <utility>

#include "aggregator/store/labels_codec.h"
#include "aggregator/store/manifest.h"
#include "aggregator/store/schema.h"
#include "common/database_file.h"

namespace weir::aggregator {
namespace {

// Slices of maintenance, so that one never holds up a drain for long.
constexpr size_t kSealGroups = 16;
constexpr size_t kEraseBlocks = 256;
constexpr uint64_t kSealBytes = uint64_t{1} << 20;  // what sealing takes before it frees more
constexpr int kCacheKib = 12 * 1024;                // a drain of 8 MiB and the pages it looks at
constexpr int64_t kForgetEveryS = 60;
constexpr int64_t kForgetAfterS = int64_t{2} * 72 * 3600;  // twice what an outbox keeps data for
constexpr int64_t kForgetEpochs = 256;                     // a time

uint64_t kernel_random() {
  std::random_device device;
  return std::uniform_int_distribution<uint64_t>()(device);
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& path, const Tier& tier,
                                           const StoreOptions& options, int64_t now_s) {
  std::unique_ptr<Store> store;
  const auto attempt = [&]() -> Status {
    WEIR_TRY_ASSIGN(store, open_as_it_is(path, tier, options, now_s));
    return {};
  };
  const DatabaseOptions& database = options.database;
  WEIR_TRY(database.in_memory ? attempt() : open_or_replace(path, database, attempt));
  return store;
}

Result<std::unique_ptr<Store>> Store::open_as_it_is(const std::string& path, const Tier& tier,
                                                    const StoreOptions& options, int64_t now_s) {
  DatabaseOptions database = options.database;
  database.cache_kib = kCacheKib;
  if (options.disk) {
    database.wal_autocheckpoint = checkpoint_pages(*options.disk, database.page_size);
  }
  WEIR_TRY_ASSIGN(auto db, Database::open(path, database));
  std::unique_ptr<Store> store(new Store(std::move(db), tier, options, path));
  if (auto done = store->prepare(path, now_s); !done.ok()) {
    return std::move(done).error().with(path);
  }
  return store;
}

Status Store::prepare(const std::string& path, int64_t now_s) {
  const auto random = options_.random ? options_.random : kernel_random;
  const uint64_t new_epoch = (random() >> 1) | 1;  // 63 bits and not 0
  WEIR_TRY_ASSIGN(numbers_, open_schema(db_, tier_, now_s, new_epoch));
  const OutboxOptions outbox{
      .max_bytes = options_.outbox_max_bytes,
      .epoch_rule = tier_.last() ? EpochRule::kOwn : EpochRule::kHandedOut,
      .when_full = WhenFull::kRefuse,
      .source = options_.source.value_or(tier_source(tier_.kind, tier_.name)),
      .random = options_.random};
  WEIR_TRY_ASSIGN(outbox_, Outbox::open(db_, outbox));
  WEIR_TRY_ASSIGN(ledger_, Ledger::open(db_));
  WEIR_TRY_ASSIGN(groups_, Groups::open(db_));
  WEIR_TRY_ASSIGN(accounts_, Accounts::open(db_));
  WEIR_TRY_ASSIGN(epochs_, TierEpochs::open(db_));
  WEIR_TRY_ASSIGN(insert_inbox_, db_.prepare("INSERT INTO inbox(source,epoch,seq,win,mass,kind,"
                                             "whole,raw_len,crc,place,size,body) "
                                             "VALUES(?,?,?,?,?,?,?,?,?,?,?,?)"));
  WEIR_TRY_ASSIGN(whole_, db_.prepare("UPDATE inbox SET whole = 1 WHERE source = ? AND epoch = ? "
                                      "AND seq BETWEEN ? AND ?"));
  WEIR_TRY_ASSIGN(size_of_parts_,
                  db_.prepare("SELECT coalesce(sum(raw_len),0) FROM inbox WHERE source = ? "
                              "AND epoch = ? AND seq BETWEEN ? AND ? AND whole = 0"));
  WEIR_TRY_ASSIGN(lives_, db_.prepare("SELECT EXISTS(SELECT 1 FROM used WHERE source = ?1 AND "
                                      "epoch = ?2), (SELECT count(*) FROM used WHERE "
                                      "source = ?1)"));
  WEIR_TRY_ASSIGN(touch_, db_.prepare("INSERT OR REPLACE INTO used VALUES(?,?,?)"));
  WEIR_TRY_ASSIGN(inbox_of_window_, db_.prepare("SELECT 1 FROM inbox WHERE win >= ? AND win < ? "
                                                "AND whole = 1 LIMIT 1"));
  WEIR_TRY_ASSIGN(auto meta, db_.prepare("SELECT epoch FROM store_meta"));
  WEIR_TRY(meta.step());
  own_epoch_ = meta.unsigned_integer(0);
  WEIR_TRY_ASSIGN(auto groups, db_.prepare("SELECT max(coalesce((SELECT max(id) FROM release), 0),"
                                           "coalesce((SELECT max(grp) FROM block_open), 0))"));
  WEIR_TRY(groups.step());
  last_group_ = groups.integer(0);
  WEIR_TRY(open_inbox(path));
  WEIR_TRY_ASSIGN(auto closed, db_.prepare("SELECT closed_to FROM tier WHERE id = 1"));
  WEIR_TRY_ASSIGN(const bool has_closed, closed.step());
  if (has_closed && !closed.is_null(0)) closed_to_s_ = closed.integer(0);
  WEIR_TRY_ASSIGN(auto newest, db_.prepare("SELECT newest FROM tier WHERE id = 0"));
  WEIR_TRY_ASSIGN(const bool has_newest, newest.step());
  if (has_newest && !newest.is_null(0)) {
    newest_end_s_ = numbers_.start_s(static_cast<uint32_t>(newest.integer(0)) + 1, tier_.in_s);
  }
  WEIR_TRY_ASSIGN(auto lived, db_.prepare("SELECT coalesce(max(at_s), ?) FROM (SELECT at_s FROM "
                                          "used UNION ALL SELECT at_s FROM fence)"));
  WEIR_TRY(lived.bind(1, now_s).step());
  lived_before_s_ = lived_s_ = lived.integer(0);
  WEIR_TRY(load_catalog({}));
  if (options_.disk) {
    WEIR_TRY_ASSIGN(disk_, DiskBudget::open(db_, path, *options_.disk));
  }
  return discard_damaged_groups();
}

Status Store::open_inbox(const std::string& path) {
  WEIR_TRY_ASSIGN(auto inbox, db_.prepare("SELECT count(*), coalesce(sum(raw_len),0) "
                                          "FROM inbox"));
  WEIR_TRY(inbox.step());
  inbox_rows_ = inbox.unsigned_integer(0);
  inbox_bytes_ = inbox.unsigned_integer(1);
  WEIR_TRY_ASSIGN(auto parts, db_.prepare("SELECT source,epoch,sum(raw_len) FROM inbox "
                                          "WHERE whole = 0 GROUP BY source,epoch"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, parts.step());
    if (!row) break;
    unfinished_[{source_in(parts.blob(0)), parts.unsigned_integer(1)}] = parts.unsigned_integer(2);
  }
  if (options_.database.in_memory) return {};
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT place,size FROM inbox"));
  std::vector<BodySpan> taken;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) break;
    add_span(read, 0, taken);
  }
  BodyFileOptions options = options_.bodies;
  options.disk = options_.disk;
  WEIR_TRY_ASSIGN(bodies_, BodyFile::open(body_file(path), std::move(options), std::move(taken)));
  return {};
}

Status Store::make_room(uint64_t bytes) { return disk_ ? disk_->make_room(bytes) : Status(); }

Result<std::optional<DiskUsage>> Store::disk_usage() {
  if (!disk_) return std::optional<DiskUsage>();
  WEIR_TRY_ASSIGN(const DiskUsage usage, disk_->usage());
  return std::optional(usage);
}

Status Store::load_catalog(const Names::Counts& names) {
  if (blocks_) {
    counts_.damaged += blocks_->damaged();
    counts_.sealed += blocks_->sealed();
    counts_.merged_open += blocks_->merged_open();
  }
  blocks_.reset();
  names_.reset();
  WEIR_TRY_ASSIGN(catalog_, Catalog::load(db_));
  names_.emplace(*catalog_, tier_, options_.limits, options_.catalog_rows, names, reports_);
  WEIR_TRY_ASSIGN(blocks_, Blocks::open(db_, *catalog_));
  WEIR_TRY_ASSIGN(coverage_, Coverage::open(db_, tier_));
  return restore_names();
}

// What the newest two windows of each grain hold has its name again.
Status Store::restore_names() {
  if (newest_end_s_ == INT64_MIN) return {};
  for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
    const uint32_t width = grain == Grain::kFine ? tier_.in_s : tier_.out_s;
    const int64_t newest_s = window_at(newest_end_s_ - 1, width).start_s;
    const uint32_t from = numbers_.number(newest_s - width, width);
    for (const uint32_t metric : catalog_->metric_ids()) {
      std::unordered_map<uint32_t, uint64_t> weights;
      WEIR_TRY(blocks_->each_row(grain, metric, from, [&](uint32_t row, const Value& value) {
        weights[row] += weight_of(mass(value));
      }));
      names_->restore(grain, metric, {weights.begin(), weights.end()});
    }
  }
  return {};
}

Result<std::optional<Window>> Store::closable(int64_t now_s) {
  if (!closed_to_s_) return std::optional<Window>{};
  const Window next{*closed_to_s_, tier_.out_s};
  if (next.end_s() + tier_.close_after_s > now_s) return std::optional<Window>{};
  return std::optional(next);
}

Result<bool> Store::has_inbox(const Window& coarse) {
  inbox_of_window_.bind(1, coarse.start_s).bind(2, coarse.end_s());
  WEIR_TRY_ASSIGN(const bool found, inbox_of_window_.step());
  inbox_of_window_.reset();
  return found;
}

std::optional<Window> Store::unsettled(int64_t now_s) const {
  if (!coverage_->next_s()) return std::nullopt;
  // A clock that jumps ahead calls no more missing than a silence would.
  int64_t over_s = std::min(now_s - tier_.close_after_s, newest_end_s_ + tier_.expect_for_s);
  if (tier_.flush_every.count() == 0) over_s = window_at(over_s, tier_.out_s).start_s;
  const Window next{*coverage_->next_s(), tier_.in_s};
  return next.end_s() <= over_s ? std::optional(next) : std::nullopt;
}

Status Store::begin_closing_at(int64_t coarse_start_s) {
  WEIR_TRY_ASSIGN(auto mark, db_.prepare("UPDATE tier SET closed_to = ? WHERE id = 1"));
  return mark.bind(1, coarse_start_s).run();
}

Status Store::close(const Window& window, const std::vector<Anomaly>& anomalies) {
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(auto insert, db_.prepare("INSERT INTO anomaly(start,width,detector,signal,"
                                             "labels,score,value,expected,summary) "
                                             "VALUES(?,?,?,?,?,?,?,?,?)"));
    for (const Anomaly& a : anomalies) {
      insert.bind(1, a.window.start_s).bind(2, int64_t{a.window.width_s}).bind(3, a.detector);
      insert.bind(4, a.signal).bind(5, ByteView(encode_labels(a.labels))).bind(6, a.score);
      insert.bind(7, a.value).bind(8, a.expected).bind(9, a.summary);
      WEIR_TRY(insert.run());
    }
    return begin_closing_at(window.end_s());
  });
  if (!done.ok()) return std::move(done).error().with("close");
  closed_to_s_ = window.end_s();
  WEIR_TRY(publish_reports(window));
  names_->close_window();
  return {};
}

void Store::set_limits(const Limits& limits) {
  options_.limits = limits;
  names_->set_limits(limits);
}

// Where kept windows of a grain begin. Aligned to coarse windows, so a coarse window has all of its
// fine ones or none.
int64_t Store::retention_cut(Grain grain) const {
  if (retain_to_s_ == INT64_MIN) return INT64_MIN;
  const int64_t keep = grain == Grain::kFine ? tier_.keep_in_s : tier_.keep_out_s;
  return window_at(retain_to_s_ - keep, tier_.out_s).start_s;
}

// Retention follows the newest data as well as the clock. Neither alone is to be trusted, nor both
// when the clock is set: windows of others are moved to it.
void Store::live_on(int64_t now_s, MonoTime mono) {
  if (!began_) began_ = mono;
  const int64_t lived_s =
      lived_before_s_ + std::chrono::floor<std::chrono::seconds>(mono - *began_).count();
  const int64_t elapsed_s = lived_s - std::exchange(lived_s_, lived_s);
  if (newest_end_s_ == INT64_MIN) return;
  if (retained_s_ == INT64_MIN) retained_s_ = newest_end_s_;  // as stored, or the first ever
  const int64_t wanted_s = std::min(now_s, newest_end_s_);
  retained_s_ = std::max(retained_s_, std::min(wanted_s, retained_s_ + 2 * elapsed_s));
  retain_to_s_ = std::min(wanted_s, retained_s_);
}

Result<bool> Store::maintain(int64_t now_s, MonoTime mono) {
  live_on(now_s, mono);
  const Status room = make_room(kSealBytes);  // erasing needs none
  if (!room.ok() && room.error().code != Errc::kLimit) return room.error();
  bool more = false;
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(auto held, db_.prepare("UPDATE tier SET held_from = ?2 "
                                           "WHERE id = ?1 AND held_from < ?2"));
    for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
      const uint32_t width = grain == Grain::kFine ? tier_.in_s : tier_.out_s;
      const int64_t cut = retention_cut(grain);
      if (cut != INT64_MIN) {
        WEIR_TRY(held.bind(1, static_cast<int64_t>(grain)).bind(2, cut).run());
        WEIR_TRY_ASSIGN(const bool rest,
                        blocks_->erase(grain, numbers_.number(cut, width), kEraseBlocks));
        more = more || rest;
      }
      if (!room.ok()) continue;
      const uint32_t old = numbers_.number(now_s - seal_after_s(width), width);
      WEIR_TRY_ASSIGN(const bool unsealed, blocks_->seal(grain, old, kSealGroups));
      more = more || unsealed;
    }
    WEIR_TRY_ASSIGN(auto forget, db_.prepare("DELETE FROM anomaly WHERE start < ?"));
    WEIR_TRY(forget.bind(1, retention_cut(Grain::kCoarse)).run());
    if (retain_to_s_ != INT64_MIN) WEIR_TRY(coverage_->forget(retain_to_s_));
    WEIR_TRY(forget_old());
    return blocks_->save_counters();
  });
  if (!done.ok()) {
    WEIR_TRY(load_catalog(names_->counts()));  // counters of the rolled-back slice
    return std::move(done).error().with("maintenance");
  }
  return more;
}

// Ledgers, accounts and fences of long ago, in time that was lived through: a batch that is brought
// again must find its key, whatever clocks did meanwhile.
Status Store::forget_old() {
  if (lived_s_ < next_forget_s_) return {};
  next_forget_s_ = lived_s_ + kForgetEveryS;
  const int64_t before_s = lived_s_ - kForgetAfterS;
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT source,epoch FROM used WHERE at_s < ? LIMIT ?"));
  WEIR_TRY_ASSIGN(auto erase, db_.prepare("DELETE FROM used WHERE source = ? AND epoch = ?"));
  read.bind(1, before_s).bind(2, kForgetEpochs);
  std::vector<std::pair<SourceId, uint64_t>> old;
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) break;
    old.emplace_back(source_in(read.blob(0)), read.unsigned_integer(1));
  }
  std::set<EpochKey> named;
  if (!old.empty()) {
    WEIR_TRY_ASSIGN(named, named_here());
  }
  for (const auto& [source, epoch] : old) {
    if (named.contains({source, epoch})) {  // not as long as this waits for the tier above
      WEIR_TRY(touch(source, epoch));
      continue;
    }
    WEIR_TRY(ledger_->forget(source, epoch));
    WEIR_TRY(accounts_->forget(source, epoch));
    WEIR_TRY(erase.bind(1, ByteView(source)).bind(2, epoch).run());
    touched_.erase({source, epoch});
  }
  return epochs_->forget_fences(before_s);
}

// Epochs of batches in the inbox, and of those that rollups on their way up were made of: what is
// below brings such a batch again until its rollup is at the last tier. (A damaged manifest has the
// tier start anew, which asks no ledger.)
Result<std::set<Store::EpochKey>> Store::named_here() {
  std::set<EpochKey> out;
  WEIR_TRY_ASSIGN(auto inbox, db_.prepare("SELECT DISTINCT source,epoch FROM inbox"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, inbox.step());
    if (!row) break;
    out.emplace(source_in(inbox.blob(0)), inbox.unsigned_integer(1));
  }
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT id,epoch,lo,hi,manifest FROM release"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) break;
    const SeqSpan group{read.unsigned_integer(1), read.unsigned_integer(2),
                        read.unsigned_integer(3)};
    const auto manifest = decode_manifest(read.blob(4), release_key(read.integer(0), group));
    if (!manifest.ok()) continue;
    for (const ManifestEntry& entry : *manifest) out.emplace(entry.range.source, entry.range.epoch);
  }
  WEIR_TRY(
      groups_->each_named([&](const SeqRange& range) { out.emplace(range.source, range.epoch); }));
  return out;
}

Result<std::vector<WindowStatus>> Store::widths(int64_t now_s) {
  std::vector<WindowStatus> out;
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT id,width,windows,newest,blocks,bytes FROM tier "
                                         "ORDER BY id"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, read.step());
    if (!more) return out;
    WindowStatus status;
    status.width_s = static_cast<uint32_t>(read.integer(1));
    status.windows = read.unsigned_integer(2);
    status.blocks = read.unsigned_integer(4);
    status.bytes = read.unsigned_integer(5);
    if (!read.is_null(3)) {
      status.newest_start_s =
          numbers_.start_s(static_cast<uint32_t>(read.integer(3)), status.width_s);
    }
    const bool coarse = read.integer(0) == 1;
    status.closed_until_s = coarse ? closed_to_s_.value_or(0)
                                   : window_at(now_s - tier_.close_after_s, tier_.in_s).start_s;
    out.push_back(status);
  }
}

std::map<std::string, uint64_t> Store::counters() const {
  const Names::Counts names = names_->counts();
  std::map<std::string, uint64_t> out{
      {"weir_store_batches_total", counts_.batches},
      {"weir_store_duplicates_total", counts_.duplicates},
      {"weir_store_refused_ledger_full_total", counts_.ledger_full},
      {"weir_store_folds_total", counts_.folds},
      {"weir_store_folds_blocked_total", counts_.blocked},
      {"weir_store_folded_batches_total", counts_.folded_batches},
      {"weir_store_folded_rows_total", counts_.folded_rows},
      {"weir_store_quarantined_batches_total", counts_.bad_batches},
      {"weir_store_lost_batches_total", counts_.lost_batches},
      {"weir_store_refused_rows_total", counts_.refused_rows},
      {"weir_store_unmerged_rows_total", counts_.unmerged},
      {"weir_store_overflow_rows_total", names.overflow[0]},
      {"weir_store_coarse_overflow_rows_total", names.overflow[1]},
      {"weir_store_evicted_series_total", names.evicted[0]},
      {"weir_store_coarse_evicted_series_total", names.evicted[1]},
      {"weir_store_catalog_full_rows_total", names.catalog_full},
      {"weir_store_rewritten_rows_total", names.rewritten},
      {"weir_store_limits_dry_run_total", names.dry_run},
      {"weir_store_out_batches_total", counts_.out_batches},
      {"weir_store_damaged_blocks_total", counts_.damaged + blocks_->damaged()},
      {"weir_store_sealed_blocks_total", counts_.sealed + blocks_->sealed()},
      {"weir_store_missing_source_windows_total", counts_.missing},
      {"weir_store_series", catalog_->series()},
      {"weir_store_damaged_series", catalog_->damaged()},
      {"weir_store_named_series", names_->named(Grain::kFine)},
      {"weir_store_coarse_named_series", names_->named(Grain::kCoarse)},
      {"weir_store_fences_total", counts_.fences},
      {"weir_store_fenced_batches_total", counts_.fenced_batches},
      {"weir_store_discarded_parts_total", counts_.discarded_parts},
      {"weir_store_dropped_states_total", counts_.dropped_states},
      {"weir_store_wrong_target_total", counts_.wrong_target},
      {"weir_store_refused_lives_total", counts_.lives_refused},
      {"weir_store_refused_parts_total", counts_.parts_refused},
      {"weir_store_unfinished_bytes", unfinished_bytes()},
      {"weir_store_bodies_used_bytes", bodies_ ? bodies_->file_bytes() - bodies_->free_bytes() : 0},
      {"weir_store_bodies_file_bytes", bodies_ ? bodies_->file_bytes() : 0},
      {"weir_store_merged_open_blocks_total", counts_.merged_open + blocks_->merged_open()},
      {"weir_ledger_overlaps_total", counts_.overlaps},
      {"weir_fold_imbalance_total", counts_.imbalance},
  };
  for (const auto& [reason, count] : tombstones_) {
    out["weir_store_tombstones_total{reason=\"" + reason + "\"}"] = count;
  }
  return out;
}

}  // namespace weir::aggregator
