// The fold: inbox rows -> fine blocks, coarse blocks and one group of batches per coarse window for
// the next tier, in one transaction with the manifests that say which batches are in which group.

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "aggregator/store/inbox_body.h"
#include "aggregator/store/manifest.h"
#include "aggregator/store/schema.h"
#include "aggregator/store/store.h"
#include "common/control.h"
#include "common/own_metrics.h"

namespace weir::aggregator {
namespace {

Metric own_counter(const char* name) {
  return {.name = name, .kind = Kind::kCounter, .unit = "", .quantum = 0};
}

constexpr int64_t kQuarantineRows = 1000;  // the newest are kept for people to look at

// For this tier's own counter: what comes in as text must not make counters without end.
std::string known_reason(std::string_view reason) {
  reason = reason.substr(0, reason.find(':'));  // "refused:window_old"
  for (const char* known : {"outbox_bytes", "outbox_age", "disk_full", "damaged", "refused"}) {
    if (reason == known) return known;
  }
  return "other";
}

}  // namespace

// Everything one fold takes and makes.
struct Store::Folding {
  using Part = std::map<std::pair<int64_t, uint32_t>,
                        RowDeltas>;  // (window start, metric)

  struct Bad {
    int64_t id = 0;
    SeqRange range;
    Refusal refusal = Refusal::kForNow;
    std::string reason;
  };

  // What becomes of one coarse window: its masses prove that nothing is lost on the way.
  struct Group {
    int64_t id = 0;
    std::vector<ManifestEntry> manifest;
    uint64_t data = 0;     // of the batches
    uint64_t own = 0;      // of rows this tier adds
    uint64_t refused = 0;  // of rows it has no room for
  };

  std::vector<int64_t> ids;
  std::vector<BodySpan> bodies;
  std::vector<Bad> bad;
  std::map<int64_t, Group> groups;  // by start
  std::map<std::string, uint64_t> tombstones;
  Part fine;
  Part coarse;
  uint64_t bytes = 0;
  uint64_t rows = 0;
  uint64_t refused_rows = 0;
  uint64_t out_batches = 0;
  bool more = false;
  std::vector<Acknowledgement> acks;
};

Status Store::read_inbox(int64_t before_s, Folding& folding) {
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT id,source,epoch,seq,win,kind,raw_len,crc,place,"
                                         "size,body FROM inbox NOT INDEXED "
                                         "WHERE win < ? AND whole = 1 ORDER BY id"));
  read.bind(1, before_s);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return {};
    if (folding.bytes >= options_.fold_bytes) {
      folding.more = true;
      return {};
    }
    const int64_t id = read.integer(0);
    const int64_t start_s = read.integer(4);
    const uint64_t raw_len = read.unsigned_integer(6);
    folding.bytes += raw_len;
    folding.ids.push_back(id);
    add_span(read, 8, folding.bodies);
    const ByteView source = read.blob(1);
    const SeqRange range{.source = source_in(source),
                         .epoch = read.unsigned_integer(2),
                         .lo = read.unsigned_integer(3),
                         .hi = read.unsigned_integer(3)};
    const auto body = reader_.read(read, 7);
    if (source.size() != range.source.size() || !body.ok()) {
      folding.bad.push_back({id, range, Refusal::kForNow, "damaged on disk"});
      continue;
    }
    if (!numbers_.fits({start_s, tier_.in_s})) {
      folding.bad.push_back({id, range, Refusal::kForGood, "a window this store does not keep"});
      continue;
    }
    Folding::Group& group = folding.groups[window_at(start_s, tier_.out_s).start_s];
    if (read.integer(5) == 2) {
      const auto control = decode_control(*body);
      const auto* tombstone = control.ok() ? std::get_if<Tombstone>(&*control) : nullptr;
      if (tombstone == nullptr) {
        folding.bad.push_back({id, range, Refusal::kForGood, "no tombstone"});
        continue;
      }
      WEIR_TRY(add_tombstone(folding, range.source, *tombstone, start_s));
      group.manifest.push_back({range, tombstone->mass, tombstone->cum_mass, true});
      continue;
    }
    auto batch = decode_stored(*body, raw_len);
    if (!batch.ok() || batch->window.width_s != tier_.in_s) {
      folding.bad.push_back(
          {id, range, Refusal::kForGood,
           batch.ok() ? "a window this store does not keep" : batch.error().message});
      continue;
    }
    group.manifest.push_back({range, batch->mass, batch->cum_mass, false});
    group.data += batch->mass;
    WEIR_TRY(read_batch(folding, *std::move(batch), start_s));
  }
}

