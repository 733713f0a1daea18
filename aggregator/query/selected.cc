#include "aggregator/query/selected.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <span>

#include <fmt/format.h>

#include "aggregator/query/matcher.h"
#include "aggregator/query/unnamed.h"
#include "common/limiter.h"

namespace weir::aggregator {
namespace {

constexpr std::string_view kHostLabel = "host";

int64_t floor_seconds(int64_t ms) { return (ms - ((ms % 1000) + 1000) % 1000) / 1000; }

int64_t ceil_seconds(int64_t ms) { return floor_seconds(ms + 999); }

Labels with_name(const Labels& labels, const std::string& name) {
  Labels named = labels;
  named.emplace_back(kNameLabel, name);
  std::ranges::sort(named);
  return named;
}

// The windows a span holds are neighbours: everything from the first end after span.after_ms.
std::span<const WindowValue> from_first(const std::vector<WindowValue>& windows, const Span& span) {
  const auto first = std::ranges::partition_point(
      windows, [&](const WindowValue& w) { return w.window.end_s() * 1000 <= span.after_ms; });
  return {first, windows.end()};
}

bool is_cumulative(Kind kind) { return kind != Kind::kGauge; }

// Sums the windows a span holds. Null: there are none.
class DeltaSum {
 public:
  explicit DeltaSum(const Metric& metric) : metric_(metric) {}

  Status add(const Value& value) {
    if (const auto* distribution = std::get_if<Distribution>(&value)) {
      if (sum_ == nullptr) {
        sum_ = std::make_unique<Distribution>(*distribution);
        return {};
      }
      return add_distribution(*sum_, *distribution);
    }
    if (const auto* distinct = std::get_if<Distinct>(&value)) {
      if (members_ != nullptr) return members_->merge(*distinct);
      members_ = std::make_unique<Distinct>(*distinct);
      return {};
    }
    if (const auto* topk = std::get_if<Topk>(&value)) {
      if (keys_ != nullptr) return keys_->merge(*topk);
      keys_ = std::make_unique<Topk>(*topk);
      return {};
    }
    const Number number = number_of(value, metric_);
    const auto* exact = std::get_if<Exact>(&number);
    WEIR_CHECK(exact != nullptr);
    if (any_) {
      total_.quanta += exact->quanta;  // sums of 64-bit deltas: no query reads 2^63 of them
    } else {
      total_ = *exact;
    }
    any_ = true;
    return {};
  }

  [[nodiscard]] bool any() const {
    return any_ || sum_ != nullptr || members_ != nullptr || keys_ != nullptr;
  }

  [[nodiscard]] Number take(FunctionId function, int64_t divisor_milli) {
    if (sum_ != nullptr) return Histogram{std::move(sum_), divisor_milli};
    if (members_ != nullptr) return Members{std::move(members_)};
    if (keys_ != nullptr) {
      Keys keys{std::move(keys_), metric_.quantum};
      if (function == FunctionId::kIncrease) return keys;
      total_ = keys.events();
    }
    total_.divisor_milli = divisor_milli;
    return total_;
  }

