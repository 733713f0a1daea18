#pragma once
// NamingRules: the words of the configuration for what the kernel counts: services renamed by where
// and what they are, and route templates.
//
// Pure. First hit wins. Bounded by the configuration; matching is linear in the text.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/yaml_reader.h"

namespace weir::daemon {

// What is empty, or port 0, says nothing; a pattern may hold '*' (any text, '/' too) and '?'.
struct ServiceRule {
  std::string cgroup;  // path below the cgroup root: "/system.slice/*"
  std::string exe;     // of the process that listens
  std::string comm;    // its name
  uint16_t port = 0;   // it listens on
  std::string name;    // the service's

  friend bool operator==(const ServiceRule&, const ServiceRule&) = default;
};

struct RouteRule {
  std::string service = "*";
  std::vector<std::string> routes;  // "/users/{id}/orders", "/files/*"

  friend bool operator==(const RouteRule&, const RouteRule&) = default;
};

// What is known of a service; what is not is empty or 0, and matches no rule that asks for it.
struct ServiceFacts {
  std::string_view cgroup{};
  std::string_view exe{};
  std::string_view comm{};
  uint16_t port = 0;
};

struct NamingRules {
  std::vector<ServiceRule> services;
  std::vector<RouteRule> routes;

  // "" and nullptr: none.
  [[nodiscard]] std::string_view service_of(const ServiceFacts& facts) const;
  [[nodiscard]] const std::string* route_of(std::string_view service,
                                            std::string_view hashed_template) const;
  [[nodiscard]] bool ask_for_exe() const;

  friend bool operator==(const NamingRules&, const NamingRules&) = default;
};

[[nodiscard]] bool matches(std::string_view pattern, std::string_view text);

// `services` of the file, and `templates` of its section `requests`.
void read_service_rules(YamlSection& root, std::vector<ServiceRule>& out);
void read_route_rules(YamlSection& requests, std::vector<RouteRule>& out);

}  // namespace weir::daemon
