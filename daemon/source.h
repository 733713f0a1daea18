#pragma once
// Source: one collector. Each loads on its own; what cannot run says why and what to grant, and the
// rest runs.
//
// Owner: the edge (daemon/edge.h). Thread: every call on the loop thread; a source may use the
// shared Worker for what blocks and must hand results back through a Mailbox. Promise: start()
// never leaves anything half attached; after drain() everything measured until `now` is in the
// recorder; stop() detaches and returns within a second.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/loop.h"
#include "common/worker.h"
#include "daemon/recorder.h"

namespace weir::daemon {

enum class SourceState : uint8_t { kRunning = 1, kDegraded = 2, kUnavailable = 3 };

[[nodiscard]] std::string_view state_name(SourceState state);

struct SourceStatus {
  std::string name;  // "requests", "profile", "statsd"
  SourceState state = SourceState::kUnavailable;
  std::string reason;  // one sentence; empty when running
  std::string fix;     // what to grant or change; empty when running
  // Monotonic counters, names as exported: {"weir_ebpf_fold_total", 3}. Labels may follow as in
  // {"weir_dropped_total{where=\"statsd\",reason=\"rate\"}", 7}: plain text without escapes.
  std::vector<std::pair<std::string, uint64_t>> counters;
};

struct SourceContext {
  Loop& loop;
  Worker& worker;
  Recorder& recorder;
  const Clock& clock;
  // This source's journal_position() of the last commit; empty on a new data_dir.
  std::optional<uint64_t> committed{};
  // False: what is committed now ends with this process, and what was committed before is not
  // known. A journal then belongs to the next start.
  bool durable = true;
};

class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // Never fails the daemon: what could not be done is in status().
  virtual void start(SourceContext context) = 0;
  // Brings everything measured so far into the recorder; called each second, before a window is
  // cut, and before stop. May block up to a few milliseconds; slower work goes to the worker
  // between calls, and `final` drains wait for it.
  enum class Drain : uint8_t { kRegular, kFinal };
  virtual void drain(UnixTime now, Drain drain) = 0;
  virtual void stop() = 0;
  [[nodiscard]] virtual SourceStatus status() const = 0;

  // For a source that journals its input. The edge commits the position with everything recorded
  // so far in one transaction, then calls committed(); at the next start the source replays what
  // lies beyond SourceContext::committed. wants_commit(): the journal fills up; do it soon.
  [[nodiscard]] virtual uint64_t journal_position() const { return 0; }

  virtual void committed(uint64_t /*position*/) {}

  [[nodiscard]] virtual bool wants_commit() const { return false; }
};

}  // namespace weir::daemon
