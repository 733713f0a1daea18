#include "daemon/service_names.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "daemon/profiler/demangle.h"

namespace weir::daemon {

namespace {

constexpr size_t kMaxCgroups = 20'000;
constexpr std::string_view kUnit = ".service";
constexpr size_t kContainerIdDigits = 64;
constexpr size_t kShownDigits = 12;

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

// systemd escapes as \xNN; anything else stays as it is.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    if (text.substr(i).starts_with("\\x") && i + 4 <= text.size()) {
      const char* from = text.data() + i + 2;
      const auto [end, failure] = std::from_chars(from, from + 2, byte, 16);
      if (failure == std::errc{} && end == from + 2 && byte > ' ' && byte < 0x7f) {
        out += static_cast<char>(byte);
        i += 3;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

std::string unit_of(std::string_view component) {
  if (!component.ends_with(kUnit)) return {};
  component.remove_suffix(kUnit.size());
  return unescape(component.substr(0, component.find('@')));
}

// "docker-<64 hex>.scope", "cri-containerd-<64 hex>.scope", "<64 hex>".
std::string container_of(std::string_view component) {
  size_t run = 0;
  for (size_t i = 0; i < component.size(); ++i) {
    run = is_hex(component[i]) ? run + 1 : 0;
    const bool ends = i + 1 == component.size() || !is_hex(component[i + 1]);
    if (run == kContainerIdDigits && ends) {
      return std::string(component.substr(i + 1 - kContainerIdDigits, kShownDigits));
    }
  }
  return {};
}

// Field `index` of a line split at single spaces.
std::string_view field(std::string_view line, size_t index) {
  for (; index > 0; --index) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

}  // namespace

std::string service_from_cgroup_path(std::string_view path) {
  while (!path.empty()) {  // the deepest component that names one
    const auto slash = path.rfind('/');
    const auto component = slash == std::string_view::npos ? path : path.substr(slash + 1);
    if (auto name = unit_of(component); !name.empty()) return clean_name(name);
    if (auto name = container_of(component); !name.empty()) return name;
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
  }
  return {};
}

Result<Cgroup2Mount> find_cgroup2_mount(const std::string& mountinfo_path) {
  std::ifstream file(mountinfo_path);
  if (!file) return Error{Errc::kIo, "cannot read " + mountinfo_path};
  // "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
  for (std::string line; std::getline(file, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    if (field(std::string_view(line).substr(dash + 3), 0) != "cgroup2") continue;
    const auto root = field(line, 3);
    const auto point = field(line, 4);
    if (root.empty() || point.empty()) continue;
    return Cgroup2Mount{.path = std::string(point), .root = std::string(root)};
  }
  return Error{Errc::kNotFound, "no cgroup2 file system in " + mountinfo_path};
}

Result<std::string> find_cgroup2_root(const std::string& mountinfo_path) {
  WEIR_TRY_ASSIGN(auto mount, find_cgroup2_mount(mountinfo_path));
  return std::move(mount.path);
}

ServiceNames::ServiceNames(std::string cgroup_root) : root_(std::move(cgroup_root)) {}

std::string_view ServiceNames::service_of(uint64_t cgroup_id, MonoTime now, ServiceFacts process) {
  auto it = cgroups_.find(cgroup_id);
  if (it == cgroups_.end() && (!walked_ || now - last_walk_ >= std::chrono::seconds(1))) {
    walked_ = true;
    last_walk_ = now;
    walk();
    it = cgroups_.find(cgroup_id);
  }
  const bool known = it != cgroups_.end();
  if (known) process.cgroup = it->second.path;
  if (const auto named = rules_.service_of(process); !named.empty()) return named;
  return known ? std::string_view(it->second.name) : std::string_view{};
}

void ServiceNames::set_rules(NamingRules rules) {
  if (rules == rules_) return;
  rules_ = std::move(rules);
  ++generation_;
}

void ServiceNames::walk() {
  if (root_.empty()) return;
  // Rebuilt whole: an inode may come back as another cgroup, and what is gone takes no room.
  std::unordered_map<uint64_t, Cgroup> found;
  const auto add = [&](const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return;
    auto below = path.substr(root_.size());
    auto name = service_from_cgroup_path(below);
    found.emplace(info.st_ino, Cgroup{below.empty() ? "/" : std::move(below), std::move(name)});
  };
  add(root_);
  std::error_code failure;
  auto it = std::filesystem::recursive_directory_iterator(
      root_, std::filesystem::directory_options::skip_permission_denied, failure);
  const std::filesystem::recursive_directory_iterator end;
  while (!failure && it != end && found.size() < kMaxCgroups) {
    std::error_code ignored;  // a cgroup that vanished while we walk is no error
    if (it->is_directory(ignored) && !it->is_symlink(ignored)) add(it->path().string());
    it.increment(failure);
  }
  // The walk ends early when a cgroup goes away under it: what was known is still true.
  if (failure && cgroups_.size() < kMaxCgroups) found.merge(cgroups_);
  cgroups_ = std::move(found);
}

}  // namespace weir::daemon
