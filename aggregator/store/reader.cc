#include "aggregator/store/reader.h"

#include <algorithm>
#include <map>
#include <set>

#include "aggregator/query/matcher.h"
#include "aggregator/store/blocks.h"
#include "aggregator/store/labels_codec.h"
#include "aggregator/store/planner.h"
#include "aggregator/store/schema.h"
#include "aggregator/store/series_set.h"
#include "common/batch.h"
#include "common/crc32c.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kNameLabel = "__name__";

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// One select from its first window to its last.
class Select {
 public:
  Select(const Tier& tier, const WindowNumbers& numbers, const SelectRequest& request,
         std::vector<LabelMatcher> matchers, const QueryLimits& limits)
      : tier_(tier),
        numbers_(numbers),
        request_(request),
        matchers_(std::move(matchers)),
        set_(limits) {
    input_.in_s = tier.in_s;
    input_.out_s = tier.out_s;
    input_.range = request.range;
    for (const Matcher& matcher : request.matchers) {
      matches_dropped_ =
          matches_dropped_ || std::ranges::binary_search(tier.drop_labels, matcher.label);
    }
  }

  void set_times(int64_t now_s, int64_t fine_from_s, int64_t coarse_from_s) {
    input_.now_s = now_s;
    input_.fine_from_s = fine_from_s;
    input_.coarse_from_s = coarse_from_s;
  }

  [[nodiscard]] bool wants(const Metric& metric) const {
    if (!request_.metric.empty() && metric.name != request_.metric) return false;
    return std::ranges::all_of(matchers_, [&](const LabelMatcher& m) {
      return m.matcher().label != kNameLabel || m.matches(metric.name);
    });
  }

  // How this select reads one metric: which windows, and which labels its series keep.
  struct Reading {
    Plan plan;
    bool project = false;  // series lose the dropped labels, in fine windows too
  };

  Reading reading_of(const Metric& metric) {
    Reading out;
    out.project = std::ranges::none_of(tier_.drop_labels, [&](const std::string& label) {
      return needs_label(request_, metric.kind, label);
    });
    PlanInput input = input_;
    const bool step_fits = request_.step_s == 0 || request_.step_s % tier_.out_s == 0;
    // Matchers on dropped labels need the fine windows even when the result does not.
    input.prefer_coarse = out.project && !matches_dropped_ && step_fits;
    out.plan = plan_windows(input);
    if (out.plan.fine_missing && !tier_.drop_labels.empty() && !out.project) {
      lacks_labels_ = true;
      if (matches_dropped_) {  // nothing to match against: no answer is better than a wrong one
        std::erase_if(out.plan.spans,
                      [](const WindowSpan& span) { return span.grain == Grain::kCoarse; });
      }
    }
    for (const WindowSpan& span : out.plan.spans) {
      const uint32_t width = span.grain == Grain::kFine ? tier_.in_s : tier_.out_s;
      finest_s_ = std::min(finest_s_, width);
    }
    return out;
  }

  // The series of this select that `labels` belongs to, or none.
  std::optional<SeriesSet::Slot> slot_of(const std::shared_ptr<const Metric>& metric,
                                         const Reading& reading, const Labels& labels) {
    if (!std::ranges::all_of(
            matchers_, [&](const LabelMatcher& m) { return m.matches(metric->name, labels); })) {
      return std::nullopt;
    }
    return reading.project ? set_.slot(metric, without_dropped(tier_, labels))
                           : set_.slot(metric, labels);
  }

  Status read_blocks(Statement& blocks, uint32_t id, const SnapshotCatalog::Rows& rows) {
    const Reading reading = reading_of(*rows.metric);
    std::vector<std::optional<SeriesSet::Slot>> slots;
    slots.reserve(rows.labels.size());
    bool any = false;
    for (const Labels& labels : rows.labels) {
      slots.push_back(slot_of(rows.metric, reading, labels));
      any = any || slots.back().has_value();
    }
    if (!any) return {};
    for (const WindowSpan& span : reading.plan.spans) {
      WEIR_TRY(read_span(blocks, id, *rows.metric, span, slots));
    }
    return {};
  }

