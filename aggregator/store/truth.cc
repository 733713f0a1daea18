#include "aggregator/store/truth.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "common/own_metrics.h"

namespace weir::aggregator {
namespace {

SelectRequest narrowed(const SelectRequest& request) {
  SelectRequest out;
  out.range = request.range;
  std::ranges::copy_if(request.matchers, std::back_inserter(out.matchers),
                       [](const Matcher& m) { return m.label == "host" || m.label == "region"; });
  out.needs_all_labels = false;
  out.label_use = LabelUse::kOnly;
  return out;
}

uint64_t sum_of(const SelectedSeries& series) {
  uint64_t sum = 0;
  for (const auto& [window, value] : series.windows) {
    if (const auto* counter = std::get_if<Counter>(&value)) sum += counter->delta;
  }
  return sum;
}

}  // namespace

Result<std::unique_ptr<Truth>> Truth::open(const Tier& tier, const WindowNumbers& numbers,
                                           const SelectRequest& request,
                                           const QueryLimits& limits) {
  Requests requests{.coverage = narrowed(request), .losses = narrowed(request)};
  requests.coverage.matchers.push_back(
      {"__name__", MatchOp::kRegex,
       std::string(kSourceWindows) + "|" + kSourceWindowsMissing + "|" + kSourceWindowsRecovered});
  requests.losses.metric = kDropped;
  requests.losses.label_names = {"reason", "where"};
  WEIR_TRY_ASSIGN(auto coverage, compile_matchers(requests.coverage.matchers));
  WEIR_TRY_ASSIGN(auto losses, compile_matchers(requests.losses.matchers));
  return std::unique_ptr<Truth>(new Truth(tier, numbers, std::move(requests), std::move(coverage),
                                          std::move(losses), limits));
}

Truth::Truth(const Tier& tier, const WindowNumbers& numbers, Requests requests,
             std::vector<LabelMatcher> coverage, std::vector<LabelMatcher> losses,
             const QueryLimits& limits)
    : requests_(std::move(requests)),
      coverage_(tier, numbers, requests_.coverage, std::move(coverage), limits),
      losses_(tier, numbers, requests_.losses, std::move(losses), limits) {}

void Truth::set_times(int64_t now_s, int64_t fine_from_s, int64_t coarse_from_s) {
  coverage_.set_times(now_s, fine_from_s, coarse_from_s);
  losses_.set_times(now_s, fine_from_s, coarse_from_s);
}

bool Truth::wants(const Metric& metric) const {
  return !too_much_ && (coverage_.wants(metric) || losses_.wants(metric));
}

Status Truth::read_blocks(Statement& blocks, uint32_t id, const SnapshotCatalog::Rows& rows) {
  Select& select = losses_.wants(*rows.metric) ? losses_ : coverage_;
  Status read = select.read_blocks(blocks, id, rows);
  if (!read.ok()) blocks.reset();
  return unless_too_much(std::move(read));
}

// What is asked beside a query never fails it: beyond a limit the coverage is not known, and said
// to be so.
Status Truth::unless_too_much(Status read) {
  if (read.ok() || read.error().code != Errc::kLimit) return read;
  too_much_ = true;
  return {};
}

Status Truth::add_batch(DecodedBatch& batch, const SnapshotCatalog& catalog) {
  if (too_much_) return {};
  return unless_too_much(losses_.add_batch(batch, catalog, Select::Use::kCopy));
}

void Truth::finish(SelectNotes& notes) {
  if (too_much_) {
    notes.warnings.emplace_back(
        "coverage: not known, there are more sources in the range than a query may read");
    return;
  }
  std::map<std::string, uint64_t> sums;
  const Selection coverage = coverage_.finish();
  for (const SelectedSeries& series : coverage.series) sums[series.metric->name] += sum_of(series);
  const uint64_t merged = sums[kSourceWindows];
  const uint64_t ever = merged + sums[kSourceWindowsMissing];
  const uint64_t recovered = std::min(sums[kSourceWindowsRecovered], ever);
  notes.coverage = {merged, std::max(merged, ever - recovered)};
  std::map<std::pair<std::string, std::string>, uint64_t> losses;
  const Selection lost = losses_.finish();
  for (const SelectedSeries& series : lost.series) {
    losses[{std::string(label_value(series.labels, "where")),
            std::string(label_value(series.labels, "reason"))}] += sum_of(series);
  }
  for (const auto& [label, events] : losses) {
    if (events > 0) notes.losses.push_back({label.first, label.second, events});
  }
  const uint64_t damaged = coverage.notes.damaged_blocks + lost.notes.damaged_blocks;
  if (damaged > 0) {
    notes.damaged_blocks += damaged;
    notes.warnings.push_back(std::to_string(damaged) +
                             " damaged blocks of Weir's own counters were left out: coverage and "
                             "losses are not certain");
  }
}

}  // namespace weir::aggregator
