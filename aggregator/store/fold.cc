// The fold: inbox rows -> fine blocks, coarse blocks and the next tier's batches, in one
// transaction with the manifest that says which batches are in it.

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "aggregator/store/manifest.h"
#include "aggregator/store/store.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/own_metrics.h"

namespace weir::aggregator {
namespace {

Metric own_counter(const char* name) {
  return {.name = name, .kind = Kind::kCounter, .unit = "", .quantum = 0};
}

constexpr int64_t kQuarantineRows = 1000;  // the newest are kept for people to look at

}  // namespace

// Everything one fold takes and makes.
struct Store::Folding {
  using Part = std::map<std::pair<int64_t, uint32_t>, RowDeltas>;  // (window start, metric)

  struct Bad {
    int64_t id = 0;
    SeqRange range;
    Refusal refusal = Refusal::kForNow;
    std::string reason;
  };

  std::vector<int64_t> ids;
  std::vector<Bad> bad;
  std::vector<ManifestEntry> manifest;
  Part fine;
  Part coarse;
  uint64_t bytes = 0;
  uint64_t rows = 0;
  uint64_t refused_rows = 0;
  uint64_t mass = 0;
  uint64_t out_batches = 0;
  bool more = false;
  std::vector<Acknowledgement> acks;
};

Status Store::read_inbox(int64_t before_s, Folding& folding) {
  WEIR_TRY_ASSIGN(auto read, db_.prepare("SELECT id,source,epoch,seq,crc,body,win FROM inbox "
                                         "WHERE win < ? ORDER BY id"));
  read.bind(1, before_s);
  for (;;) {
    WEIR_TRY_ASSIGN(const bool row, read.step());
    if (!row) return {};
    if (folding.bytes >= options_.fold_bytes) {
      folding.more = true;
      return {};
    }
    const ByteView body = read.blob(5);
    const int64_t id = read.integer(0);
    folding.bytes += body.size();
    folding.ids.push_back(id);
    SeqRange range{.epoch = read.unsigned_integer(2),
                   .lo = read.unsigned_integer(3),
                   .hi = read.unsigned_integer(3)};
    const ByteView source = read.blob(1);
    std::ranges::copy(source.first(std::min(source.size(), range.source.size())),
                      range.source.begin());
    if (source.size() != range.source.size() ||
        crc32c(body) != static_cast<uint32_t>(read.integer(4))) {
      folding.bad.push_back({id, range, Refusal::kForNow, "damaged on disk"});
      continue;
    }
    auto batch = decode_batch(body);
    if (!batch.ok()) {
      folding.bad.push_back({id, range, Refusal::kForGood, batch.error().message});
      continue;
    }
    if (batch->window.width_s != tier_.in_s || batch->window.start_s != read.integer(6) ||
        !numbers_.fits(batch->window)) {
      folding.bad.push_back({id, range, Refusal::kForGood, "a window this store does not keep"});
      continue;
    }
    std::vector<std::optional<uint32_t>> metrics;  // empty: the store has no room for it
    for (const Metric& metric : batch->metrics) {
      auto known = catalog_->metric(metric);
      if (!known.ok() && known.error().code != Errc::kLimit) return std::move(known).error();
      metrics.push_back(known.ok() ? std::optional(*known) : std::nullopt);
    }
    for (DecodedRow& in : batch->rows) {
      const auto metric = metrics[in.metric];
      if (!metric) {
        ++folding.refused_rows;
        continue;
      }
      WEIR_TRY(add_row(folding, batch->window.start_s, *metric,
                       with_added(tier_, std::move(in.labels)), std::move(in.value)));
      ++folding.rows;
    }
    folding.manifest.push_back({range, batch->mass, batch->cum_mass, false});
  }
}

Status Store::add_row(Folding& folding, int64_t start_s, uint32_t metric, const Labels& labels,
                      Value&& value) {
  const uint64_t events = mass(value);
  WEIR_TRY_ASSIGN(const auto fine, names_->fine(metric, labels, events));
  if (fine.overflow) {  // in coarse windows it may have its own name
    WEIR_TRY_ASSIGN(const uint32_t coarse, names_->coarse(metric, labels, events));
    folding.coarse[{window_at(start_s, tier_.out_s).start_s, metric}].add(coarse, value);
  }
  folding.mass += events;
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
  uint64_t fine_mass = 0;
  uint64_t coarse_mass = 0;
  for (const auto& [key, deltas] : folding.fine) {
    const auto& [start_s, metric] = key;
    const int64_t coarse_start = window_at(start_s, tier_.out_s).start_s;
    RowDeltas& coarse = folding.coarse[{coarse_start, metric}];
    for (const auto& [row, value] : deltas.entries()) {
      if (names_->is_overflow(metric, row)) continue;  // add_row() has seen to it
      WEIR_TRY_ASSIGN(const uint32_t coarse_row, names_->coarse_of(metric, row, mass(*value)));
      coarse.add(coarse_row, *value);
    }
    WEIR_TRY(blocks_->append(Grain::kFine, metric, numbers_.number(start_s, tier_.in_s), deltas));
    fine_mass += deltas.mass();
    counts_.unmerged += deltas.unmerged();
  }
  for (const auto& [key, deltas] : folding.coarse) {
    WEIR_TRY(blocks_->append(Grain::kCoarse, key.second, numbers_.number(key.first, tier_.out_s),
                             deltas));
    coarse_mass += deltas.mass();
    counts_.unmerged += deltas.unmerged();
  }
  // What came in is what is stored, to the last sample; anything else is our own mistake.
  if (folding.mass != fine_mass || folding.mass != coarse_mass) ++counts_.imbalance;
  return blocks_->save_counters();
}

Status Store::write_outbox(Folding& folding) {
  std::vector<EncodedBatch> batches;
  std::vector<Window> windows;
  for (auto at = folding.coarse.begin(); at != folding.coarse.end();) {
    const Window window{at->first.first, tier_.out_s};
    std::vector<BatchRow> rows;
    for (; at != folding.coarse.end() && at->first.first == window.start_s; ++at) {
      const uint32_t metric = at->first.second;
      at->second.prune();
      for (const auto& [row, value] : at->second.entries()) {
        rows.push_back({&catalog_->metric_of(metric), &catalog_->labels_of(metric, row), value});
      }
    }
    BatchHead head{.window = window, .common_labels = {}, .manifest = {}};
    if (at == folding.coarse.end()) head.manifest = folding.manifest;  // the last one tells all
    for (EncodedBatch& batch : encode_batches(head, rows)) {
      batches.push_back(std::move(batch));
      windows.push_back(window);
    }
  }
  SeqSpan span{.epoch = outbox_->epoch(), .lo = 0, .hi = 0};
  for (size_t i = 0; i < batches.size(); ++i) {
    WEIR_TRY_ASSIGN(const uint64_t seq, outbox_->append(windows[i], batches[i]));
    if (i == 0) span.lo = seq;
    span.hi = seq;
  }
  folding.out_batches = batches.size();
  if (batches.empty()) {  // only empty batches: there is nothing to wait for
    for (const ManifestEntry& entry : folding.manifest) {
      const SeqRange& range = entry.range;
      WEIR_TRY(ledger_->add(LedgerLevel::kLastTier, range));
      folding.acks.push_back(answer(range, FrameType::kAckG));
    }
    return {};
  }
  WEIR_TRY_ASSIGN(auto keep,
                  db_.prepare("INSERT INTO release(epoch,lo,hi,manifest) VALUES(?,?,?,?)"));
  keep.bind(1, span.epoch).bind(2, span.lo).bind(3, span.hi);
  keep.bind(4, ByteView(encode_manifest(folding.manifest)));
  return keep.run();
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
  WEIR_TRY_ASSIGN(auto move, db_.prepare("INSERT INTO inbox_bad(source,epoch,seq,win,reason,body) "
                                         "SELECT source,epoch,seq,win,?2,body FROM inbox "
                                         "WHERE id = ?1"));
  WEIR_TRY(move.bind(1, id).bind(2, reason).run());
  WEIR_TRY_ASSIGN(auto trim, db_.prepare("DELETE FROM inbox_bad WHERE id <= "
                                         "(SELECT max(id) FROM inbox_bad) - ?"));
  return trim.bind(1, kQuarantineRows).run();
}

Result<FoldResult> Store::fold(int64_t before_s) {
  Folding folding;
  const Counts counts_before = counts_;
  const Names::Counts names_before = names_->counts();
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY(read_inbox(before_s, folding));
    if (folding.ids.empty()) return {};
    coalesce(folding.manifest);
    WEIR_TRY(take_coverage(folding));
    WEIR_TRY(write_blocks(folding));
    if (!tier_.last()) WEIR_TRY(write_outbox(folding));
    for (size_t i = 0; i < folding.bad.size(); ++i) WEIR_TRY(quarantine(folding, i));
    WEIR_TRY_ASSIGN(auto erase, db_.prepare("DELETE FROM inbox WHERE id = ?"));
    for (const int64_t id : folding.ids) WEIR_TRY(erase.bind(1, id).run());
    if (!closed_to_s_ && !folding.coarse.empty()) {
      WEIR_TRY(begin_closing_at(folding.coarse.begin()->first.first));
    }
    return {};
  });
  if (!done.ok()) {
    std::string why = done.error().message;
    WEIR_TRY(undo(std::move(done), "fold", counts_before, names_before));
    return FoldResult{.blocked_by = std::move(why), .acks = {}};
  }
  if (folding.ids.empty()) return FoldResult{};
  ++counts_.folds;
  counts_.folded_batches += folding.manifest.empty() ? 0 : folding.ids.size() - folding.bad.size();
  counts_.folded_rows += folding.rows;
  counts_.refused_rows += folding.refused_rows;
  counts_.bad_batches += folding.bad.size();
  counts_.out_batches += folding.out_batches;
  inbox_rows_ -= folding.ids.size();
  inbox_bytes_ -= folding.bytes;
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
                    done = id.ok() ? add_row(folding, last_s, *id, with_added(tier_, labels),
                                             Value(value))
                                   : Status(id.error());
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
