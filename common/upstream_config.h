#pragma once
// The configuration of connections upwards, as every tier reads it, and of this host's own keys:
//
//   upstream: tcp://127.0.0.1:7401                      # this host: keys are not needed
//   upstream: [tcp://127.0.0.1:7401, tcp://127.0.0.1:7402]
//   upstream:
//     - {endpoint: 'tcp://eu-1.example.org:7401', server_keys: ['CURRENT', 'NEXT']}
//   keys: {dir: /etc/weir/keys}                         # allow: /etc/weir/allow.d where others
//   connect
//
// Pure. Promise: what is read is valid in all its parts; every mistake is said at its place, with
// what to do about it.

#include <string>
#include <string_view>
#include <vector>

#include "common/yaml_reader.h"

namespace weir {

struct UpstreamConfig {
  std::string endpoint;
  std::vector<std::string> server_keys;  // Z85: the key it has now, and the one it will have next
  friend bool operator==(const UpstreamConfig&, const UpstreamConfig&) = default;
};

struct KeysConfig {
  std::string dir;    // with host.key and host.pub; empty: no keys
  std::string allow;  // with *.pub: whom this door lets in; empty: the process has no door
  friend bool operator==(const KeysConfig&, const KeysConfig&) = default;
};

inline constexpr size_t kMaxUpstreams = 8;

// `upstream`: an endpoint, a group, or a list of either. Absent: `out` keeps its default. Reads no
// more than the one key; call check_upstreams() when `keys` is known.
void read_upstreams(YamlSection& yaml, std::string_view key, std::vector<UpstreamConfig>& out);

// `keys`; `out.allow` is a key of it only when it has a default.
void read_keys(YamlSection& yaml, KeysConfig& out);

// What does not go together: an endpoint off this host without keys, a server's key without our
// own.
void check_upstreams(YamlSection& yaml, std::string_view key,
                     const std::vector<UpstreamConfig>& upstreams, const KeysConfig& keys);

}  // namespace weir
