#pragma once
// RequestSeries: cells of the kernel into the recorder's http_{server,client}_* series: durations
// to the last byte and to the first, and bytes; connections of other protocols into
// weir_{tls,http2}_connections_total.
//
// Owner: RequestSource. Thread: loop thread. Promise: every exchange of a cell reaches one series
// of the recorder or refused(); a cell's buckets are the sketch's own, so recording is addition.
// Cost: one map lookup a cell, once its series has a name. Bounded: the cache of names starts over
// when full, and when the labels change.

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "common/clock.h"
#include "common/metric.h"
#include "daemon/recorder.h"
#include "daemon/request_probe.h"
#include "daemon/requests/kernel_names.h"
#include "daemon/requests/request_labels.h"

namespace weir::daemon {

// Where the cells of one harvest go, and who can name them.
struct RequestHarvest {
  Recorder& recorder;
  const KernelNames& kernel;
  UnixTime when;  // what is counted is said to have happened
  MonoTime now;
};

class RequestSeries {
 public:
  explicit RequestSeries(RequestLabels& labels) : labels_(labels) {}

  void record(const RequestCell& cell, const RequestHarvest& harvest);
  // What found no room in the kernel's map: known by role, class and latency only.
  void record_folded(const RequestCell& cell, const RequestHarvest& harvest);

  [[nodiscard]] uint64_t requests() const { return requests_; }

  [[nodiscard]] uint64_t refused() const { return refused_; }  // by the recorder

 private:
  // A cell's key without its octave and its time.
  using Key = std::array<uint64_t, 3>;

  static Key key_of(const weir_cell_key& key);

  // Kept from harvest to harvest; whoever is not alive is asked for again.
  struct Handles {
    SeriesHandle duration;
    SeriesHandle first_byte;
    SeriesHandle request_bytes;
    SeriesHandle response_bytes;
  };

  struct Known {
    Handles handles;
    RoutePlace place;
  };

  struct Metrics {
    Metric duration;
    Metric first_byte;
    Metric request_bytes;
    Metric response_bytes;

    explicit Metrics(const std::string& role);
  };

  void record_named(const RequestCell& cell, const RequestHarvest& harvest, Known* known);
  void record_connections(const RequestCell& cell, const RequestHarvest& harvest);
  void add_times(const RequestCell& cell, uint64_t n, const RequestHarvest& harvest,
                 const Metric& metric, std::span<const LabelView> labels, SeriesHandle& series);
  void add_values(const RequestCell& cell, const RequestHarvest& harvest,
                  std::span<const LabelView> labels, Handles& series);
  bool find(Recorder& recorder, SeriesHandle& kept, const Metric& metric,
            std::span<const LabelView> labels, uint64_t events);

  RequestLabels& labels_;
  Metrics server_{"server"};
  Metrics client_{"client"};
  Metric tls_connections_{"weir_tls_connections_total", Kind::kCounter, "", 0};
  Metric http2_connections_{"weir_http2_connections_total", Kind::kCounter, "", 0};
  std::map<Key, Known> known_;
  uint64_t generation_ = 0;  // of the labels in known_
  uint64_t requests_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace weir::daemon
