#pragma once
// What kernel tests of requests share: the real collector on this host's sockets, read out for one
// port. Own servers and clients on loopback (http_peers.h) choose every segment.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/loop.h"
#include "common/worker.h"
#include "daemon/recorder.h"
#include "daemon/request_probe.h"
#include "daemon/requests/request_source.h"
#include "tests/kernel/http_peers.h"
#include "tests/kernel/kernel_test.h"

namespace weir::kernel_test {

using namespace daemon;
using namespace std::chrono_literals;

// What the collector says about one port and role.
struct Seen {
  std::map<std::string, uint64_t> by;  // "GET 2xx /path" -> requests
  uint64_t n = 0;
  uint64_t request_bytes = 0;
  uint64_t response_bytes = 0;
  uint64_t tls_connections = 0;
  uint64_t http2_connections = 0;
  Distribution latency{-9};     // to the last byte
  Distribution first_byte{-9};  // of the same, but aborted ones
};

inline std::string label(const Labels& labels, std::string_view name) {
  for (const auto& [key, value] : labels) {
    if (key == name) return value;
  }
  return {};
}

class Requests : public ::testing::Test {
 protected:
  void SetUp() override { start(); }

  void start() {
    auto loop = Loop::create();
    ASSERT_TRUE(loop.ok());
    loop_ = std::move(*loop);
    auto root = find_cgroup2_root("/proc/self/mountinfo");
    services_ = std::make_unique<ServiceNames>(root.ok() ? *root : "");
    source_ = std::make_unique<RequestSource>(config_, *services_);
    source_->start({*loop_, worker_, recorder_, clock_});
    const auto status = source_->status();
    if (status.state == SourceState::kUnavailable) {
      WEIR_SKIP_IF(status.reason + "; " + status.fix);
    }
  }

  void TearDown() override {
    if (source_) source_->stop();
  }

  Seen seen(uint16_t port, const std::string& role = "server") {
    source_->drain(clock_.now(), drain_);
    for (const auto window : recorder_.open_windows()) {
      for (auto& delta : recorder_.take(window)) deltas_.push_back(std::move(delta));
    }
    Seen out;
    for (const auto& delta : deltas_) {
      const auto& metric = recorder_.table().metric_of(delta.series);
      const auto& labels = recorder_.table().labels_of(delta.series);
      if (label(labels, "server_port") != std::to_string(port)) continue;
      if (label(labels, "role") == role) {
        const auto connections = std::get<Counter>(delta.value).delta;
        (metric.name == "weir_tls_connections_total" ? out.tls_connections
                                                     : out.http2_connections) += connections;
      }
      if (!metric.name.starts_with("http_" + role)) continue;
      if (metric.name.find("first_byte") != std::string::npos) {
        EXPECT_TRUE(out.first_byte.merge(std::get<Distribution>(delta.value)).ok());
      } else if (metric.kind == Kind::kDistribution) {
        const auto& distribution = std::get<Distribution>(delta.value);
        out.n += distribution.count();
        out.by[label(labels, "http_request_method") + " " +
               label(labels, "http_response_status_class") + " " + label(labels, "http_route")] +=
            distribution.count();
        EXPECT_TRUE(out.latency.merge(distribution).ok());
        service_ = label(labels, "service");
      } else {
        const auto delta_bytes = std::get<Counter>(delta.value).delta;
        (metric.name.find("request_bytes") != std::string::npos ? out.request_bytes
                                                                : out.response_bytes) +=
            delta_bytes;
      }
    }
    return out;
  }

  // Waits until at least n requests were seen; connections close in their own time.
  Seen settle(uint16_t port, uint64_t n, const std::string& role = "server") {
    for (int i = 0; i < 200 && seen(port, role).n < n; ++i) std::this_thread::sleep_for(5ms);
    return seen(port, role);
  }

  uint64_t counter(const std::string& name) {
    for (const auto& [key, value] : source_->status().counters) {
      if (key == name) return value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }

  RequestConfig config_;
  Source::Drain drain_ = Source::Drain::kFinal;
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
  Worker worker_{"test-worker"};
  Recorder recorder_{RecorderLimits{}, clock_.now()};
  std::unique_ptr<ServiceNames> services_;
  std::unique_ptr<RequestSource> source_;
  std::vector<Delta> deltas_;
  std::string service_;
};

using Counts = std::map<std::string, uint64_t>;

inline Server::Handler answer(const std::string& text) {
  return [text](const Socket& peer, std::string_view) { peer.send(text); };
}

inline const std::string kReply = response("200 OK", "hello");

}  // namespace weir::kernel_test
