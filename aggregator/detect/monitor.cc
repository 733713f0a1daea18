#include "aggregator/detect/monitor.h"

#include <optional>
#include <utility>

#include <fmt/core.h>

#include "aggregator/query/value.h"

namespace weir::aggregator {
namespace {

// Under the same name a client may push another kind or unit: that is another metric.
const Metric kRequests{"http_server_request_duration_seconds", Kind::kDistribution, "seconds", -9};
constexpr const char* kStatus = "http_response_status_class";
constexpr uint32_t kP99 = 990'000'000;  // parts per billion

std::string label(const Labels& labels, std::string_view name) {
  for (const auto& [key, value] : labels) {
    if (key == name) return value;
  }
  return {};
}

struct Tally {
  std::optional<Distribution> all;
  uint64_t requests = 0;
  uint64_t errors = 0;
};

std::string describe(const std::string& signal, double value, const BandVerdict& verdict) {
  const double unit = signal == "p99" ? 1e3 : signal == "error_ratio" ? 100 : 1;
  const char* suffix = signal == "p99" ? " ms" : signal == "error_ratio" ? " %" : " req/s";
  return fmt::format("{} is {:.4g}{}, expected {:.4g}±{:.2g}{}", signal, value * unit, suffix,
                     verdict.expected * unit, verdict.sigma * unit, suffix);
}

}  // namespace

Result<std::map<ServiceKey, ServiceSignals>> read_signals(DataSource& source,
                                                          const Window& window) {
  SelectRequest request;
  request.metric = kRequests.name;
  request.range = {window.start_s, window.end_s()};
  request.needs_all_labels = false;
  request.label_use = LabelUse::kOnly;
  request.label_names = {"region", "service", kStatus};
  WEIR_TRY_ASSIGN(const Selection selection, source.select(request, QueryLimits{}));

  std::map<ServiceKey, Tally> tallies;
  for (const auto& series : selection.series) {
    if (*series.metric != kRequests) continue;
    const std::string status = label(series.labels, kStatus);
    const bool error = status == "5xx" || status == "aborted";
    Tally& tally = tallies[{label(series.labels, "service"), label(series.labels, "region")}];
    for (const auto& [at, value] : series.windows) {
      const auto* distribution = std::get_if<Distribution>(&value);
      if (distribution == nullptr || at.start_s < window.start_s || at.end_s() > window.end_s()) {
        continue;  // not of this window
      }
      tally.requests += distribution->count();
      if (error) tally.errors += distribution->count();
      if (!tally.all) {
        tally.all = *distribution;
      } else {
        WEIR_TRY(add_distribution(*tally.all, *distribution));
      }
    }
  }

  std::map<ServiceKey, ServiceSignals> signals;
  for (const auto& [key, tally] : tallies) {
    if (tally.requests == 0) continue;  // a gap is not a zero
    WEIR_TRY_ASSIGN(const Estimate p99, tally.all->quantile(kP99));
    const auto requests = static_cast<double>(tally.requests);
    signals[key] = {requests / window.width_s, static_cast<double>(tally.errors) / requests,
                    p99.value};
  }
  return signals;
}

Result<std::vector<Anomaly>> Monitor::step(DataSource& source, const Window& window) {
  WEIR_TRY_ASSIGN(const auto signals, read_signals(source, window));
  std::vector<Anomaly> found;
  for (const auto& [key, values] : signals) {
    auto group = groups_.find(key);
    if (group == groups_.end()) {
      if (groups_.size() >= max_groups_) {
        ++refused_;
        continue;
      }
      group = groups_.emplace(key, Group{}).first;
    }
    const auto judge = [&, &service = key.first, &region = key.second](
                           Band& band, const char* signal, double value) {
      const BandVerdict verdict = band.step(value);
      if (!verdict.anomalous) return;
      Labels labels;
      if (!region.empty()) labels.emplace_back("region", region);
      if (!service.empty()) labels.emplace_back("service", service);
      found.push_back({window, "band", signal, std::move(labels), verdict.score, value,
                       verdict.expected, describe(signal, value, verdict)});
    };
    judge(group->second.rate, "rate", values.rate);
    judge(group->second.error_ratio, "error_ratio", values.error_ratio);
    judge(group->second.p99, "p99", values.p99_s);
  }
  return found;
}

Status Monitor::replay(DataSource& source, const Window& first, const Window& last) {
  for (Window window = first; window.start_s <= last.start_s; window.start_s += window.width_s) {
    WEIR_TRY(step(source, window));
  }
  return {};
}

}  // namespace weir::aggregator
