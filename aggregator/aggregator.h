#pragma once
// Aggregator: one tier, whole: intake, store thread, detectors, uplink and HTTP, wired together.
//
// Owner: main(), or an end-to-end test. Thread: the loop thread makes, runs and destroys it; stop()
// from any thread. Promise: run() returns after stop() with everything durable still durable; a
// store that cannot write ends it with an Error. One data_dir belongs to one process at a time.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "aggregator/config.h"
#include "aggregator/status.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir::aggregator {

class Aggregator {
 public:
  // `loop` and `clock` outlive it. kUnavailable: another process holds data_dir.
  static Result<std::unique_ptr<Aggregator>> start(const Config& config, const Clock& clock,
                                                   Loop& loop);
  ~Aggregator();
  Aggregator(const Aggregator&) = delete;
  Aggregator& operator=(const Aggregator&) = delete;

  Status run();  // until stop()
  void stop();
  void reload();  // on SIGHUP: the allow-list
  // On SIGHUP: limits and fences of the configuration read again; all else stays as at start.
  void set_policy(const Config& config);

  [[nodiscard]] std::string endpoint() const;  // what lower tiers connect to, port resolved
  [[nodiscard]] uint16_t http_port() const;
  [[nodiscard]] TierStatus status() const;  // thread-safe

 private:
  struct State;
  explicit Aggregator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::aggregator
