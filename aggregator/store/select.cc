#include "aggregator/store/select.h"

#include <algorithm>
#include <string>
#include <utility>

#include "aggregator/query/unnamed.h"
#include "aggregator/store/blocks.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kNameLabel = "__name__";

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

Select::Select(const Tier& tier, const WindowNumbers& numbers, const SelectRequest& request,
               std::vector<LabelMatcher> matchers, const QueryLimits& limits)
    : tier_(tier),
      numbers_(numbers),
      request_(request),
      matchers_(std::move(matchers)),
      set_(limits),
      unnamed_(limits) {
  input_.in_s = tier.in_s;
  input_.out_s = tier.out_s;
  input_.range = request.range;
  for (const Matcher& matcher : request.matchers) {
    matches_dropped_ =
        matches_dropped_ || std::ranges::binary_search(tier.drop_labels, matcher.label);
  }
}

void Select::set_times(int64_t now_s, int64_t fine_from_s, int64_t coarse_from_s) {
  input_.now_s = now_s;
  input_.fine_from_s = fine_from_s;
  input_.coarse_from_s = coarse_from_s;
}

bool Select::wants(const Metric& metric) const {
  if (!request_.metric.empty() && metric.name != request_.metric) return false;
  return std::ranges::all_of(matchers_, [&](const LabelMatcher& m) {
    return m.matcher().label != kNameLabel || m.matches(metric.name);
  });
}

Select::Reading Select::reading_of(const Metric& metric) {
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

std::optional<Select::Place> Select::place_of(const std::shared_ptr<const Metric>& metric,
                                              const Reading& reading, const Labels& labels) {
  SeriesSet* set = &set_;
  if (!std::ranges::all_of(
          matchers_, [&](const LabelMatcher& m) { return m.matches(metric->name, labels); })) {
    if (!request_.with_truth || !is_unnamed(labels) ||
        !may_match(matchers_, metric->name, labels)) {
      return std::nullopt;
    }
    set = &unnamed_;
  }
  const SeriesSet::Slot slot =
      set->slot(metric, reading.project ? without_dropped(tier_, labels) : labels);
  return Place{set, slot};
}

Status Select::read_blocks(Statement& blocks, uint32_t id, const SnapshotCatalog::Rows& rows) {
  const Reading reading = reading_of(*rows.metric);
  Places places;
  places.reserve(rows.labels.size());
  bool any = false;
  for (const Labels& labels : rows.labels) {
    places.push_back(place_of(rows.metric, reading, labels));
    any = any || places.back().has_value();
  }
  if (!any) return {};
  for (const WindowSpan& span : reading.plan.spans) {
    WEIR_TRY(read_span(blocks, id, *rows.metric, span, places));
  }
  return {};
}

Status Select::read_span(Statement& blocks, uint32_t id, const Metric& metric,
                         const WindowSpan& span, const Places& places) {
  const uint32_t width = span.grain == Grain::kFine ? tier_.in_s : tier_.out_s;
  blocks.bind(1, BlockKey{span.grain, id, numbers_.number(span.from_s, width), 0, 0}.packed());
  blocks.bind(2, BlockKey{span.grain, id, numbers_.number(span.to_s, width), 0, 0}.packed());
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, blocks.step());
    if (!more) return {};
    const BlockKey key = unpack_key(blocks.integer(0));
    const size_t first = size_t{key.shard} * kRowsPerShard;
    const size_t last = std::min(places.size(), first + kRowsPerShard);
    bool any = false;
    for (size_t row = first; row < last && !any; ++row) any = places[row].has_value();
    if (!any) continue;
    const StoredBlock block{.key = key,
                            .codec = static_cast<uint8_t>(blocks.integer(1)),
                            .rows = static_cast<uint32_t>(blocks.integer(2)),
                            .raw_len = blocks.unsigned_integer(3),
                            .crc = static_cast<uint32_t>(blocks.integer(4)),
                            .body = blocks.blob(5)};
    const Window window{numbers_.start_s(key.window, width), width};
    const auto read = decode_stored(metric, block, [&](uint32_t row, Value&& value) {
      if (row >= places.size() || !places[row]) return;
      places[row]->set->add(places[row]->slot, window, std::move(value));
    });
    if (!read.ok()) ++damaged_;
    WEIR_TRY(set_.status());
    WEIR_TRY(unnamed_.status());
  }
}

// Where a fine window of the inbox belongs in a plan.
std::optional<Window> Select::placed(const Plan& plan, const Window& fine) const {
  for (const WindowSpan& span : plan.spans) {
    const Window window = span.grain == Grain::kFine ? fine : window_at(fine.start_s, tier_.out_s);
    if (span.from_s <= window.start_s && window.start_s < span.to_s) return window;
  }
  return std::nullopt;
}

Status Select::add_batch(DecodedBatch& batch, const SnapshotCatalog& catalog, Use use) {
  struct Source {
    std::shared_ptr<const Metric> metric;  // null: not wanted
    Reading reading;
    std::optional<Window> window;
  };

  std::vector<Source> sources;
  for (const Metric& metric : batch.metrics) {
    Source source;
    if (wants(metric)) {
      source.metric = shared(metric, catalog);
      source.reading = reading_of(*source.metric);
      source.window = placed(source.reading.plan, batch.window);
    }
    sources.push_back(std::move(source));
  }
  for (DecodedRow& row : batch.rows) {
    const Source& source = sources[row.metric];
    if (!source.metric || !source.window) continue;
    Labels labels = use == Use::kTake ? std::move(row.labels) : row.labels;
    Value value = use == Use::kTake ? std::move(row.value) : row.value;
    const auto place =
        place_of(source.metric, source.reading, with_added(tier_, std::move(labels)));
    if (place) place->set->add(place->slot, *source.window, std::move(value));
  }
  WEIR_TRY(set_.status());
  return unnamed_.status();
}

// One copy per metric: the catalog's, or this select's own for one that was never folded.
std::shared_ptr<const Metric> Select::shared(const Metric& metric, const SnapshotCatalog& catalog) {
  if (auto known = catalog.find(metric)) return known;
  auto& own = unfolded_[metric];
  if (!own) own = std::make_shared<const Metric>(metric);
  return own;
}

Selection Select::finish() {
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
  out.unnamed = unnamed_.take();
  return out;
}

}  // namespace weir::aggregator