// Counted in the window that intake gave it, which is its own or that of a better clock.
Status Store::read_batch(Folding& folding, DecodedBatch&& batch, int64_t start_s) {
  std::vector<std::optional<uint32_t>> metrics;  // empty: the store has no room for it
  for (const Metric& metric : batch.metrics) {
    auto known = catalog_->metric(metric);
    if (!known.ok() && known.error().code != Errc::kLimit) return std::move(known).error();
    metrics.push_back(known.ok() ? std::optional(*known) : std::nullopt);
  }
  Folding::Group& group = folding.groups[window_at(start_s, tier_.out_s).start_s];
  for (DecodedRow& in : batch.rows) {
    const auto metric = metrics[in.metric];
    if (!metric) {
      ++folding.refused_rows;
      group.refused += weir::mass(in.value);
      continue;
    }
    WEIR_TRY(add_row(folding, start_s, *metric, with_added(tier_, std::move(in.labels)),
                     std::move(in.value)));
    ++folding.rows;
  }
  return {};
}

// Lost on the way here: said once, as data of its window, with the labels of who lost it.
Status Store::add_tombstone(Folding& folding, const SourceId& source, const Tombstone& tombstone,
                            int64_t start_s) {
  Labels labels = tombstone.labels;
  for (const Label& own : {Label{"where", "outbox"}, Label{"reason", tombstone.reason}}) {
    const auto at = std::ranges::lower_bound(labels, own.first, {}, &Label::first);
    if (at != labels.end() && at->first == own.first) {
      at->second = own.second;
    } else {
      labels.insert(at, own);
    }
  }
  ++folding.tombstones[known_reason(tombstone.reason)];
  // A tier brings what it gave up again, from below.
  if (tombstone.mass == 0 || epochs_->is_tier(source)) return {};
  return add_own(folding, own_counter(kDropped), start_s, with_added(tier_, std::move(labels)),
                 tombstone.mass);
}

Status Store::add_row(Folding& folding, int64_t start_s, uint32_t metric, const Labels& labels,
                      Value&& value) {
  const uint64_t events = mass(value);
  WEIR_TRY_ASSIGN(const auto fine, names_->fine(metric, labels, events));
  if (fine.overflow) {  // in coarse windows it may have its own name
    WEIR_TRY_ASSIGN(const uint32_t coarse, names_->coarse(metric, labels, events));
    folding.coarse[{window_at(start_s, tier_.out_s).start_s, metric}].add(coarse, value);
  }
  folding.fine[{start_s, metric}].add(fine.row, std::move(value));
  return {};
}

// One more row of this fold, as if it had come in.
Status Store::add_own(Folding& folding, const Metric& metric, int64_t start_s, const Labels& labels,
                      uint64_t delta) {
  const auto id = catalog_->metric(metric);
  if (!id.ok() && id.error().code == Errc::kLimit) {  // as of what comes in: refused and counted
    ++folding.refused_rows;
    return {};
  }
  if (!id.ok()) return id.error();
  folding.groups[window_at(start_s, tier_.out_s).start_s].own += delta;
  return add_row(folding, start_s, *id, labels, Counter{delta});
}

