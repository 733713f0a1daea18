// weir-daemon: the front door. Everything else is in weir_daemon_core.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <string>

#include "common/log.h"
#include "common/loop.h"
#include "common/version.h"
#include "daemon/config.h"
#include "daemon/listen_fds.h"
#include "daemon/run.h"

namespace {

constexpr const char* kExamples = R"(Examples:
  weir-daemon --config /etc/weir/weir.yaml
  weir-daemon --config weir.yaml --check      say every mistake, start nothing

Push a metric:
  echo 'orders:1|c|#kind:book' | nc -u -w0 127.0.0.1 8125

Exit codes: 0 stopped or checked, 1 could not start or go on, 2 usage or configuration.)";

}  // namespace

int main(int argc, char** argv) {
  weir::hold_signal(SIGHUP);  // a reload before the loop runs waits for it
  CLI::App app("Weir edge daemon: measures this host and sends what it measured upwards.",
               "weir-daemon");
  app.footer(kExamples);
  app.set_version_flag("--version", std::string("weir-daemon ") + weir::kVersion);
  std::string file;
  bool check = false;
  app.add_option("--config", file, "Configuration file (YAML)")->required();
  app.add_flag("--check", check, "Check the configuration and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  auto inherited = weir::daemon::take_listen_fds();
  const auto config =
      weir::daemon::read_config(weir::YamlReader::from_file(file), weir::daemon::host_name());
  if (!config) {
    std::fprintf(stderr, "%s\n", config.error().message.c_str());
    return 2;
  }
  if (check) {
    std::printf("%s: good\n", file.c_str());
    return 0;
  }
  weir::log::set_level(config->log_level);
  weir::log::info("weir-daemon {}", weir::kVersion);
  std::signal(SIGPIPE, SIG_IGN);  // a peer that went away is an error code, not our end
  return weir::daemon::run_daemon(*config, file, std::move(inherited));
}
