#include "aggregator/config.h"

#include <algorithm>
#include <chrono>

#include "common/limits_config.h"
#include "common/transport.h"
#include "common/yaml_reader.h"

namespace weir::aggregator {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum class TierKind : uint8_t { kRegion, kGlobal };

Result<Config> read(YamlReader yaml) {
  Config c;
  TierKind kind = TierKind::kRegion;
  yaml.require("tier");
  yaml.read("tier", kind, {{"region", TierKind::kRegion}, {"global", TierKind::kGlobal}});
  const bool global = kind == TierKind::kGlobal;
  c.tier.kind = global ? "global" : "region";
  yaml.require("name");
  yaml.read("name", c.tier.name);
  yaml.require("data_dir");
  yaml.read("data_dir", c.data_dir);
  yaml.read("listen", c.listen);
  yaml.read("http", c.http);
  read_keys(yaml, c.keys);
  std::vector<UpstreamConfig> upstreams;
  read_upstreams(yaml, "upstream", upstreams);
  check_upstreams(yaml, "upstream", upstreams, c.keys);
  if (upstreams.size() > 1) yaml.fail("upstream", "a tier has one next tier");
  if (!upstreams.empty()) {
    c.tier.upstream = upstreams.front().endpoint;
    c.upstream_keys = upstreams.front().server_keys;
  }

  seconds in{global ? 300 : 60};
  seconds out{global ? 3600 : 300};
  YamlSection windows = yaml.section("windows");
  windows.read("in", in, seconds(1), hours(24));
  windows.read("out", out, seconds(1), hours(24 * 7));
  c.tier.in_s = static_cast<uint32_t>(in.count());
  c.tier.out_s = static_cast<uint32_t>(out.count());

  seconds keep_in{global ? hours(24 * 30) : hours(48)};
  seconds keep_out{global ? hours(24 * 400) : hours(24 * 30)};
  YamlSection retention = yaml.section("retention");
  retention.read("in", keep_in, seconds(1), hours(24 * 3660));
  retention.read("out", keep_out, seconds(1), hours(24 * 3660));
  c.tier.keep_in_s = keep_in.count();
  c.tier.keep_out_s = keep_out.count();

  milliseconds close_after = seconds(c.tier.close_after_s);
  yaml.read("close_after", close_after, milliseconds(0), hours(24));
  // Windows end on whole seconds, and so does the wait.
  c.tier.close_after_s = std::chrono::ceil<seconds>(close_after).count();
  seconds expect_for{c.tier.expect_for_s};
  yaml.read("expect_for", expect_for, seconds(0), hours(72));
  c.tier.expect_for_s = expect_for.count();
  yaml.read("flush_every", c.tier.flush_every, milliseconds(0), hours(1));

  yaml.read("fence", c.fences.named);
  seconds fence_after{c.fences.after_s};
  yaml.read("fence_after", fence_after, seconds(1), hours(72));
  c.fences.after_s = fence_after.count();
  if (!c.tier.last() && !c.fences.named.empty()) {
    yaml.fail("fence", "only the last tier fences: it has no upstream");
  }

  yaml.read("drop_labels", c.tier.drop_labels);
  std::ranges::sort(c.tier.drop_labels);
  yaml.read("add_labels", c.tier.add_labels);

  if (global) {  // where regions meet
    c.limits = tier_limits(100'000, 20'000);
    c.catalog_rows = 400'000;
  }
  YamlSection limits = yaml.section("limits");
  read_limits(limits, c.limits);
  limits.read("catalog_rows", c.catalog_rows, 16, Catalog::kMaxRows);
  read_metric_rules(yaml, c.limits.rules);
  for (const MetricRule& rule : c.limits.rules) {
    if (rule.scale) yaml.fail("metrics", rule.name + ": 'scale' is for edges to choose");
  }
  limits.read_size("outbox", c.outbox_bytes, uint64_t{1} << 20, uint64_t{1} << 44);
  limits.read_size("inbox", c.inbox_bytes, uint64_t{1} << 20, uint64_t{1} << 44);
  limits.read("lives", c.lives, 16, 1'000'000);
  read_disk_limits(limits, c.disk);
  YamlSection log_section = yaml.section("log");
  log_section.read("level", c.log_level,
                   {{"debug", log::Level::kDebug},
                    {"info", log::Level::kInfo},
                    {"warn", log::Level::kWarn},
                    {"error", log::Level::kError}});

  if (auto safe = check_endpoint_is_safe(c.listen); !safe.ok() && c.keys.dir.empty()) {
    yaml.fail("listen", safe.error().message);
  }
  // Each mistake at the key it is about: "retention.in: ..." belongs to `in` of `retention`.
  for (const std::string& mistake : mistakes(c.tier)) {
    const std::string key = mistake.substr(0, mistake.find(": "));
    const std::string text = mistake.substr(key.size() + 2);
    if (key.starts_with("windows.")) {
      windows.fail(key.substr(8), text);
    } else if (key.starts_with("retention.")) {
      retention.fail(key.substr(10), text);
    } else {
      yaml.fail(key.substr(0, key.find('.')), text);
    }
  }
  return yaml.done(std::move(c));
}

}  // namespace

Result<Config> read_config(const std::string& path) { return read(YamlReader::from_file(path)); }

Result<Config> parse_config(const std::string& name, const std::string& text) {
  return read(YamlReader::from_text(name, text));
}

}  // namespace weir::aggregator