// What this fold has of each source, and what of it had been called missing before.
Status Store::take_coverage(Folding& folding) {
  if (folding.fine.empty()) return {};
  if (!coverage_->next_s()) WEIR_TRY(coverage_->begin(folding.fine.begin()->first.first));
  std::map<std::pair<int64_t, Labels>, Coverage::Came> all;
  for (const char* name : {kSourceWindows, kSourceWindowsMissing, kSourceWindowsRecovered}) {
    const auto id = catalog_->find(own_counter(name));
    if (!id) continue;
    for (const auto& [key, deltas] : folding.fine) {
      if (key.second != *id) continue;
      for (const auto& [row, value] : deltas.entries()) {
        // Whose it is: a host that got another label of its own is still that host.
        const Labels source = names_->whose(catalog_->labels_of(*id, row));
        const uint64_t delta = std::get<Counter>(*value).delta;
        Coverage::Came& came = all[{key.first, source}];
        came.source = source;
        came.start_s = key.first;
        if (name == kSourceWindows) came.merged += delta;
        came.expected += static_cast<int64_t>(name == kSourceWindowsRecovered ? -delta : delta);
      }
    }
  }
  for (const auto& [key, came] : all) {  // in order of time
    WEIR_TRY_ASSIGN(const uint64_t recovered, coverage_->came(came));
    if (recovered > 0) {
      WEIR_TRY(add_own(folding, own_counter(kSourceWindowsRecovered), came.start_s, came.source,
                       recovered));
    }
  }
  return {};
}

Status Store::write_blocks(Folding& folding) {
  for (const auto& [key, deltas] : folding.fine) {
    const auto& [start_s, metric] = key;
    RowDeltas& coarse = folding.coarse[{window_at(start_s, tier_.out_s).start_s, metric}];
    for (const auto& [row, value] : deltas.entries()) {
      if (names_->is_overflow(metric, row)) continue;  // add_row() has seen to it
      WEIR_TRY_ASSIGN(const uint32_t coarse_row, names_->coarse_of(metric, row, mass(*value)));
      coarse.add(coarse_row, *value);
    }
  }
  // Where there is a next tier, blocks can be taken back until it has the group.
  const auto group_at = [&](int64_t coarse_start_s) -> int64_t {
    if (tier_.last()) return 0;
    Folding::Group& group = folding.groups[coarse_start_s];
    if (group.id == 0) group.id = ++last_group_;
    return group.id;
  };
  for (const auto& [key, deltas] : folding.fine) {
    WEIR_TRY(blocks_->append(Grain::kFine, key.second, numbers_.number(key.first, tier_.in_s),
                             deltas, group_at(window_at(key.first, tier_.out_s).start_s)));
    counts_.unmerged += deltas.unmerged();
  }
  for (const auto& [key, deltas] : folding.coarse) {
    WEIR_TRY(blocks_->append(Grain::kCoarse, key.second, numbers_.number(key.first, tier_.out_s),
                             deltas, group_at(key.first)));
    counts_.unmerged += deltas.unmerged();
  }
  check_masses(folding);
  return blocks_->save_counters();
}

// What came in is what is stored, to the last sample; anything else is our own mistake.
void Store::check_masses(const Folding& folding) {
  std::map<int64_t, std::pair<uint64_t, uint64_t>> stored;  // fine, coarse
  for (const auto& [key, deltas] : folding.fine) {
    stored[window_at(key.first, tier_.out_s).start_s].first += deltas.mass();
  }
  for (const auto& [key, deltas] : folding.coarse) stored[key.first].second += deltas.mass();
  for (const auto& [start_s, group] : folding.groups) {
    const auto [fine, coarse] = stored[start_s];
    const uint64_t expected = group.data + group.own - group.refused;
    if (fine != expected || coarse != expected) ++counts_.imbalance;
  }
}