  Status read_inbox(Statement& inbox, const SnapshotCatalog& catalog) {
    // No coarse window reaches further to either side than this.
    inbox.bind(1, window_at(request_.range.from_s, tier_.out_s).start_s);
    inbox.bind(2, std::max(request_.range.to_s, request_.range.from_s));
    for (;;) {
      WEIR_TRY_ASSIGN(const bool more, inbox.step());
      if (!more) return {};
      const ByteView body = inbox.blob(1);
      auto batch = crc32c(body) == static_cast<uint32_t>(inbox.integer(0))
                       ? decode_batch(body)
                       : Result<DecodedBatch>(invalid("CRC does not match"));
      if (!batch.ok() || batch->window.width_s != tier_.in_s) {
        ++damaged_;
        continue;
      }
      add_batch(*std::move(batch), catalog);
      WEIR_TRY(set_.status());
    }
  }

  Selection finish() {
    Selection out;
    out.notes.finest_width_s = std::min(finest_s_, tier_.out_s);
    out.notes.damaged_blocks = damaged_;
    if (damaged_ > 0) {
      out.notes.warnings.push_back(std::to_string(damaged_) +
                                   " damaged blocks were left out: the answer is too low");
    }
    if (set_.unmerged() > 0) {
      out.notes.warnings.push_back(
          std::to_string(set_.unmerged()) +
          " rows beyond a limit of their kind were left out: the answer is too low");
    }
    if (lacks_labels_) {
      out.notes.warnings.push_back(
          "before " + std::to_string(input_.fine_from_s) + " (Unix time) the labels [" +
          joined(tier_.drop_labels) + "] are not kept: " +
          (matches_dropped_ ? "no data is shown there" : "series there lack them"));
    }
    out.series = set_.take();
    return out;
  }

 private:
  Status read_span(Statement& blocks, uint32_t id, const Metric& metric, const WindowSpan& span,
                   const std::vector<std::optional<SeriesSet::Slot>>& slots) {
    const uint32_t width = span.grain == Grain::kFine ? tier_.in_s : tier_.out_s;
    blocks.bind(1, BlockKey{span.grain, id, numbers_.number(span.from_s, width), 0, 0}.packed());
    blocks.bind(2, BlockKey{span.grain, id, numbers_.number(span.to_s, width), 0, 0}.packed());
    for (;;) {
      WEIR_TRY_ASSIGN(const bool more, blocks.step());
      if (!more) return {};
      const BlockKey key = unpack_key(blocks.integer(0));
      const size_t first = size_t{key.shard} * kRowsPerShard;
      const size_t last = std::min(slots.size(), first + kRowsPerShard);
      bool any = false;
      for (size_t row = first; row < last && !any; ++row) any = slots[row].has_value();
      if (!any) continue;
      const StoredBlock block{.key = key,
                              .codec = static_cast<uint8_t>(blocks.integer(1)),
                              .rows = static_cast<uint32_t>(blocks.integer(2)),
                              .raw_len = blocks.unsigned_integer(3),
                              .crc = static_cast<uint32_t>(blocks.integer(4)),
                              .body = blocks.blob(5)};
      const Window window{numbers_.start_s(key.window, width), width};
      const auto read = decode_stored(metric, block, [&](uint32_t row, Value&& value) {
        if (row < slots.size() && slots[row]) set_.add(*slots[row], window, std::move(value));
      });
      if (!read.ok()) ++damaged_;
      WEIR_TRY(set_.status());
    }
  }

  // Where a fine window of the inbox belongs in a plan.
  [[nodiscard]] std::optional<Window> placed(const Plan& plan, const Window& fine) const {
    for (const WindowSpan& span : plan.spans) {
      const Window window =
          span.grain == Grain::kFine ? fine : window_at(fine.start_s, tier_.out_s);
      if (span.from_s <= window.start_s && window.start_s < span.to_s) return window;
    }
    return std::nullopt;
  }