 private:
  const Metric& metric_;
  std::unique_ptr<Distribution> sum_;
  std::unique_ptr<Distinct> members_;
  std::unique_ptr<Topk> keys_;
  Exact total_;
  bool any_ = false;
};

SelectRequest request_of(const SelectorNode& node, const LabelNeed& need,
                         const EvalOptions& options, int64_t reach_ms, uint32_t finest_s) {
  SelectRequest request;
  request.metric = node.metric;
  request.matchers = node.matchers;
  request.range.from_s = floor_seconds(options.start_ms - node.offset_ms - reach_ms);
  request.range.to_s = ceil_seconds(options.end_ms - node.offset_ms);
  request.with_truth = true;
  request.label_use = need.use;
  request.label_names = need.names;
  request.needs_all_labels = need.use == LabelUse::kAll;
  if (node.range_ms == 0) {
    request.step_s = finest_s;  // "the last window" must not depend on the planner
  } else if (options.step_ms > 0) {
    // Windows of this width, or of a width that divides it, have an edge at every edge of every
    // step; wider ones would put two steps' deltas into one.
    const int64_t edge_ms =
        std::gcd(std::gcd(options.start_ms - node.offset_ms, options.step_ms), node.range_ms);
    const bool whole_seconds = edge_ms % 1000 == 0 && edge_ms / 1000 <= UINT32_MAX;
    request.step_s = whole_seconds ? static_cast<uint32_t>(edge_ms / 1000) : 1;
  }
  return request;
}

}  // namespace

Status Interrupt::tick() {
  if ((++ticks_ & 127) != 0 || !stop_ || !stop_()) return {};
  return Error{Errc::kUnavailable, "query timed out in expression evaluation"};
}

Result<SelectedWindows> SelectedWindows::load(const SelectorNode& node, const LabelNeed& need,
                                              DataSource& source, const EvalOptions& options,
                                              LabelSets& sets, QueryNotes& notes) {
  const auto widths = source.widths();
  const uint32_t finest_s = widths.empty() ? 0 : widths.front();
  const int64_t range_ms = node.range_ms > 0 ? node.range_ms : kLookbackMs;
  int64_t reach_ms = std::max(range_ms, int64_t{finest_s} * 1000);
  auto selection =
      source.select(request_of(node, need, options, reach_ms, finest_s), options.limits);
  if (!selection) return std::move(selection).error();
  Tiling tiling(selection->series, finest_s, options.now_s);
  // Old data may be kept in wider windows only: reach back far enough to meet one. Where finer
  // ones are kept they must show, or an idle moment would be answered from an hour around it.
  const uint32_t wanted_s = !tiling.empty()   ? tiling.coarsest_s()
                            : !widths.empty() ? widths.back()
                                              : 0;
  if (int64_t{wanted_s} * 1000 > reach_ms) {
    reach_ms = int64_t{wanted_s} * 1000;
    SelectRequest again = request_of(node, need, options, reach_ms, finest_s);
    again.step_s = finest_s;
    selection = source.select(again, options.limits);
    if (!selection) return std::move(selection).error();
    tiling = Tiling(selection->series, finest_s, options.now_s);
  }
  SelectedWindows out;
  out.node_ = node;
  const Metric* first = nullptr;
  for (auto& one : selection->series) {
    if (first == nullptr) first = one.metric.get();
    if (one.metric->name == first->name && *one.metric != *first) {
      notes.warnings.insert(
          fmt::format("metric \"{}\" is kept with more than one kind or unit: "
                      "{} in \"{}\" and {} in \"{}\"",
                      first->name, kind_name(first->kind), first->unit, kind_name(one.metric->kind),
                      one.metric->unit));
    }
    out.series_.push_back({.metric = one.metric,
                           .named = sets.intern(with_name(one.labels, one.metric->name)),
                           .nameless = sets.intern(one.labels),
                           .windows = std::move(one.windows)});
  }
  notes.warnings.insert(selection->notes.warnings.begin(), selection->notes.warnings.end());
  notes.damaged_blocks += selection->notes.damaged_blocks;
  add_truth(notes, selection->notes);
  out.left_out_ = std::move(selection->unnamed);
  out.find_unnamed(sets, notes);
  if (!tiling.empty()) {
    notes.finest_width_s = notes.finest_width_s == 0
                               ? tiling.finest_s()
                               : std::min(notes.finest_width_s, tiling.finest_s());
    notes.coarsest_width_s = std::max(notes.coarsest_width_s, tiling.coarsest_s());
    notes.open_window = notes.open_window || tiling.has_open();
  }
  out.tiling_ = std::move(tiling);
  return out;
}

// Series times rows of unnamed events that are compared; of more, only the metric's sum is told.
constexpr size_t kMostPairs = 1'000'000;

// Most queries meet none.
void SelectedWindows::find_unnamed(const LabelSets& sets, QueryNotes& notes) {
  std::map<std::string_view, std::vector<uint32_t>> by_host;  // those of one host are its own
  std::map<std::string, Overflow> overflow;
  const auto add = [&](const Metric& metric, const Labels& labels, bool selected, size_t at) {
    if (metric.kind == Kind::kGauge) return;  // neither sums nor events
    has_unnamed_sketches_ =
        has_unnamed_sketches_ || metric.kind == Kind::kDistinct || metric.kind == Kind::kTopk;
    by_host[label_value(labels, kHostLabel)].push_back(static_cast<uint32_t>(unnamed_.size()));
    unnamed_.push_back({selected, at, notes.unnamed_rows++});
    overflow[metric.name].metric = metric.name;
  };
  for (size_t i = 0; i < series_.size(); ++i) {
    const Labels& labels = sets[series_[i].nameless];
    if (is_unnamed(labels)) add(*series_[i].metric, labels, true, i);
  }
  for (size_t i = 0; i < left_out_.size(); ++i) {
    add(*left_out_[i].metric, left_out_[i].labels, false, i);
  }
  if (unnamed_.empty()) return;
  const auto row_of = [&](uint32_t row) -> std::pair<const Metric&, const Labels&> {
    const UnnamedRow& at = unnamed_[row];
    if (!at.selected) return {*left_out_[at.at].metric, left_out_[at.at].labels};
    return {*series_[at.at].metric, sets[series_[at.at].nameless]};
  };
  unattributed_ = series_.size() * unnamed_.size() > kMostPairs;
  for (size_t i = 0; i < series_.size() && !unattributed_; ++i) {
    const Labels& labels = sets[series_[i].nameless];
    const bool whole = !label_value(labels, kOverflowLabel).empty();  // nothing more can be its own
    const std::string_view host = label_value(labels, kHostLabel);
    for (const auto& [of, rows] : by_host) {
      if (!of.empty() && !host.empty() && of != host) continue;
      for (const uint32_t row : rows) {
        const bool itself = unnamed_[row].selected && unnamed_[row].at == i;
        const auto& [metric, unnamed] = row_of(row);
        if (itself || (!whole && metric == *series_[i].metric && may_belong(unnamed, labels))) {
          series_[i].unnamed.push_back(row);
        }
      }
    }
    std::ranges::sort(series_[i].unnamed);
  }
  const auto count = [&](const Metric& metric, const std::vector<WindowValue>& windows,
                         bool unnamed) {
    const auto at = overflow.find(metric.name);
    if (at == overflow.end()) return;
    for (const WindowValue& window : windows) {
      const uint64_t events = mass(window.value);
      at->second.total += events;
      if (unnamed) at->second.events += events;
    }
  };
  for (const Series& one : series_) {
    count(*one.metric, one.windows, is_unnamed(sets[one.nameless]));
  }
  for (const SelectedSeries& one : left_out_) count(*one.metric, one.windows, true);
  for (const auto& [name, found] : overflow) {
    if (found.events > 0) add_overflow(notes, found);
  }
}

template <class Holds>
Unnamed SelectedWindows::unnamed_of(size_t at, const Holds& holds) const {
  Unnamed out;
  for (const uint32_t row : series_[at].unnamed) {
    const UnnamedRow& unnamed = unnamed_[row];
    UnnamedPart part{.row = unnamed.id, .included = unnamed.selected && unnamed.at == at};
    const auto& windows =
        unnamed.selected ? series_[unnamed.at].windows : left_out_[unnamed.at].windows;
    for (const auto& [window, value] : windows) {
      if (!holds(window)) continue;
      if (const auto* distribution = std::get_if<Distribution>(&value)) {
        part.quanta += distribution->count();
        part.sum += distribution->sum();
      } else if (const Number n = number_of(value, *series_[at].metric);
                 const auto* exact = std::get_if<Exact>(&n)) {
        part.quanta += exact->quanta;
      }
    }
    if (part.included || part.quanta > 0) out.parts.push_back(part);
  }
  return out;
}

Result<Vector> SelectedWindows::instant_at(int64_t time_ms, Interrupt& interrupt,
                                           QueryNotes& notes) const {
  const auto span = tiling_.span_at(time_ms - node_.offset_ms, kLookbackMs);
  if (!span) return Vector{};
  Vector out;
  for (size_t i = 0; i < series_.size(); ++i) {
    const Series& series = series_[i];
    WEIR_TRY(interrupt.tick());
    const WindowValue* last = nullptr;
    for (const auto& candidate : from_first(series.windows, *span)) {
      if (!span->holds(candidate.window)) continue;
      // A delta that is still growing answers only when there is no finished one.
      const bool growing = is_cumulative(series.metric->kind) && span->open(candidate.window);
      if (last == nullptr || !growing) last = &candidate;
    }
    if (last == nullptr) continue;
    out.push_back({series.named, number_of(last->value, *series.metric), std::nullopt,
                   unnamed_of(i, [&](const Window& window) { return window == last->window; })});
    if (is_cumulative(series.metric->kind)) {
      const bool is_set = series.metric->kind == Kind::kDistinct;
      notes.infos.insert(
          fmt::format("\"{}\" is a {}: a bare selector answers what its last window added; use {}",
                      series.metric->name, kind_name(series.metric->kind),
                      is_set ? "increase()" : "rate() or increase()"));
    }
  }
  return out;
}

Result<Vector> SelectedWindows::delta_at(FunctionId function, int64_t time_ms, Interrupt& interrupt,
                                         QueryNotes& notes) const {
  const bool is_rate = function == FunctionId::kRate;
  const std::string_view name = is_rate ? "rate" : "increase";
  const auto span = tiling_.span_at(time_ms - node_.offset_ms, node_.range_ms);
  if (!span) return Vector{};
  if (span->widened) {
    if (!is_rate) {
      notes.warnings.insert(fmt::format(
          "increase: the range {} is shorter than the windows kept ({}): points are left out",
          duration_text(node_.range_ms), duration_text(int64_t{span->widest_s} * 1000)));
      return Vector{};
    }
    notes.infos.insert(
        fmt::format("rate: the range {} is shorter than the windows kept, so it was taken over {}",
                    duration_text(node_.range_ms), duration_text(int64_t{span->widest_s} * 1000)));
  }
  Vector out;
  for (size_t i = 0; i < series_.size(); ++i) {
    const Series& series = series_[i];
    WEIR_TRY(interrupt.tick());
    if (!is_cumulative(series.metric->kind)) {
      notes.warnings.insert(
          fmt::format("{}: \"{}\" is a gauge and is left out", name, series.metric->name));
      continue;
    }
    if (is_rate && series.metric->kind == Kind::kDistinct) {
      notes.warnings.insert(fmt::format(
          "rate: \"{}\" is a set of members and is left out; increase gives their union",
          series.metric->name));
      continue;
    }
    DeltaSum sum(*series.metric);
    for (const auto& candidate : from_first(series.windows, *span)) {
      if (!span->holds(candidate.window)) continue;
      if (auto added = sum.add(candidate.value); !added) return std::move(added).error().with(name);
    }
    if (!sum.any()) continue;
    out.push_back({series.nameless, sum.take(function, is_rate ? span->covered_ms : 1000),
                   std::nullopt,
                   unnamed_of(i, [&](const Window& window) { return span->holds(window); })});
  }
  return out;
}

std::vector<ResultSeries> SelectedWindows::points_at(int64_t time_ms, const LabelSets& sets) const {
  std::vector<ResultSeries> out;
  const auto span = tiling_.span_at(time_ms - node_.offset_ms, node_.range_ms);
  if (!span) return out;
  for (const auto& series : series_) {
    ResultSeries result{.labels = sets[series.named], .points = {}};
    for (const auto& [window, value] : from_first(series.windows, *span)) {
      if (!span->holds(window)) continue;
      ResultPoint point{.time_ms = window.end_s() * 1000, .value = 0.0, .bound = {}};
      set_value(point, number_of(value, *series.metric));
      result.points.push_back(std::move(point));
    }
    if (!result.points.empty()) out.push_back(std::move(result));
  }
  return out;
}

std::string duration_text(int64_t ms) {
  struct Unit {
    int64_t ms;
    std::string_view name;
  };

  static constexpr std::array kUnits =
      std::to_array<Unit>({{86'400'000, "d"}, {3'600'000, "h"}, {60'000, "m"}, {1000, "s"}});
  for (const auto& unit : kUnits) {
    if (ms >= unit.ms && ms % unit.ms == 0) return fmt::format("{}{}", ms / unit.ms, unit.name);
  }
  return fmt::format("{}ms", ms);
}

}  // namespace weir::aggregator