// One group of batches per coarse window: its rows, and the manifest of exactly the batches they
// came from. Without rows it is the manifest alone.
Status Store::write_outbox(Folding& folding) {
  WEIR_TRY_ASSIGN(auto keep, db_.prepare("INSERT INTO release(id,epoch,lo,hi,manifest) "
                                         "VALUES(?,?,?,?,?)"));
  for (auto& [start_s, group] : folding.groups) {
    const Window window{start_s, tier_.out_s};
    std::vector<BatchRow> rows;
    for (auto at = folding.coarse.lower_bound({start_s, 0});
         at != folding.coarse.end() && at->first.first == start_s; ++at) {
      const uint32_t metric = at->first.second;
      at->second.prune();
      for (const auto& [row, value] : at->second.entries()) {
        rows.push_back({&catalog_->metric_of(metric), &catalog_->labels_of(metric, row), value});
      }
    }
    coalesce(group.manifest);
    SeqSpan span{.epoch = outbox_->epoch(), .lo = 0, .hi = 0};
    uint64_t sent = 0;
    for (const EncodedBatch& batch : encode_batches(
             {.window = window, .common_labels = {}, .manifest = group.manifest}, rows)) {
      const auto seq = outbox_->append(window, batch);
      if (!seq.ok()) return Error(seq.error()).with("outbox");
      if (span.lo == 0) span.lo = *seq;
      span.hi = *seq;
      sent += batch.mass;
      ++folding.out_batches;
    }
    if (sent != group.data + group.own - group.refused) ++counts_.imbalance;
    if (span.lo == 0) continue;  // its only batch was damaged
    if (group.id == 0) group.id = ++last_group_;
    keep.bind(1, group.id).bind(2, span.epoch).bind(3, span.lo).bind(4, span.hi);
    const Bytes manifest = encode_manifest(group.manifest, release_key(group.id, span));
    WEIR_TRY(keep.bind(5, ByteView(manifest)).run());
  }
  return {};
}

// Puts the row aside. Its sender keeps a copy until the last tier has it, so it is asked for that
// one; where this is the last tier the copy is gone and the batch is lost.
Status Store::quarantine(Folding& folding, size_t index) {
  const auto& [id, range, refusal, reason] = folding.bad[index];
  if (tier_.last()) {
    ++counts_.lost_batches;
  } else {
    WEIR_TRY(ledger_->remove(LedgerLevel::kHere, range.source, range.epoch, range.lo));
    folding.acks.push_back(answer(range, FrameType::kNack));
    folding.acks.back().refusal = refusal;
    folding.acks.back().reason = reason;
  }
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT crc,place,size,body FROM inbox WHERE id = ?"));
  WEIR_TRY_ASSIGN(auto copy, db_.prepare("INSERT INTO inbox_bad(source,epoch,seq,win,reason,body) "
                                         "SELECT source,epoch,seq,win,?2,?3 FROM inbox "
                                         "WHERE id = ?1"));
  WEIR_TRY(read.bind(1, id).step());
  WEIR_TRY(copy.bind(1, id).bind(2, reason).bind(3, reader_.read_unchecked(read, 0)).run());
  WEIR_TRY_ASSIGN(auto trim, db_.prepare("DELETE FROM inbox_bad WHERE id <= "
                                         "(SELECT max(id) FROM inbox_bad) - ?"));
  return trim.bind(1, kQuarantineRows).run();
}

