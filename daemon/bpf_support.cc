#include "daemon/bpf_support.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <system_error>
#include <vector>

#ifdef WEIR_BPF
#include <bpf/libbpf.h>
#endif

#include "common/check.h"

namespace weir::daemon {

namespace {

constexpr size_t kLogBytes = 4096;

thread_local BpfLog* current_log = nullptr;

#ifdef WEIR_BPF
int capture(libbpf_print_level level, const char* format, va_list args) {
  if (level == LIBBPF_DEBUG || current_log == nullptr) return 0;
  std::array<char, 1024> line{};
  const int length = std::vsnprintf(line.data(), line.size(), format, args);
  if (length > 0) {
    current_log->append({line.data(), std::min(static_cast<size_t>(length), line.size() - 1)});
  }
  return 0;
}
#endif

std::string joined(std::span<const Capability> capabilities) {
  std::string out;
  for (const auto capability : capabilities) {
    if (!out.empty()) out += ' ';
    out += capability_name(capability);
  }
  return out;
}

// libbpf's last line that says something of the kernel's own.
std::string_view last_line(std::string_view log) {
  while (!log.empty() && log.back() == '\n') log.remove_suffix(1);
  const auto cut = log.rfind('\n');
  return cut == std::string_view::npos ? log : log.substr(cut + 1);
}

}  // namespace

std::string_view capability_name(Capability capability) {
  switch (capability) {
    case Capability::kDacReadSearch:
      return "CAP_DAC_READ_SEARCH";
    case Capability::kNetAdmin:
      return "CAP_NET_ADMIN";
    case Capability::kSysPtrace:
      return "CAP_SYS_PTRACE";
    case Capability::kSysAdmin:
      return "CAP_SYS_ADMIN";
    case Capability::kSyslog:
      return "CAP_SYSLOG";
    case Capability::kPerfmon:
      return "CAP_PERFMON";
    case Capability::kBpf:
      return "CAP_BPF";
    case Capability::kCheckpointRestore:
      return "CAP_CHECKPOINT_RESTORE";
  }
  return "";
}

Result<uint64_t> effective_capabilities(const std::string& status_path) {
  std::ifstream file(status_path);
  if (!file) return Error{Errc::kIo, "cannot read " + status_path};
  constexpr std::string_view kKey = "CapEff:";
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kKey)) continue;
    const auto digits = line.find_first_not_of(" \t", kKey.size());
    if (digits == std::string::npos) break;
    uint64_t set = 0;
    const char* end = line.data() + line.size();
    const auto [rest, failure] = std::from_chars(line.data() + digits, end, set, 16);
    if (failure != std::errc{} || rest != end) break;
    return set;
  }
  return invalid(status_path + " has no CapEff line");
}

bool has_capability(uint64_t effective, Capability capability) {
  const auto bit = [effective](Capability c) {
    return ((effective >> static_cast<unsigned>(c)) & 1) != 0;
  };
  if (bit(capability)) return true;
  switch (capability) {
    case Capability::kBpf:
    case Capability::kPerfmon:
    case Capability::kNetAdmin:
      return bit(Capability::kSysAdmin);
    case Capability::kDacReadSearch:
    case Capability::kSysPtrace:
    case Capability::kSysAdmin:
    case Capability::kSyslog:
    case Capability::kCheckpointRestore:
      return false;
  }
  return false;
}

BpfLog::BpfLog() {
  WEIR_CHECK(current_log == nullptr);
  current_log = this;
#ifdef WEIR_BPF
  libbpf_set_print(capture);
#endif
}

BpfLog::~BpfLog() { current_log = nullptr; }

void BpfLog::append(std::string_view line) {
  text_ += line;
  if (text_.size() > kLogBytes) text_.erase(0, text_.size() - kLogBytes);
}

Obstacle explain_bpf_failure(std::string_view what, int error, std::span<const Capability> needed,
                             uint64_t effective, std::string_view log) {
  Obstacle out;
  out.reason = std::string(what) + ": " + std::generic_category().message(std::abs(error));
  std::vector<Capability> missing;
  for (const auto capability : needed) {
    if (!has_capability(effective, capability)) missing.push_back(capability);
  }
  if (!missing.empty()) {
    out.reason += "; missing " + joined(missing);
    out.fix = "needs " + joined(missing) + ": AmbientCapabilities=" + joined(needed);
    return out;
  }
  if (const auto line = last_line(log); !line.empty()) out.reason += " (" + std::string(line) + ")";
  out.fix = "needs Linux 5.17 or newer with CONFIG_DEBUG_INFO_BTF and CONFIG_CGROUP_BPF";
  return out;
}

void BpfLinkDeleter::operator()(bpf_link* link) const {
#ifdef WEIR_BPF
  bpf_link__destroy(link);
#else
  WEIR_CHECK(link == nullptr);
#endif
}

}  // namespace weir::daemon
