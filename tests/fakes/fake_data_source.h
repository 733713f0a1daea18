#pragma once
// A DataSource in memory: series with windows, selected by the same rules as the store. Remembers
// what it was asked.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "aggregator/query/data_source.h"
#include "aggregator/query/matcher.h"
#include "aggregator/query/unnamed.h"

namespace weir::aggregator {

class FakeDataSource final : public DataSource {
 public:
  int64_t now_s = 0;
  std::vector<uint32_t> kept_widths{60};
  SelectNotes notes;
  std::vector<SelectRequest> requests;

  // A second value for the same series and window is merged.
  void add(const Metric& metric, const Labels& labels, const Window& window, const Value& value) {
    auto& shared = metrics_[metric];
    if (!shared) shared = std::make_shared<const Metric>(metric);
    auto& windows = series_[{metric, labels}];
    const auto [at, added] = windows.try_emplace(window, value);
    if (!added) WEIR_CHECK(merge(at->second, value).ok());
  }

  Result<Selection> select(const SelectRequest& request, const QueryLimits& limits) override {
    requests.push_back(request);
    WEIR_TRY_ASSIGN(const auto matchers, compile_matchers(request.matchers));
    Selection selection{.series = {}, .unnamed = {}, .notes = notes};
    for (const auto& [key, windows] : series_) {
      const auto& [metric, labels] = key;
      if (!request.metric.empty() && metric.name != request.metric) continue;
      const bool matches = std::ranges::all_of(matchers, [&](const LabelMatcher& matcher) {
        return matcher.matches(metric.name, labels);
      });
      const bool may =
          request.with_truth && is_unnamed(labels) && may_match(matchers, metric.name, labels);
      if (!matches && !may) continue;
      SelectedSeries series{.metric = metrics_.at(metric), .labels = labels, .windows = {}};
      for (const auto& [window, value] : windows) {
        const bool in_range =
            window.end_s() > request.range.from_s && window.end_s() <= request.range.to_s;
        const bool open = window.end_s() > now_s && window.start_s < request.range.to_s;
        if (in_range || open) series.windows.push_back({window, value});
      }
      auto& to = matches ? selection.series : selection.unnamed;
      if (!series.windows.empty()) to.push_back(std::move(series));
    }
    if (selection.series.size() > limits.max_series) {
      return Error{Errc::kLimit,
                   "the query reads more than " + std::to_string(limits.max_series) + " series"};
    }
    return selection;
  }

  Result<std::vector<std::string>> label_values(const std::string& label) override {
    std::set<std::string> found;
    for (const auto& [key, windows] : series_) {
      if (label == "__name__") found.insert(key.first.name);
      for (const auto& [name, value] : key.second) {
        if (label.empty()) found.insert(name);
        if (name == label) found.insert(value);
      }
    }
    return std::vector<std::string>(found.begin(), found.end());
  }

  [[nodiscard]] std::vector<uint32_t> widths() const override { return kept_widths; }

 private:
  std::map<Metric, std::shared_ptr<const Metric>> metrics_;
  std::map<std::pair<Metric, Labels>, std::map<Window, Value>> series_;
};

}  // namespace weir::aggregator
