// weir-aggregator: the front door. Exit codes: 0 stopped as asked or the file is good, 1 failed,
// 2 usage or configuration.

#include <malloc.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "aggregator/aggregator.h"
#include "aggregator/config.h"
#include "aggregator/disk_wait.h"
#include "common/clock.h"
#include "common/database_file.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/transport.h"
#include "common/version.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

constexpr const char* kExamples = R"(Examples:
  weir-aggregator --config /etc/weir/region.yaml
  weir-aggregator --config /etc/weir/region.yaml --check    # every mistake, nothing started

A region has an `upstream:`, the last tier has none; deploy/weir-region.yaml and
deploy/weir-global.yaml show every key. SIGHUP reads the allow-list, limits and fences again; SIGTERM
and SIGINT stop it; what was acknowledged is on disk.)";

// The allow-list, limits and fences are read again; the rest needs a new start.
void reload(const std::string& path, weir::aggregator::Aggregator& aggregator) {
  aggregator.reload();
  const auto config = weir::aggregator::read_config(path);
  if (!config.ok()) {
    weir::log::error("SIGHUP: the old limits and fences stay: {}", config.error().message);
    return;
  }
  aggregator.set_policy(*config);
  weir::log::info("SIGHUP: the allow-list, limits and fences are read again");
}

int serve(const std::string& path, const weir::aggregator::Config& config) {
  auto loop = weir::Loop::create();
  if (!loop.ok()) {
    weir::log::error("{}", loop.error().message);
    return kFailed;
  }
  // A message is made by one thread and freed by another: of heaps of their own each would keep
  // what a burst took, 630 to 820 MiB where 330 were under way (bench/run tier, fan_in_rss_mb).
  mallopt(M_ARENA_MAX, 1);
  std::signal(SIGPIPE, SIG_IGN);
  weir::raise_descriptor_limit();
  for (const int signal_number : {SIGTERM, SIGINT}) {
    auto watched = (*loop)->on_signal(signal_number, [&] {
      weir::log::info("stopping");
      (*loop)->stop();
    });
    if (!watched.ok()) {
      weir::log::error("{}", watched.error().message);
      return kFailed;
    }
  }
  weir::aggregator::Aggregator* running = nullptr;
  bool reload_later = false;  // it waits for its disk, or tries its own door
  auto reloads = (*loop)->on_signal(SIGHUP, [&] {
    reload_later = running == nullptr;
    if (running != nullptr) reload(path, *running);
  });
  if (!reloads.ok()) {
    weir::log::error("{}", reloads.error().message);
    return kFailed;
  }
  const weir::SystemClock clock;
  const auto disk = weir::aggregator::wait_for_disk(config, clock, **loop);
  if (!disk.ok()) {
    weir::log::error("{}", disk.error().message);
    return kFailed;
  }
  if (!*disk) return 0;  // stopped while it waited
  auto aggregator = weir::aggregator::Aggregator::start(config, clock, **loop);
  if (!aggregator.ok()) {
    weir::log::error("{}", aggregator.error().message);
    return kFailed;
  }
  running = aggregator->get();
  if (reload_later) reload(path, *running);
  const auto done = running->run();
  if (!done.ok()) {
    weir::log::error("the store cannot write, so this process ends: {}", done.error().message);
    // The next start reads every page before it trusts them.
    if (done.error().code == weir::Errc::kIo) weir::mark_suspect(config.data_dir + "/weir.db");
    return kFailed;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  weir::hold_signal(SIGHUP);  // a reload before the loop runs waits for it
  CLI::App app("Merges the windows of lower tiers, keeps them and answers queries.",
               "weir-aggregator");
  std::string path;
  bool check = false;
  app.add_option("--config", path, "configuration file (YAML)")->required();
  app.add_flag("--check", check, "only check the configuration file");
  app.set_version_flag("--version", std::string("weir-aggregator ") + weir::kVersion);
  app.footer(kExamples);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // CLI11 throws its help texts and its errors
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const auto config = weir::aggregator::read_config(path);
  if (!config.ok()) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return kUsage;
  }
  if (check) {
    std::printf("%s: good\n", path.c_str());
    return 0;
  }
  weir::log::set_level(config->log_level);
  return serve(path, *config);
}
