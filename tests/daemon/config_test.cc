#include "daemon/config.h"

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

Result<DaemonConfig> read(const std::string& yaml) {
  return read_config(YamlReader::from_text("weir.yaml", yaml), "this-host");
}

// The mistakes without source lines and carets.
std::string mistakes(const std::string& yaml) {
  const auto config = read(yaml);
  if (config) return "none";
  std::string out;
  std::istringstream lines(config.error().message);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("weir.yaml:")) out += line.substr(10) + "\n";
  }
  return out;
}

TEST(DaemonConfig, EmptyFileIsTheDefaults) {
  const auto c = read("");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->host, "this-host");
  EXPECT_EQ(c->window, std::chrono::seconds(60));
  EXPECT_EQ(c->flush_every, std::chrono::seconds(10));
  EXPECT_EQ(c->limits.outbox_bytes, uint64_t{1} << 30);
  EXPECT_EQ(c->statsd.udp, "127.0.0.1:8125");
  EXPECT_EQ(c->statsd.journal_path, "/var/lib/weir/statsd.journal");
  EXPECT_TRUE(c->requests.enabled);
}

TEST(DaemonConfig, ExampleFileIsGoodAndIsTheDefaults) {
  const auto example = read_config(YamlReader::from_file("deploy/weir-daemon.yaml"), "this-host");
  ASSERT_TRUE(example.ok()) << example.error().message;
  const auto defaults = read("");
  EXPECT_EQ(example->data_dir, defaults->data_dir);
  EXPECT_EQ(example->window, defaults->window);
  EXPECT_EQ(example->flush_every, defaults->flush_every);
  EXPECT_EQ(example->upstreams, defaults->upstreams);
  EXPECT_EQ(example->labels, defaults->labels);
  EXPECT_EQ(example->limits.series, defaults->limits.series);
  EXPECT_EQ(example->limits.memory_bytes, defaults->limits.memory_bytes);
  EXPECT_EQ(example->limits.outbox_bytes, defaults->limits.outbox_bytes);
  EXPECT_EQ(example->limits.late, defaults->limits.late);
  EXPECT_EQ(example->limits.outbox_age, defaults->limits.outbox_age);
  EXPECT_EQ(example->fence_after, defaults->fence_after);
  EXPECT_EQ(example->requests.max_routes_per_service, defaults->requests.max_routes_per_service);
  EXPECT_EQ(example->requests.idle, defaults->requests.idle);
  EXPECT_EQ(example->naming, NamingRules{});
  EXPECT_EQ(example->requests.memory_budget, defaults->requests.memory_budget);
  EXPECT_EQ(example->profile.hz, defaults->profile.hz);
  EXPECT_EQ(example->statsd.unix_path, defaults->statsd.unix_path);
  EXPECT_EQ(example->statsd.receive_buffer, defaults->statsd.receive_buffer);
  EXPECT_EQ(example->log_level, defaults->log_level);
}

TEST(DaemonConfig, EveryKeyIsRead) {
  const auto c = read(R"(
host: edge-1
data_dir: /tmp/weir
window: 1s
flush_every: 0s
upstream: tcp://127.0.0.1:1
fence_after: 5m
labels: {env: prod}
limits:
  labels: 12
  label_name: 32
  label_value: 256
  values_per_label: 50
  series_per_metric: 300
  series: 200
  memory: 32MiB
  dry_run: true
  outbox: 16MiB
  outbox_age: 24h
  late: 1m
metrics:
  - {name: orders_total, series: 5000, values_per_label: 1000}
  - {name: checkout_*, scale: 7, dry_run: false}
requests: {enabled: false}
profile: {enabled: false, hz: 99}
statsd: {enabled: false, udp: "", unix: /tmp/s.sock, receive_buffer: 1MiB}
log: {level: warn}
)");
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->host, "edge-1");
  EXPECT_EQ(c->data_dir, "/tmp/weir");
  EXPECT_EQ(c->window, std::chrono::seconds(1));
  EXPECT_EQ(c->flush_every.count(), 0);
  EXPECT_EQ(c->labels, (Labels{{"env", "prod"}}));
  const Limits limits{.labels = {.count = 12, .name = 32, .value = 256},
                      .values_per_label = 50,
                      .series_per_metric = 300,
                      .series = 200,
                      .dry_run = true,
                      .rules = {{.name = "orders_total", .series = 5000, .values_per_label = 1000},
                                {.name = "checkout_*", .scale = 7, .dry_run = false}}};
  EXPECT_EQ(c->limits.series, limits);
  EXPECT_EQ(c->limits.memory_bytes, uint64_t{32} << 20);
  EXPECT_EQ(c->limits.late, std::chrono::seconds(60));
  EXPECT_EQ(c->limits.outbox_age, std::chrono::hours(24));
  EXPECT_EQ(c->fence_after, std::chrono::minutes(5));
  EXPECT_FALSE(c->requests.enabled);
  EXPECT_FALSE(c->profile.enabled);
  EXPECT_EQ(c->profile.hz, 99u);
  EXPECT_FALSE(c->statsd.enabled);
  EXPECT_EQ(c->statsd.udp, "");
  EXPECT_EQ(c->statsd.unix_path, "/tmp/s.sock");
  EXPECT_EQ(c->log_level, log::Level::kWarn);
}