Result<FoldResult> Store::fold(int64_t before_s) {
  // Blocks, and what goes up, of about as much as comes in.
  if (inbox_rows_ > 0) {
    const Status room = make_room(2 * std::min<uint64_t>(options_.fold_bytes, inbox_bytes_));
    if (!room.ok() && room.error().code == Errc::kLimit) {
      ++counts_.blocked;
      return FoldResult{.blocked_by = room.error().message, .acks = {}};
    }
    WEIR_TRY(room);
  }
  Folding folding;
  const Counts counts_before = counts_;
  const Names::Counts names_before = names_->counts();
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(read_inbox(before_s, folding));
    if (folding.ids.empty()) return {};
    WEIR_TRY(take_coverage(folding));
    WEIR_TRY(write_blocks(folding));
    if (!tier_.last()) WEIR_TRY(write_outbox(folding));
    for (size_t i = 0; i < folding.bad.size(); ++i) WEIR_TRY(quarantine(folding, i));
    WEIR_TRY_ASSIGN(auto erase, db_.prepare("DELETE FROM inbox WHERE id = ?"));
    for (const int64_t id : folding.ids) WEIR_TRY(erase.bind(1, id).run());
    if (!closed_to_s_ && !folding.coarse.empty()) {
      WEIR_TRY(begin_closing_at(folding.coarse.begin()->first.first));
    }
    crash_at(".fold_before");
    return {};
  });
  if (!done.ok()) {
    std::string why = done.error().message;
    WEIR_TRY(undo(std::move(done), "fold", counts_before, names_before));
    return FoldResult{.blocked_by = std::move(why), .acks = {}};
  }
  if (folding.ids.empty()) return FoldResult{};
  crash_at(".fold_after");
  ++counts_.folds;
  counts_.folded_batches += folding.ids.size() - folding.bad.size();
  for (const auto& [reason, count] : folding.tombstones) tombstones_[reason] += count;
  counts_.folded_rows += folding.rows;
  counts_.refused_rows += folding.refused_rows;
  counts_.bad_batches += folding.bad.size();
  counts_.out_batches += folding.out_batches;
  inbox_rows_ -= folding.ids.size();
  inbox_bytes_ -= folding.bytes;
  if (bodies_) bodies_->give_back(folding.bodies);
  if (!folding.fine.empty()) {
    newest_end_s_ = std::max(newest_end_s_, folding.fine.rbegin()->first.first + tier_.in_s);
    const int64_t first = folding.coarse.begin()->first.first;
    if (!closed_to_s_) closed_to_s_ = first;
  }
  return FoldResult{.batches = folding.ids.size(),
                    .quarantined = folding.bad.size(),
                    .more = folding.more,
                    .blocked_by = {},
                    .acks = std::move(folding.acks)};
}

Result<bool> Store::settle() {
  Folding folding;
  const Counts counts_before = counts_;
  const Names::Counts names_before = names_->counts();
  Status done = db_.transaction([&]() -> Status {
    const int64_t start_s = coverage_->next_s().value_or(0);
    WEIR_TRY_ASSIGN(const auto missing, coverage_->settle());
    for (const auto& [source, windows] : missing) {
      WEIR_TRY(add_own(folding, own_counter(kSourceWindowsMissing), start_s, source, windows));
      counts_.missing += windows;
    }
    if (folding.fine.empty()) return {};
    WEIR_TRY(write_blocks(folding));
    if (tier_.last()) return {};
    return write_outbox(folding);
  });
  if (done.ok()) return true;
  return undo(std::move(done), "settle", counts_before, names_before);
}

Result<bool> Store::undo(Status failed, const char* what, const Counts& counts,
                         const Names::Counts& names) {
  counts_ = counts;
  const bool full = failed.error().code == Errc::kLimit;  // the outbox, or the disk
  if (full) ++counts_.blocked;
  for (SeriesReport& report : reports_) report.forget();  // what will come again
  WEIR_TRY(load_catalog(names));                          // it may hold rows that were rolled back
  if (full) return false;
  return std::move(failed).error().with(what);
}

Status Store::add_reports(Folding& folding, const Window& window) {
  uint64_t source = 0;
  std::memcpy(&source, outbox_->source().data(), sizeof source);
  const int64_t last_s = window.end_s() - tier_.in_s;
  Status done;
  names_->publish(UnixTime(std::chrono::seconds(window.end_s() - 1)), source,
                  [&](const Metric& metric, const Labels& labels, const Value& value) {
                    if (!done.ok()) return;
                    const auto id = catalog_->metric(metric);
                    if (!id.ok() && id.error().code == Errc::kLimit) {
                      ++folding.refused_rows;
                      return;
                    }
                    if (id.ok()) {
                      folding.groups[window.start_s].own += mass(value);
                      done = add_row(folding, last_s, *id, with_added(tier_, labels), Value(value));
                    } else {
                      done = Status(id.error());
                    }
                  });
  return done;
}

Status Store::publish_reports(const Window& window) {
  Folding folding;
  const Counts counts_before = counts_;
  const Names::Counts names_before = names_->counts();
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(add_reports(folding, window));
    if (folding.fine.empty()) return {};
    WEIR_TRY(write_blocks(folding));
    if (tier_.last()) return {};
    return write_outbox(folding);
  });
  if (done.ok()) return {};
  WEIR_TRY(undo(std::move(done), "reports", counts_before, names_before));
  return {};
}

}  // namespace weir::aggregator
