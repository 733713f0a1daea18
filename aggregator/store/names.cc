#include "aggregator/store/names.h"

#include <algorithm>
#include <map>

#include "aggregator/store/labels_codec.h"
#include "common/check.h"
#include "common/hash.h"

namespace weir::aggregator {
namespace {

constexpr uint32_t kIdleWindows = 12;  // coarse ones; then a name is free
constexpr size_t kCatalogPerLimit = 4;

bool is_marked(const Labels& labels) {
  return std::ranges::find(labels, kOverflowLabel, &Label::first) != labels.end();
}

std::vector<LabelView> views_of(const Labels& labels) {
  std::vector<LabelView> out;
  out.reserve(labels.size());
  for (const auto& [name, value] : labels) out.push_back({name, value});
  return out;
}

bool is_same(const Labels& labels, std::span<const LabelView> views) {
  return std::ranges::equal(labels, views, [](const Label& label, const LabelView& view) {
    return label.first == view.name && label.second == view.value;
  });
}

size_t index(Grain grain) { return static_cast<size_t>(grain); }

std::vector<std::string> whose_labels(const Tier& tier) {
  std::vector<std::string> out{"host", "region"};
  for (const auto& [name, value] : tier.add_labels) out.push_back(name);
  out.insert(out.end(), tier.drop_labels.begin(), tier.drop_labels.end());
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace

Names::Names(Catalog& catalog, const Tier& tier, const Limits& limits, size_t catalog_rows,
             const Counts& counts, SeriesReports& reports)
    : catalog_(&catalog),
      tier_(&tier),
      catalog_rows_(catalog_rows),
      whose_(whose_labels(tier)),
      grains_{OfGrain(limits_here(limits)), OfGrain(limits_here(limits))},
      counts_(counts),
      reports_(&reports) {}

// What every row of this tier has does not count, and the catalog bounds all tables.
Limits Names::limits_here(Limits limits) const {
  limits.labels.count += whose_.size();
  limits.whose_labels = whose_;
  limits.series = limits.metrics = SIZE_MAX;
  return limits;
}

Labels Names::whose(const Labels& labels) const {
  Labels out;
  std::ranges::copy_if(labels, std::back_inserter(out),
                       [&](const Label& label) { return is_whose(label.first); });
  return out;
}

bool Names::is_whose(const std::string& label) const {
  return std::ranges::binary_search(whose_, label);
}

// The rows of a metric, grown to those of the catalog. References hold until the next call.
std::vector<Names::Row>& Names::rows_of(uint32_t metric) {
  if (metric >= rows_.size()) rows_.resize(size_t{metric} + 1);
  std::vector<Row>& rows = rows_[metric];
  const size_t count = catalog_->rows(metric);
  while (rows.size() < count) {
    const auto row = static_cast<uint32_t>(rows.size());
    rows.emplace_back().overflow = is_marked(catalog_->labels_of(metric, row));
  }
  return rows;
}

Limiter& Names::limiter_of(Grain grain, uint32_t metric) {
  Limiter& limiter = of(grain).limiter;
  if (!limiter.knows(metric)) limiter.add_metric(metric, catalog_->metric_of(metric).name);
  return limiter;
}

uint32_t Names::place_of(Grain grain, uint32_t metric, uint32_t row) {
  return rows_of(metric)[row].place[index(grain)];
}

Result<Names::Placed> Names::fine(uint32_t metric, const Labels& labels, uint64_t events) {
  WEIR_TRY_ASSIGN(const InGrain out, place(Grain::kFine, metric, labels, events));
  return out.placed;
}

Result<uint32_t> Names::coarse(uint32_t metric, const Labels& labels, uint64_t events) {
  WEIR_TRY_ASSIGN(const InGrain out,
                  place(Grain::kCoarse, metric, without_dropped(*tier_, labels), events));
  return out.placed.row;
}

Result<uint32_t> Names::coarse_of(uint32_t metric, uint32_t fine_row, uint64_t events) {
  const uint32_t known = rows_of(metric)[fine_row].coarse;
  if (const uint32_t place = known != kNone ? place_of(Grain::kCoarse, metric, known) : kNone;
      place != kNone) {
    of(Grain::kCoarse).limiter.hit(place, weight_of(events));
    return known;
  }
  const Labels labels = without_dropped(*tier_, catalog_->labels_of(metric, fine_row));
  WEIR_TRY_ASSIGN(const InGrain out, place(Grain::kCoarse, metric, labels, events));
  if (out.stable) rows_of(metric)[fine_row].coarse = out.placed.row;
  return out.placed.row;
}

bool Names::is_overflow(uint32_t metric, uint32_t row) { return rows_of(metric)[row].overflow; }

Result<Names::InGrain> Names::place(Grain grain, uint32_t metric, const Labels& labels,
                                    uint64_t events) {
  const auto known = catalog_->find_row(metric, encode_labels(labels));
  if (const uint32_t place = known ? place_of(grain, metric, *known) : kNone; place != kNone) {
    of(grain).limiter.hit(place, weight_of(events));
    return InGrain{{*known, false}, true};
  }
  if (is_marked(labels)) return overflow(grain, metric, labels);
  return contend(grain, metric, labels, known, events);
}

Result<Names::InGrain> Names::contend(Grain grain, uint32_t metric, const Labels& labels,
                                      std::optional<uint32_t> known, uint64_t events) {
  Limiter& limiter = limiter_of(grain, metric);
  const auto views = views_of(labels);
  const Limiter::Fitted fitted = limiter.fit(metric, views, weight_of(events));
  if (!fitted.fits) return excess(grain, metric, labels, events);
  const bool rewritten = !is_same(labels, fitted.labels);
  Labels own = labels;
  if (rewritten) {
    ++counts_.rewritten;
    own.clear();
    for (const LabelView& label : fitted.labels) own.emplace_back(label.name, label.value);
    known = catalog_->find_row(metric, encode_labels(own));
    if (const uint32_t place = known ? place_of(grain, metric, *known) : kNone; place != kNone) {
      if (!fitted.stable) report(grain, metric, views, events);  // a value became "__other__"
      limiter.hit(place, weight_of(events));
      return InGrain{{*known, false}, fitted.stable};
    }
  }
  if (!known && !has_room(grain, metric)) {
    ++counts_.catalog_full;
    return excess(grain, metric, labels, events);
  }
  const uint64_t random = hash64(++draws_, process_seed());
  const auto admission = limiter.admit(metric, fitted.labels, weight_of(events), random);
  if (!admission.named) return excess(grain, metric, labels, events);
  if (admission.victim) take_name(grain, *admission.victim);
  if (!known) {
    WEIR_TRY_ASSIGN(known, catalog_->add_row(metric, encode_labels(own), own));
  }
  if (rewritten && !fitted.stable) report(grain, metric, views, events);
  give_name(grain, metric, *known, fitted.labels, events);
  return InGrain{{*known, false}, fitted.stable};
}

bool Names::has_room(Grain grain, uint32_t metric) {
  const size_t limit = limiter_of(grain, metric).state(metric).limit;
  size_t most = std::max(catalog_rows_, kCatalogPerLimit * limit);
  most = std::min(most, Catalog::kMaxRows) - 1;  // one is kept for the last overflow row
  if (grain == Grain::kFine) most -= most / 4;
  return catalog_->rows(metric) < most;
}

void Names::report(Grain grain, uint32_t metric, std::span<const LabelView> labels,
                   uint64_t events) {
  const std::string& name = catalog_->metric_of(metric).name;
  if (!name.starts_with("weir_")) (*reports_)[index(grain)].refused(name, labels, events);
}

Result<Names::InGrain> Names::excess(Grain grain, uint32_t metric, const Labels& labels,
                                     uint64_t events) {
  ++counts_.overflow[index(grain)];
  report(grain, metric, views_of(labels), events);
  return overflow(grain, metric, labels);
}

// Overflow rows are few, one for each sender, and never give way; where even they find no row, all
// share one.
Result<Names::InGrain> Names::overflow(Grain grain, uint32_t metric, const Labels& labels) {
  const auto marked = [](Labels out) {
    out.insert(std::ranges::lower_bound(out, kOverflowLabel, {}, &Label::first),
               {kOverflowLabel, "true"});
    return out;
  };
  const bool from_below = is_marked(labels);  // "scale": edges keep values apart by it
  Labels whose;
  std::ranges::copy_if(labels, std::back_inserter(whose), [&](const Label& label) {
    return is_whose(label.first) ||
           (from_below && label.first == "scale" && label.second.size() == 1);
  });
  whose = marked(std::move(whose));
  Bytes key = encode_labels(whose);
  auto row = catalog_->find_row(metric, key);
  if (!row && !has_room(grain, metric)) {
    whose = marked(tier_->add_labels);
    key = encode_labels(whose);
    row = catalog_->find_row(metric, key);
  }
  if (!row) {
    WEIR_TRY_ASSIGN(row, catalog_->add_row(metric, key, whose));
  }
  return InGrain{{*row, true}, false};
}

void Names::give_name(Grain grain, uint32_t metric, uint32_t row, std::span<const LabelView> labels,
                      uint64_t weight) {
  OfGrain& names = of(grain);
  auto place = static_cast<uint32_t>(names.rows.size());
  if (names.free.empty()) {
    names.rows.emplace_back(metric, row);
  } else {
    place = names.free.back();
    names.free.pop_back();
    names.rows[place] = {metric, row};
  }
  rows_of(metric)[row].place[index(grain)] = place;
  names.limiter.add(place, metric, labels);
  names.limiter.hit(place, weight);
}

void Names::take_name(Grain grain, uint32_t place) {
  OfGrain& names = of(grain);
  const auto [metric, row] = names.rows[place];
  rows_of(metric)[row].place[index(grain)] = kNone;
  names.free.push_back(place);
  ++counts_.evicted[index(grain)];
}

// A row that limits would not let in now stays without a name, until it comes and contends.
void Names::restore(Grain grain, uint32_t metric, std::vector<std::pair<uint32_t, uint64_t>> used) {
  std::ranges::sort(used, [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  Limiter& limiter = limiter_of(grain, metric);
  const std::vector<Row>& rows = rows_of(metric);
  for (const auto& [row, weight] : used) {
    const auto state = limiter.state(metric);
    if (state.rows >= state.limit) return;
    if (row >= rows.size() || rows[row].overflow) continue;
    const Labels& labels = catalog_->labels_of(metric, row);
    const auto views = views_of(labels);
    const Limiter::Fitted fitted = limiter.fit(metric, views, 0);
    if (!fitted.fits || !is_same(labels, fitted.labels)) continue;
    give_name(grain, metric, row, fitted.labels, weight);
  }
}

// Of metrics without excess, those that have used a quarter of their limit.
void Names::publish(UnixTime when, uint64_t source,
                    const std::function<void(const Metric&, const Labels&, const Value&)>& record) {
  for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
    const Limiter& limiter = of(grain).limiter;
    SeriesReport& report = (*reports_)[index(grain)];
    std::map<std::string, uint32_t, std::less<>> worth;
    for (const uint32_t metric : catalog_->metric_ids()) {
      const std::string& name = catalog_->metric_of(metric).name;
      if (!limiter.knows(metric) || name.starts_with("weir_")) continue;
      const auto state = limiter.state(metric);
      const bool many = state.rows >= std::max(SeriesReport::kWorthAReport, state.limit / 4);
      if (many || report.knows(name)) worth.emplace(name, metric);
    }
    for (uint32_t place = 0; place < of(grain).rows.size(); ++place) {
      const auto [metric, row] = of(grain).rows[place];
      const std::string& name = catalog_->metric_of(metric).name;
      if (limiter.is_active(place) && worth.contains(name)) {
        report.named(name, catalog_->labels_of(metric, row));
      }
    }
    const auto state_of = [&](std::string_view name) {
      const auto at = worth.find(name);
      return SeriesReport::State{at == worth.end() ? 0 : limiter.state(at->second).rows};
    };
    report.publish(when, source, state_of,
                   [&](const Metric& metric, std::span<const LabelView> views, const Value& value) {
                     Labels labels{{"grain", grain == Grain::kFine ? "fine" : "coarse"},
                                   {"tier", tier_->kind}};
                     for (const LabelView& label : views) {
                       labels.emplace_back(label.name, label.value);
                     }
                     std::ranges::sort(labels);
                     record(metric, labels, value);
                   });
  }
}

void Names::set_limits(const Limits& limits) {
  for (OfGrain& grain : grains_) grain.limiter.set_limits(limits_here(limits));
}

void Names::close_window() {
  for (const Grain grain : {Grain::kFine, Grain::kCoarse}) {
    for (const uint32_t place : of(grain).limiter.close(kIdleWindows)) take_name(grain, place);
  }
}

bool Names::is_named(Grain grain, uint32_t metric, uint32_t row) const {
  return metric < rows_.size() && row < rows_[metric].size() &&
         rows_[metric][row].place[index(grain)] != kNone;
}

size_t Names::named(Grain grain) const { return of(grain).rows.size() - of(grain).free.size(); }

Names::Counts Names::counts() const {
  Counts out = counts_;
  for (const OfGrain& grain : grains_) {
    const LimitCounts& dry = grain.limiter.dry_run_counts();
    out.dry_run += dry.many_labels + dry.cut_texts + dry.other_values + dry.metric_full;
  }
  return out;
}

}  // namespace weir::aggregator