TEST(DaemonConfig, NamingRulesAreRead) {
  const auto c = read(R"(
requests:
  templates:
    - {service: shop, routes: ['/orders/{id}/lines', '/files/*']}
    - routes:
        - /v1/{tenant}
services:
  - {cgroup: /kubepods/*, exe: /usr/bin/java, comm: 'jav?', port: 8080, name: checkout}
  - {port: 80, name: web}
)");
  ASSERT_TRUE(c.ok()) << c.error().message;
  const NamingRules rules{
      .services = {{.cgroup = "/kubepods/*",
                    .exe = "/usr/bin/java",
                    .comm = "jav?",
                    .port = 8080,
                    .name = "checkout"},
                   {.cgroup = "", .exe = "", .comm = "", .port = 80, .name = "web"}},
      .routes = {{.service = "shop", .routes = {"/orders/{id}/lines", "/files/*"}},
                 {.service = "*", .routes = {"/v1/{tenant}"}}}};
  EXPECT_EQ(c->naming, rules);
}

TEST(DaemonConfig, NamingRulesAreChecked) {
  EXPECT_EQ(mistakes("services: [{name: a}, {port: 0, name: b}, {comm: c}, {port: 1, name: __x}]"),
            "1:19: name: every service would have it: give cgroup, exe, comm or port\n"
            "1:30: port: '0' is outside 1 to 65535\n"
            "1:39: name: every service would have it: give cgroup, exe, comm or port\n"
            "1:43: name: missing, and it has no default\n"
            "1:70: name: expected a name that does not begin with '__'\n");
  EXPECT_EQ(mistakes("services: [{prt: 1, name: a, comm: b}]"),
            "1:13: prt: unknown key, did you mean 'port'?\n");
  EXPECT_EQ(mistakes("requests: {templates: [{service: a}, {routes: [users]}]}"),
            "1:24: routes: missing, and it has no default\n"
            "1:47: routes: 'users': a route begins with '/' and has at most 128 bytes\n");
  EXPECT_EQ(mistakes("requests: {templates: [{routes: ['/a/*/b', '/2024/x', '/a?b']}]}"),
            "1:33: routes: '/a/*/b': '*' may only be the end\n"
            "1:33: routes: '/2024/x': the kernel takes '2024' for an id: write {id} for it\n"
            "1:33: routes: '/a?b': a route is printable ASCII without '?' and '#'\n");
  EXPECT_EQ(mistakes("requests: {templates: {a: b}}"),
            "1:23: templates: expected a list, like [{name: a}]\n");
}

TEST(DaemonConfig, AllMistakesAreSaidAtOnce) {
  EXPECT_EQ(mistakes("window: 7s\nflush_every: 8s\nprofle: {}\nprofile: {hz: 0}\nwindow: 60"),
            "1:9: window: must divide one hour\n"
            "2:14: flush_every: must not exceed 'window'\n"
            "3:1: profle: unknown key, did you mean 'profile'?\n"
            "4:15: hz: '0' is outside 1 to 999\n"
            "5:1: window: repeated key, first on line 1\n");
}

TEST(DaemonConfig, MeaningIsChecked) {
  EXPECT_EQ(mistakes("flush_every: 50ms"),
            "1:14: flush_every: expected 0s (when a window ends) or at least 100ms\n");
  EXPECT_EQ(mistakes("data_dir: weir"), "1:11: data_dir: expected an absolute path\n");
  EXPECT_EQ(mistakes("labels: {host: a}"), "1:9: labels: 'host' is a name Weir sets itself\n");
  EXPECT_EQ(mistakes("labels: {a-b: c}"),
            "1:9: labels: 'a-b' is no label: letters, digits and '_', at most 255 bytes\n");
  EXPECT_EQ(mistakes("statsd: {udp: \"localhost:8125\", unix: s.sock}"),
            "1:15: udp: expected ADDRESS:PORT in numbers, like 127.0.0.1:8125 or [::1]:8125\n"
            "1:39: unix: expected an absolute path of at most 107 bytes\n");
}

TEST(DaemonConfig, LimitsAreChecked) {
  EXPECT_EQ(mistakes("limits: {labels: 33, label_name: 8, values_per_label: 0, dry_run: maybe}"),
            "1:18: labels: '33' is outside 1 to 32\n"
            "1:34: label_name: '8' is outside 16 to 1024\n"
            "1:55: values_per_label: '0' is outside 1 to 1000000\n"
            "1:67: dry_run: expected true or false, got 'maybe'\n");
  EXPECT_EQ(mistakes("limits: {series_per_metric: 0, memory: 1MiB, series: 99, label_value: 9}"),
            "1:29: series_per_metric: '0' is outside 1 to 1000000\n"
            "1:40: memory: 1MiB is outside 8MiB to 16GiB\n"
            "1:54: series: '99' is outside 100 to 1000000\n"
            "1:71: label_value: '9' is outside 16 to 1024\n");
}

TEST(DaemonConfig, RulesForMetricsAreChecked) {
  EXPECT_EQ(mistakes("metrics: [{series: 1}, {name: a*b}, {name: a, scale: 8}, {name: a}]"),
            "1:11: name: missing, and it has no default\n"
            "1:31: name: expected a metric's name, or the beginning of one and '*'\n"
            "1:54: scale: '8' is outside 5 to 7\n"
            "1:65: name: 'a' has a rule already\n");
  EXPECT_EQ(mistakes("metrics: [{name: a, serie: 1}, b]"),
            "1:21: serie: unknown key, did you mean 'series'?\n"
            "1:32: metrics: expected a group of keys\n");
  EXPECT_EQ(mistakes("metrics: {name: a}"), "1:10: metrics: expected a list, like [{name: a}]\n");
}

TEST(DaemonConfig, RequestsCannotBeFinerThanTheKernelCounts) {
  EXPECT_EQ(mistakes("metrics:\n  - {name: http_*, scale: 7}"),
            "2:3: metrics: http_server_request_duration_seconds is measured in the kernel at scale "
            "6: 'scale' may be 5 or 6 for it\n"
            "2:3: metrics: http_client_request_duration_seconds is measured in the kernel at scale "
            "6: 'scale' may be 5 or 6 for it\n");
  EXPECT_EQ(mistakes("metrics: [{name: http_*, scale: 5}, {name: '*', scale: 7}]"), "none");
}

TEST(DaemonConfig, WhatAReloadCannotTakeOverIsNamed) {
  const auto running = read("");
  const auto wanted = read(
      "host: b\nfence_after: 1m\nlimits: {series: 200, memory: 9MiB, outbox_age: 1h, late: "
      "1m}\nmetrics: [{name: a, series: 1}]\n"
      "statsd: {enabled: false}\nservices: [{port: 1, name: a}]\n"
      "requests: {templates: [{routes: [/a]}]}");
  ASSERT_TRUE(running.ok() && wanted.ok());
  EXPECT_TRUE(needs_restart(*running, *running).empty());
  EXPECT_EQ(needs_restart(*running, *wanted),
            (std::vector<std::string>{"host", "fence_after", "limits.outbox_age", "limits.late",
                                      "statsd"}));
}

TEST(DaemonConfig, HostNameOfTheMachineIsCheckedLikeAConfiguredOne) {
  const auto c = read_config(YamlReader::from_text("weir.yaml", ""), "\xff");
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.error().message.find("host: expected 1 to 255 bytes of UTF-8"), std::string::npos)
      << c.error().message;
}

TEST(DaemonConfig, UpstreamOffThisHostNeedsKeys) {
  const std::string said = mistakes("upstream: tcp://10.0.0.1:7401");
  EXPECT_TRUE(said.starts_with("1:11: upstream: ")) << said;
}

}  // namespace
}  // namespace weir::daemon
