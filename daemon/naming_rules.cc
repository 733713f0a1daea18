#include "daemon/naming_rules.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "common/utf8.h"
#include "daemon/routes.h"

namespace weir::daemon {
namespace {

constexpr size_t kMaxRules = 100;
constexpr size_t kMaxRoutes = 1'000;  // of all rules
constexpr size_t kMaxText = 255;
constexpr size_t kMaxRouteBytes = 128;

bool is_placeholder(std::string_view segment) {
  return segment.starts_with("/{") && segment.ends_with('}') && segment.size() > 3;
}

// A template with a trailing "/*" has whatever follows; "{x}" is one segment.
bool route_matches(std::string_view route, std::string_view path) {
  while (!route.empty() && !path.empty()) {
    const auto wanted = next_segment(route);
    if (wanted == "/*" && route.empty()) return true;
    const auto got = next_segment(path);
    if (is_placeholder(wanted) ? got.size() < 2 : wanted != got) return false;
  }
  return route.empty() && path.empty();
}

// Why no path can ever match; "" when one can.
std::string mistake_in(std::string_view route) {
  if (!route.starts_with('/') || route.size() > kMaxRouteBytes) {
    return fmt::format("'{}': a route begins with '/' and has at most {} bytes", route,
                       kMaxRouteBytes);
  }
  const bool plain = std::ranges::all_of(
      route, [](char c) { return c > ' ' && c < 0x7f && c != '?' && c != '#'; });
  if (!plain) return fmt::format("'{}': a route is printable ASCII without '?' and '#'", route);
  for (std::string_view rest = route; !rest.empty();) {
    const auto segment = next_segment(rest);
    const auto body = segment.substr(1);
    if (body == "*" && !rest.empty()) return fmt::format("'{}': '*' may only be the end", route);
    if (!is_placeholder(segment) && collapses(body)) {
      return fmt::format("'{}': the kernel takes '{}' for an id: write {{id}} for it", route, body);
    }
  }
  return {};
}

void check_text(YamlSection& rule, std::string_view key, const std::string& text) {
  if (text.size() > kMaxText || !is_utf8(text)) {
    rule.fail(key, fmt::format("expected at most {} bytes of UTF-8", kMaxText));
  }
}

}  // namespace

// Goes back to the last '*' alone, so it is at most pattern * text steps.
bool matches(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::string_view NamingRules::service_of(const ServiceFacts& facts) const {
  const auto fits = [](const std::string& pattern, std::string_view text) {
    return pattern.empty() || (!text.empty() && matches(pattern, text));
  };
  for (const auto& rule : services) {
    if (fits(rule.cgroup, facts.cgroup) && fits(rule.exe, facts.exe) &&
        fits(rule.comm, facts.comm) && (rule.port == 0 || rule.port == facts.port)) {
      return rule.name;
    }
  }
  return {};
}

const std::string* NamingRules::route_of(std::string_view service,
                                         std::string_view hashed_template) const {
  for (const auto& rule : routes) {
    if (!matches(rule.service, service)) continue;
    for (const auto& route : rule.routes) {
      if (route_matches(route, hashed_template)) return &route;
    }
  }
  return nullptr;
}

bool NamingRules::ask_for_exe() const {
  return std::ranges::any_of(services, [](const auto& rule) { return !rule.exe.empty(); });
}

void read_service_rules(YamlSection& root, std::vector<ServiceRule>& out) {
  auto sections = root.sections("services");
  if (sections.size() > kMaxRules) {
    root.fail("services", fmt::format("at most {} rules", kMaxRules));
  }
  for (auto& section : sections) {
    ServiceRule rule;
    section.read("cgroup", rule.cgroup);
    section.read("exe", rule.exe);
    section.read("comm", rule.comm);
    section.read("port", rule.port, 1, 65535);
    section.require("name");
    section.read("name", rule.name);
    check_text(section, "cgroup", rule.cgroup);
    check_text(section, "exe", rule.exe);
    check_text(section, "comm", rule.comm);
    check_text(section, "name", rule.name);
    if (section.has("name") && (rule.name.empty() || rule.name.starts_with("__"))) {
      section.fail("name", "expected a name that does not begin with '__'");
    }
    if (rule.cgroup.empty() && rule.exe.empty() && rule.comm.empty() && rule.port == 0) {
      section.fail("name", "every service would have it: give cgroup, exe, comm or port");
    }
    out.push_back(std::move(rule));
  }
}

void read_route_rules(YamlSection& requests, std::vector<RouteRule>& out) {
  size_t routes = 0;
  auto sections = requests.sections("templates");
  for (auto& section : sections) {
    RouteRule rule;
    section.read("service", rule.service);
    section.require("routes");
    section.read("routes", rule.routes);
    check_text(section, "service", rule.service);
    for (const auto& route : rule.routes) {
      if (const auto mistake = mistake_in(route); !mistake.empty()) section.fail("routes", mistake);
    }
    routes += rule.routes.size();
    out.push_back(std::move(rule));
  }
  if (sections.size() > kMaxRules || routes > kMaxRoutes) {
    requests.fail("templates",
                  fmt::format("at most {} rules and {} routes", kMaxRules, kMaxRoutes));
  }
}

}  // namespace weir::daemon
