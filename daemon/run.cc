#include "daemon/run.h"

#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "common/database_file.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/transport.h"
#include "common/worker.h"
#include "daemon/collectors.h"
#include "daemon/edge.h"
#include "daemon/edge_disk.h"

namespace weir::daemon {
namespace {

constexpr std::chrono::milliseconds kTick{100};
constexpr uint64_t kQuarantineBytes = uint64_t{64} << 20;

ServiceNames make_service_names() {
  auto root = find_cgroup2_root("/proc/self/mountinfo");
  if (!root) log::warn("services are named by their processes: {}", root.error().message);
  return ServiceNames(root ? *std::move(root) : "");
}

EdgeOptions edge_options(const DaemonConfig& config) {
  EdgeOptions options;
  options.host = config.host;
  options.labels = config.labels;
  options.flush_every = config.flush_every;
  options.limits.window_s = static_cast<uint32_t>(config.window.count());
  options.limits.series = config.limits.series;
  options.limits.memory_bytes = config.limits.memory_bytes;
  options.limits.max_late_s = config.limits.late.count();
  options.outbox_bytes = config.limits.outbox_bytes;
  options.outbox_age = config.limits.outbox_age;
  options.fence_after = config.fence_after;
  return options;
}

Result<EdgeDisk> open_disk(const DaemonConfig& config, const EdgeOptions& edge_is) {
  DiskBudgetOptions budget = config.limits.disk;
  // Pages are not quite full, and what was refused for good is kept aside.
  budget.quota_bytes = config.limits.outbox_bytes + config.limits.outbox_bytes / 4 +
                       std::max(kQuarantineBytes, 2 * budget.step_bytes);
  return open_edge_disk(config.data_dir, budget,
                        [&](Database& db) { return Edge::open_tables(db, edge_is); });
}

// The limits of cardinality and the naming rules are taken over; what else differs waits for a
// restart. A file with mistakes changes nothing.
void reload(const DaemonConfig& running, const std::string& file, Recorder& recorder,
            ServiceNames& services) {
  const auto wanted = read_config(YamlReader::from_file(file), host_name());
  if (!wanted) return log::error("not reloaded: {}", wanted.error().message);
  for (const auto& key : needs_restart(running, *wanted)) {
    log::warn("reload: '{}' has changed: it needs a restart", key);
  }
  recorder.set_limits(wanted->limits.series, wanted->limits.memory_bytes);
  services.set_rules(wanted->naming);
  log::info(
      "reloaded {}: 'limits' and 'metrics' hold from the next window on, 'services' and "
      "'templates' "
      "from now on",
      file);
}

Status serve(const DaemonConfig& config, std::vector<Fd> inherited,
             const std::optional<KeyPair>& keys, Loop& loop, EdgeOptions edge_is, EdgeDisk& disk,
             ServiceNames& services, Edge*& running) {
  raise_descriptor_limit();
  const SystemClock clock;
  Worker worker("weir-worker");
  TransportContext transport;
  edge_is.disk_fault = disk.fault;
  if (disk.in_memory()) edge_is.outbox_bytes = std::min(edge_is.outbox_bytes, kMemoryOutboxBytes);
  std::vector<std::unique_ptr<Link>> links;
  EdgeParts parts{*disk.db, loop, worker, clock, {}, disk.budget ? &*disk.budget : nullptr};
  for (const auto& [endpoint, server_keys] : config.upstreams) {
    LinkOptions link_options;
    if (!server_keys.empty()) link_options = {&*keys, server_keys};
    WEIR_TRY_ASSIGN(auto link, connect_link(transport, loop, endpoint, link_options));
    parts.upstreams.push_back({endpoint, *link});
    links.push_back(std::move(link));
  }
  WEIR_TRY_ASSIGN(const auto edge, Edge::create(std::move(edge_is), std::move(parts)));
  for (auto& source : make_sources(config, services, std::move(inherited))) {
    edge->add(std::move(source));
  }
  WEIR_TRY(edge->start());
  running = edge.get();
  loop.every(kTick, [&] {
    if (!edge->tick()) loop.stop();
  });
  log::info("{} is source {}", config.host, uuid_text(edge->source()));
  for (const auto& upstream : config.upstreams) {
    log::info("{} sends to {}", config.host, upstream.endpoint);
  }
  loop.run();
  return edge->stop();  // says why, should tick() have ended the loop
}

Status serve_on_disk(const DaemonConfig& config, const std::string& file,
                     std::vector<Fd> inherited) {
  std::optional<KeyPair> keys;
  if (!config.keys.dir.empty()) {
    WEIR_TRY_ASSIGN(keys, KeyPair::load_for(config.keys.dir, Role::kEdge));
  }
  // Before the database is read, which may take long, and before any thread starts: each has the
  // signals blocked then. They are heard once the loop runs.
  WEIR_TRY_ASSIGN(const std::unique_ptr<Loop> loop, Loop::create());
  for (const int signal_number : {SIGTERM, SIGINT}) {
    WEIR_TRY(loop->on_signal(signal_number, [&loop] { loop->stop(); }));
  }
  ServiceNames services = make_service_names();
  services.set_rules(config.naming);
  Edge* running = nullptr;
  WEIR_TRY(loop->on_signal(SIGHUP, [&] { reload(config, file, running->recorder(), services); }));
  EdgeOptions options = edge_options(config);
  if (keys) options.source = keys->line().owner.source;
  WEIR_TRY_ASSIGN(EdgeDisk disk, open_disk(config, options));
  Status done = serve(config, std::move(inherited), keys, *loop, options, disk, services, running);
  // The next start reads every page before it trusts them.
  if (!done && done.error().code == Errc::kIo && !disk.in_memory()) mark_suspect(disk.path);
  return done;
}

}  // namespace

int run_daemon(const DaemonConfig& config, const std::string& file, std::vector<Fd> inherited) {
  const auto status = serve_on_disk(config, file, std::move(inherited));
  if (!status) log::error("{}", status.error().message);
  return status ? 0 : 1;
}

}  // namespace weir::daemon