  void add_batch(DecodedBatch&& batch, const SnapshotCatalog& catalog) {
    struct Source {
      std::shared_ptr<const Metric> metric;  // null: not wanted
      Reading reading;
      std::optional<Window> window;
    };

    std::vector<Source> sources;
    for (Metric& metric : batch.metrics) {
      Source source;
      if (wants(metric)) {
        source.metric = shared(std::move(metric), catalog);
        source.reading = reading_of(*source.metric);
        source.window = placed(source.reading.plan, batch.window);
      }
      sources.push_back(std::move(source));
    }
    for (DecodedRow& row : batch.rows) {
      const Source& source = sources[row.metric];
      if (!source.metric || !source.window) continue;
      const auto slot =
          slot_of(source.metric, source.reading, with_added(tier_, std::move(row.labels)));
      if (slot) set_.add(*slot, *source.window, std::move(row.value));
    }
  }

  // One copy per metric: the catalog's, or this select's own for one that was never folded.
  std::shared_ptr<const Metric> shared(Metric&& metric, const SnapshotCatalog& catalog) {
    if (auto known = catalog.find(metric)) return known;
    auto& own = unfolded_[metric];
    if (!own) own = std::make_shared<const Metric>(std::move(metric));
    return own;
  }

  const Tier& tier_;
  const WindowNumbers& numbers_;
  const SelectRequest& request_;
  std::vector<LabelMatcher> matchers_;
  SeriesSet set_;
  PlanInput input_;
  std::map<Metric, std::shared_ptr<const Metric>> unfolded_;
  bool matches_dropped_ = false;
  bool lacks_labels_ = false;
  uint32_t finest_s_ = UINT32_MAX;
  uint64_t damaged_ = 0;
};

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(const std::string& path, const Tier& tier,
                                             const Clock& clock) {
  WEIR_TRY_ASSIGN(auto db, Database::open(path, {.mode = OpenMode::kReadOnly}));
  std::unique_ptr<Reader> reader(new Reader(std::move(db), tier, clock));
  if (auto done = reader->prepare(); !done.ok()) return std::move(done).error().with(path);
  return reader;
}

Status Reader::prepare() {
  WEIR_TRY_ASSIGN(numbers_, read_schema(db_, tier_));
  WEIR_TRY_ASSIGN(catalog_, SnapshotCatalog::open(db_));
  WEIR_TRY_ASSIGN(held_, db_.prepare("SELECT held_from FROM tier ORDER BY id"));
  WEIR_TRY_ASSIGN(blocks_, db_.prepare("SELECT key,codec,rows,raw_len,crc,body FROM block "
                                       "WHERE key >= ? AND key < ? ORDER BY key"));
  WEIR_TRY_ASSIGN(inbox_, db_.prepare("SELECT crc,body FROM inbox WHERE win >= ? AND win < ? "
                                      "ORDER BY id"));
  return {};
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

Result<Selection> Reader::select(const SelectRequest& request, const QueryLimits& limits) {
  WEIR_TRY_ASSIGN(auto matchers, compile_matchers(request.matchers));
  Select select(tier_, numbers_, request, std::move(matchers), limits);
  Status done = db_.transaction([&]() -> Status {
    WEIR_TRY_ASSIGN(const Held kept, held());
    select.set_times(unix_seconds(clock_->now()), kept.fine_from_s, kept.coarse_from_s);
    WEIR_TRY(catalog_->refresh());
    for (const auto& [id, rows] : catalog_->metrics()) {
      if (!select.wants(*rows.metric)) continue;
      WEIR_TRY(catalog_->refresh_rows(id));
      Status read = select.read_blocks(blocks_, id, rows);
      blocks_.reset();  // a limit may have stopped it in the middle
      WEIR_TRY(std::move(read));
    }
    Status read = select.read_inbox(inbox_, *catalog_);
    inbox_.reset();
    return read;
  });
  if (!done.ok()) return std::move(done).error();
  return select.finish();
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
