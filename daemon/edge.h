#pragma once
// Edge: the heart of weir-daemon. Sources fill the recorder; what it holds becomes batches in the
// outbox; the uplink brings them to the last tier.
//
// Owner: run_daemon(). Thread: the loop. Promise: what was recorded when flush() commits is
// durable, and exactly that: deltas, journal positions and the outbox change in one transaction;
// what cannot be stored now is kept for the next try (up to kMaxUnstored) or counted as dropped. A
// flush that fails on the disk itself (kIo) is in doubt: it is not tried again, for it could count
// twice; the process must end, and the next one goes on from what the disk says. Cost:
// a drain a second, one transaction a flush. Pure of time: the caller calls tick(), tests with a
// fake clock.

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/batch.h"
#include "common/clock.h"
#include "common/disk_budget.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/outbox.h"
#include "common/sqlite.h"
#include "common/transport.h"
#include "common/uplink.h"
#include "common/worker.h"
#include "daemon/recorder.h"
#include "daemon/source.h"
#include "daemon/window_marks.h"

namespace weir::daemon {

struct EdgeOptions {
  std::string host{};
  Labels labels{};                                // beside host; a series' own of that name wins
  std::chrono::milliseconds flush_every{10'000};  // 0: when a window ends
  RecorderLimits limits{};
  uint64_t outbox_bytes = uint64_t{1} << 30;
  std::chrono::seconds outbox_age{72 * 3600};  // older windows are given up
  std::chrono::seconds fence_after{15 * 60};   // common/uplink.h
  std::optional<SourceId> source{};            // of the host's key
  std::string disk_fault{};                    // why the database is in memory; empty: it is not
};

struct EdgeUpstream {
  std::string endpoint;
  Link& link;
};

// What the edge works with; all outlive it. The database is its own.
struct EdgeParts {
  Database& db;
  Loop& loop;
  Worker& worker;
  const Clock& clock;
  std::vector<EdgeUpstream> upstreams;
  DiskBudget* disk = nullptr;  // of db; null: it is in memory
};

class Edge {
 public:
  // Late samples of a window are waited for this long before it is flushed as ended.
  static constexpr std::chrono::seconds kGrace{2};
  static constexpr size_t kMaxUnstored = size_t{64} << 20;  // bytes of batches

  // Makes and reads all that create() and start() need of a database. kIo: it is damaged.
  static Status open_tables(Database& db, const EdgeOptions& options);

  static Result<std::unique_ptr<Edge>> create(EdgeOptions options, EdgeParts parts);
  Edge(const Edge&) = delete;
  Edge& operator=(const Edge&) = delete;

  // All sources first, then start(). An error: the journals' positions are not known.
  void add(std::unique_ptr<Source> source);
  Status start();
  // Every 100 ms. An error: a flush is in doubt; call stop() and end the process.
  Status tick();
  // Last drain and flush, then every source stops. What was recorded is in the outbox, or this is
  // the reason why not.
  Status stop();

  [[nodiscard]] Result<OutboxStats> outbox_stats() { return outbox_.stats(); }

  [[nodiscard]] const SourceId& source() const { return outbox_.source(); }

  [[nodiscard]] const SourceReport& report() const { return report_; }

  [[nodiscard]] Recorder& recorder() { return recorder_; }

 private:
  struct Unstored {
    Window window;
    EncodedBatch batch;
  };

  Edge(EdgeOptions options, EdgeParts parts, Outbox outbox, WindowMarks marks);
  void drain(Source::Drain drain);
  Status flush(Source::Drain drain);
  Result<std::optional<uint64_t>> committed_position(const std::string& source);
  [[nodiscard]] bool flush_is_due() const;
  void plan_next_flush();
  void record_own_metrics();
  void record_limits(const std::string& dry_run, const LimitCounts& counts);
  void record_counter(const std::string& name, uint64_t value);
  using Counters = std::vector<std::pair<std::string, uint64_t>>;
  [[nodiscard]] Counters own_counters() const;
  void mark_windows(Source::Drain drain);
  void take_windows();
  void encode(const Window& window, const Labels& common, const std::vector<BatchRow>& rows);
  Status store();
  Status store_all(uint64_t bytes_first);
  void heard(const Status& status);
  Status store_positions(const std::string& verb);
  void drop_excess();
  void report_disk();
  void announce(size_t index, const SourceStatus& status);
  void make_report();
  void report_upstreams();

  EdgeOptions options_;
  EdgeParts parts_;
  Labels host_label_;
  Labels common_labels_;  // that and the configured ones
  Recorder recorder_;
  Outbox outbox_;
  WindowMarks marks_;
  Uplink uplink_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<SourceState> announced_;
  std::vector<Unstored> unstored_;
  size_t unstored_bytes_ = 0;
  unsigned full_disk_ = 0;  // flushes in a row that found it so
  Status in_doubt_;
  Status disk_full_;                          // or the last flush found room
  std::map<std::string, uint64_t> exported_;  // counters, as of their last recorded delta
  uint64_t dropped_failed_ = 0;               // mass given up after failed writes
  UnixTime drained_until_{};
  MonoTime next_drain_{};
  MonoTime next_flush_{};
  int64_t next_window_end_s_ = 0;
  uint64_t last_seq_ = 0;
  SourceReport report_;
  log::Limited store_failures_;
  log::Limited uplink_failures_;
};

}  // namespace weir::daemon
