#include "daemon/run.h"

#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "common/clock.h"
#include "common/data_dir.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/sqlite.h"
#include "common/transport.h"
#include "common/worker.h"
#include "daemon/collectors.h"
#include "daemon/edge.h"

namespace weir::daemon {
namespace {

constexpr std::chrono::milliseconds kTick{100};

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

// The limits of cardinality are taken over; what else differs waits for a restart. A file with
// mistakes changes nothing.
void reload(const DaemonConfig& running, const std::string& file, Recorder& recorder) {
  const auto wanted = read_config(YamlReader::from_file(file), host_name());
  if (!wanted) return log::error("not reloaded: {}", wanted.error().message);
  for (const auto& key : needs_restart(running, *wanted)) {
    log::warn("reload: '{}' has changed: it needs a restart", key);
  }
  recorder.set_limits(wanted->limits.series, wanted->limits.memory_bytes);
  log::info("reloaded {}: 'limits' and 'metrics' hold from the next window on", file);
}

Status serve(const DaemonConfig& config, const std::string& file, std::vector<Fd> inherited) {
  raise_descriptor_limit();
  WEIR_TRY_ASSIGN(const Fd lock, lock_data_dir(config.data_dir));
  WEIR_TRY_ASSIGN(const std::unique_ptr<Loop> loop, Loop::create());
  // Before any thread starts, so that every thread has the signals blocked.
  for (const int signal_number : {SIGTERM, SIGINT}) {
    WEIR_TRY(loop->on_signal(signal_number, [&loop] { loop->stop(); }));
  }
  Edge* running = nullptr;
  WEIR_TRY(loop->on_signal(SIGHUP, [&] { reload(config, file, running->recorder()); }));
  const std::string path = config.data_dir + "/outbox.db";
  DatabaseOptions options;
  options.page_size = 16384;
  WEIR_TRY_ASSIGN(Database db, Database::open(path, options));
  const SystemClock clock;
  Worker worker("weir-worker");
  TransportContext transport;
  std::optional<KeyPair> keys;
  if (!config.keys.dir.empty()) {
    WEIR_TRY_ASSIGN(keys, KeyPair::load_for(config.keys.dir, Role::kEdge));
  }
  EdgeOptions edge_is = edge_options(config);
  if (keys) edge_is.source = keys->line().owner.source;
  std::vector<std::unique_ptr<Link>> links;
  EdgeParts parts{db, *loop, worker, clock, {}};
  for (const auto& [endpoint, server_keys] : config.upstreams) {
    LinkOptions link_options;
    if (!server_keys.empty()) link_options = {&*keys, server_keys};
    WEIR_TRY_ASSIGN(auto link, connect_link(transport, *loop, endpoint, link_options));
    parts.upstreams.push_back({endpoint, *link});
    links.push_back(std::move(link));
  }
  ServiceNames services = make_service_names();
  WEIR_TRY_ASSIGN(const auto edge, Edge::create(std::move(edge_is), std::move(parts)));
  for (auto& source : make_sources(config, services, std::move(inherited))) {
    edge->add(std::move(source));
  }
  WEIR_TRY(edge->start());
  running = edge.get();
  loop->every(kTick, [&] {
    if (!edge->tick()) loop->stop();
  });
  for (const auto& upstream : config.upstreams) {
    log::info("{} sends to {}", config.host, upstream.endpoint);
  }
  loop->run();
  return edge->stop();  // says why, should tick() have ended the loop
}

}  // namespace

int run_daemon(const DaemonConfig& config, const std::string& file, std::vector<Fd> inherited) {
  const auto status = serve(config, file, std::move(inherited));
  if (!status) log::error("{}", status.error().message);
  return status ? 0 : 1;
}

}  // namespace weir::daemon
