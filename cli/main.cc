// weir: the query CLI. One table of commands and options; each command is in a file of its own.

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>
#include <string>

#include "cli/commands.h"
#include "cli/report.h"
#include "common/clock.h"
#include "common/version.h"

namespace {

using namespace weir::cli;  // NOLINT(google-build-using-namespace): the front door only

constexpr const char* kExamples = R"(Examples:
  weir status
  weir query 'sum by (service) (rate(http_server_request_duration_seconds[5m]))'
  weir query 'histogram_quantile(0.99, sum by (service)
      (increase(http_server_request_duration_seconds[1h])))'
  weir query 'sum(rate(orders[5m]))' --start now-1h --step 5m --output csv
  weir flamegraph --service nginx --since 30m -o nginx.html
  weir flamegraph --format folded | sort -k2 -n
  weir anomalies --since 1d
  weir cardinality --since 1h
  weir check config /etc/weir/weir.yaml
  weir keys new --role edge --dir /etc/weir/keys

Exit codes: 0 answered, 1 negative answer, 2 usage or configuration, 3 unreachable.
The server is --server, else WEIR_SERVER, else http://127.0.0.1:7580 (a global tier).)";

constexpr const char* kKeyExamples = R"help(Examples:
  weir keys new --role edge --dir /etc/weir/keys --valid 730
  weir keys new --role edge --dir /etc/weir/keys.next --source "$(cut -d' ' -f2 /etc/weir/keys/host.pub)"
  weir keys show --dir /etc/weir/keys
  weir keys check --dir /etc/weir/keys --allow /etc/weir/allow.d

Exit codes: 0 done, 1 findings, 2 usage, or the pair cannot be made or read.)help";

std::string default_server() {
  const char* server = std::getenv("WEIR_SERVER");  // NOLINT(concurrency-mt-unsafe): one thread
  return server != nullptr ? server : "http://127.0.0.1:7580";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Weir: ask the fleet how many, how slow, and where the CPU goes.", "weir");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("weir ") + weir::kVersion);

  Common common{default_server(), Output::kTable};
  const std::map<std::string, Output> outputs{
      {"table", Output::kTable}, {"json", Output::kJson}, {"csv", Output::kCsv}};
  const auto with_server = [&](CLI::App* command) {
    command->add_option("--server", common.server, "Aggregator to ask, e.g. http://127.0.0.1:7580");
    return command;
  };
  const auto with_output = [&](CLI::App* command) {
    command->add_option("-O,--output", common.output, "table, json or csv")
        ->transform(CLI::CheckedTransformer(outputs, CLI::ignore_case));
    return with_server(command);
  };
  const std::map<std::string, Output> no_csv{{"table", Output::kTable}, {"json", Output::kJson}};
  with_server(&app);

  QueryOptions query;
  CLI::App* query_command = with_output(app.add_subcommand("query", "Evaluate an expression"));
  query_command->add_option("expression", query.expression, "PromQL, quoted")->required();
  query_command->add_option("--at", query.at, "Instant: now, now-1h, Unix seconds or RFC 3339");
  query_command->add_option("--start", query.start, "Range start; makes it a range query");
  query_command->add_option("--end", query.end, "Range end");
  query_command->add_option("--step", query.step, "Range step, e.g. 5m");

  ProfileOptions profile;
  CLI::App* flame = with_server(
      app.add_subcommand("flamegraph", "Where CPU time goes, as a page or folded stacks"));
  flame->add_option("--since", profile.since, "How far back, e.g. 30m");
  flame->add_option("--from", profile.from, "Start instead of --since");
  flame->add_option("--to", profile.to, "End");
  flame->add_option("--service", profile.service, "Only this service");
  flame->add_option("--host", profile.host, "Only this host (regions keep hosts)");
  flame->add_option("--region", profile.region, "Only this region");
  flame->add_option("--format", profile.format, "html, folded or json")
      ->check(CLI::IsMember({"html", "folded", "json"}));
  flame->add_option("-o,--file", profile.file, "Write here instead of standard output");

  CLI::App* status =
      with_server(app.add_subcommand("status", "Tiers, sources, collectors, windows, drops"));
  status->add_option("-O,--output", common.output, "table or json")
      ->transform(CLI::CheckedTransformer(no_csv, CLI::ignore_case));

  AnomalyOptions anomaly;
  CLI::App* anomalies =
      with_output(app.add_subcommand("anomalies", "What the detectors flagged, newest first"));
  anomalies->add_option("--since", anomaly.since, "How far back, e.g. 6h");
  anomalies->add_option("--service", anomaly.service, "Only this service");

  CardinalityOptions series;
  CLI::App* cardinality = with_output(app.add_subcommand(
      "cardinality", "Which metrics have too many label sets, and who makes them"));
  cardinality->add_option("--since", series.since, "How far back, e.g. 6h");
  cardinality->add_option("--metric", series.metric, "Only this metric");
  cardinality->add_option("--top", series.top, "At most so many metrics")
      ->check(CLI::Range(size_t{1}, size_t{256}));

  CLI::App* check = app.add_subcommand("check", "Check files before they are used");
  check->require_subcommand(1);
  std::vector<std::string> files;
  CLI::App* check_config = check->add_subcommand(
      "config", "All mistakes of a weir-daemon or weir-aggregator configuration");
  check_config->add_option("files", files, "Configuration files")->required();

  KeyOptions pair;
  CLI::App* keys = app.add_subcommand("keys", "Make, show and check the keys of the wire");
  keys->require_subcommand(1);
  keys->footer(kKeyExamples);
  CLI::App* keys_new = keys->add_subcommand("new", "A new key pair: host.key and host.pub");
  keys_new->add_option("--role", pair.role, "What this host is: edge, region or global")
      ->required()
      ->check(CLI::IsMember({"edge", "region", "global"}));
  keys_new->add_option("--dir", pair.dir, "Folder to make them in, e.g. /etc/weir/keys")
      ->required();
  keys_new->add_option("--valid", pair.valid_days, "Days until it ends; without it, for ever")
      ->check(CLI::Range(1U, 36'500U));
  keys_new->add_option("--source", pair.source, "UUID of the host whose key this replaces");
  CLI::App* keys_show = keys->add_subcommand("show", "The line for the other end's allow.d");
  keys_show->add_option("--dir", pair.dir, "Folder of the pair")->required();
  CLI::App* keys_check = keys->add_subcommand("check", "Files, modes, pairs, lines, ends");
  keys_check->add_option("--dir", pair.dir, "Folder of this host's pair");
  keys_check->add_option("--allow", pair.allow,
                         "Folder of those it lets in, e.g. /etc/weir/allow.d");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kAnswered : kUsage;
  }
  if (query_command->parsed()) return run_query(common, query);
  if (flame->parsed()) return run_flamegraph(common, profile);
  if (status->parsed()) return run_status(common);
  if (anomalies->parsed()) return run_anomalies(common, anomaly);
  if (cardinality->parsed()) return run_cardinality(common, series);
  const int64_t now_s = weir::unix_seconds(weir::SystemClock().now());
  if (keys_new->parsed()) return run_keys_new(pair, now_s);
  if (keys_show->parsed()) return run_keys_show(pair, now_s);
  if (keys_check->parsed()) return run_keys_check(pair, now_s);
  WEIR_CHECK(check_config->parsed());
  return run_check_config(files);
}
