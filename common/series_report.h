#pragma once
// SeriesReport: what the limits of cardinality did to whom, as metrics of Weir's own, so that they
// merge up the tiers (docs/cardinality.md), and as one line in the log per breach and recovery.
//
// Owner: who limits: the edge's Recorder, a tier's Names for each grain; one thread. Promise: of a
// window, the distinct label sets and label values seen of a metric, named or not; the labels of
// what went to overflow, most frequent first; how many events that were. Bounded: kMaxMetrics
// metrics, of which kMaxOffenders keep offenders, kMaxLabels labels; 4 KB per count, 1 MiB per list
// of offenders. Cost: a metric that never breached costs nothing per event.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "common/metric.h"
#include "common/sketch/distinct.h"
#include "common/sketch/topk.h"
#include "common/value.h"

namespace weir {

class SeriesReport {
 public:
  static constexpr size_t kMaxMetrics = 256;
  static constexpr size_t kMaxOffenders = 16;
  static constexpr size_t kMaxLabels = 512;
  static constexpr size_t kMaxLines = 8;       // in the log, per window
  static constexpr size_t kWorthAReport = 32;  // named label sets

  SeriesReport() = default;

  // `of`: told in the log, as "in coarse windows".
  explicit SeriesReport(std::string of) : of_(" " + std::move(of)) {}

  // n events of a label set that has no series of its own. Labels in any order.
  void refused(std::string_view metric, std::span<const LabelView> labels, uint64_t n);
  // A series with events in this window, of a metric that is worth a report.
  void named(std::string_view metric, const Labels& labels);

  // What came since the last publish() is forgotten; who had breached is not.
  void forget();

  [[nodiscard]] bool knows(std::string_view metric) const { return metrics_.contains(metric); }

  struct State {
    size_t rows = 0;  // named now
  };

  // The window has ended, at `when`: gives each number to `record` and starts over. `state_of`
  // knows a metric's rows, none if it is gone. `source`: of gauges' last values.
  using Record = std::function<void(const Metric&, std::span<const LabelView>, const Value&)>;
  void publish(UnixTime when, uint64_t source,
               const std::function<State(std::string_view metric)>& state_of, const Record& record);

  [[nodiscard]] size_t memory_bytes() const;

 private:
  struct Entry {
    Distinct sets;
    std::map<std::string, Distinct, std::less<>> values;  // by label
    std::unique_ptr<Topk> offenders;
    uint64_t refused = 0;   // events
    bool breached = false;  // in the window before
  };

  Entry* entry_of(std::string_view metric);
  void see(Entry& entry, std::span<const LabelView> labels, uint64_t n);
  void tell(std::string_view metric, Entry& entry, const State& state);

  std::string of_;
  std::map<std::string, Entry, std::less<>> metrics_;
  size_t offenders_ = 0;
  size_t labels_ = 0;
  size_t changes_ = 0;  // into or out of a breach, in this publish()
};

}  // namespace weir
