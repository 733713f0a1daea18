#include "common/upstream_config.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "common/keys.h"
#include "common/transport.h"

namespace weir {
namespace {

constexpr size_t kMaxServerKeys = 2;
constexpr std::string_view kHowToKeys =
    "make a pair with `weir keys new` and name its folder: keys: {dir: /etc/weir/keys}";

UpstreamConfig read_group(YamlSection& group) {
  UpstreamConfig out;
  group.require("endpoint");
  group.read("endpoint", out.endpoint);
  group.read("server_keys", out.server_keys);
  if (out.server_keys.size() > kMaxServerKeys) {
    group.fail("server_keys", "at most two: the server's key and its next one");
  }
  for (const std::string& key : out.server_keys) {
    if (!parse_z85(key)) {
      group.fail("server_keys",
                 fmt::format("'{}' is no public key: copy the first word of the server's host.pub, "
                             "in single quotes",
                             key));
    }
  }
  return out;
}

}  // namespace

void read_upstreams(YamlSection& yaml, std::string_view key, std::vector<UpstreamConfig>& out) {
  std::vector<UpstreamConfig> upstreams;
  switch (yaml.shape(key)) {
    case YamlShape::kAbsent:
      return;
    case YamlShape::kText: {
      UpstreamConfig one;
      yaml.read(key, one.endpoint);
      upstreams.push_back(std::move(one));
      break;
    }
    case YamlShape::kGroup: {
      YamlSection group = yaml.section(key);
      upstreams.push_back(read_group(group));
      break;
    }
    case YamlShape::kTexts: {
      std::vector<std::string> endpoints;
      yaml.read(key, endpoints);
      for (std::string& endpoint : endpoints) upstreams.push_back({std::move(endpoint), {}});
      break;
    }
    case YamlShape::kGroups:
      for (YamlSection& group : yaml.sections(key)) upstreams.push_back(read_group(group));
      break;
  }
  if (upstreams.empty()) return yaml.fail(key, "expected at least one endpoint");
  if (upstreams.size() > kMaxUpstreams) {
    yaml.fail(key, fmt::format("at most {} endpoints", kMaxUpstreams));
  }
  for (auto it = upstreams.begin(); it != upstreams.end(); ++it) {
    if (std::any_of(upstreams.begin(), it,
                    [&](const UpstreamConfig& other) { return other.endpoint == it->endpoint; })) {
      yaml.fail(key, fmt::format("{} is there twice", it->endpoint));
    }
  }
  out = std::move(upstreams);
}

void read_keys(YamlSection& yaml, KeysConfig& out) {
  const bool has_door = !out.allow.empty();
  YamlSection keys = yaml.section("keys");
  if (!yaml.has("keys")) return;
  keys.require("dir");
  keys.read("dir", out.dir);
  if (!out.dir.empty() && !out.dir.starts_with('/')) keys.fail("dir", "expected an absolute path");
  if (!has_door) return;
  keys.read("allow", out.allow);
  if (!out.allow.starts_with('/')) keys.fail("allow", "expected an absolute path");
}

void check_upstreams(YamlSection& yaml, std::string_view key,
                     const std::vector<UpstreamConfig>& upstreams, const KeysConfig& keys) {
  for (const UpstreamConfig& upstream : upstreams) {
    if (upstream.server_keys.empty()) {
      if (auto safe = check_endpoint_is_safe(upstream.endpoint); !safe) {
        yaml.fail(key, safe.error().message);
      }
    } else if (keys.dir.empty()) {
      yaml.fail(key, fmt::format("{} has server_keys, but this host has no keys: {}",
                                 upstream.endpoint, kHowToKeys));
    }
  }
}

}  // namespace weir
