#include "daemon/profiler/kallsyms.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "common/fd.h"

namespace weir::daemon {

Result<Kallsyms> Kallsyms::load(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Error{Errc::kUnavailable, path + ": " + std::strerror(errno)};
  Kallsyms out;
  std::string pending;  // the last, unfinished line of what was read
  std::vector<char> chunk(256 << 10);
  for (;;) {
    const ssize_t n = ::read(file.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error{Errc::kIo, path + ": " + std::strerror(errno)};
    if (n == 0) break;
    std::string_view rest(chunk.data(), static_cast<size_t>(n));
    for (size_t end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
      if (pending.size() + end > kMaxLineBytes) {
        ++out.skipped_;
      } else if (pending.empty()) {
        if (!out.add(rest.substr(0, end))) ++out.skipped_;
      } else {
        if (!out.add(pending.append(rest.substr(0, end)))) ++out.skipped_;
      }
      pending.clear();
      rest.remove_prefix(end + 1);
    }
    pending += rest.substr(0, kMaxLineBytes + 1 - std::min(pending.size(), kMaxLineBytes + 1));
  }
  if (!pending.empty() && !out.add(pending)) ++out.skipped_;

  std::stable_sort(out.functions_.begin(), out.functions_.end(),
                   [](const Function& a, const Function& b) { return a.start < b.start; });
  if (out.functions_.empty() || out.functions_.back().start == 0) {
    return Error{Errc::kUnavailable, path + " shows no addresses"};
  }
  out.functions_.shrink_to_fit();
  out.names_.shrink_to_fit();
  return out;
}

// "ffffffff81000000 T _stext" or "ffffffffc0a11000 t nft_do_chain\t[nf_tables]"; text symbols only.
bool Kallsyms::add(std::string_view line) {
  uint64_t address = 0;
  const auto parsed = std::from_chars(line.data(), line.data() + line.size(), address, 16);
  const auto used = static_cast<size_t>(parsed.ptr - line.data());
  if (parsed.ec != std::errc{} || line.size() < used + 4 || line[used] != ' ' ||
      line[used + 2] != ' ') {
    return false;
  }
  const char type = line[used + 1];
  if (type != 't' && type != 'T' && type != 'w' && type != 'W') return true;
  std::string_view name = line.substr(used + 3);
  std::string_view module;
  if (const size_t tab = name.find('\t'); tab != name.npos) {
    module = name.substr(tab + 1);
    name = name.substr(0, tab);
  }
  if (name.empty() || name.find('\0') != name.npos || functions_.size() >= kMaxSymbols) {
    return false;
  }
  functions_.push_back({address, static_cast<uint32_t>(names_.size()), module_index(module)});
  names_.append(name).push_back('\0');
  return true;
}

// Lines of one module follow one another: the last one is almost always the right one.
uint32_t Kallsyms::module_index(std::string_view module) {
  if (module.empty()) return 0;
  if (modules_.back() == module) return static_cast<uint32_t>(modules_.size() - 1);
  const auto known = std::find(modules_.begin(), modules_.end(), module);
  if (known != modules_.end()) return static_cast<uint32_t>(known - modules_.begin());
  if (modules_.size() >= kMaxModules) return 0;
  modules_.emplace_back(module);
  return static_cast<uint32_t>(modules_.size() - 1);
}

std::optional<Kallsyms::Symbol> Kallsyms::at(uint64_t address) const {
  auto above = std::upper_bound(
      functions_.begin(), functions_.end(), address,
      [](uint64_t wanted, const Function& function) { return wanted < function.start; });
  if (above == functions_.begin()) return std::nullopt;
  const uint64_t start = std::prev(above)->start;
  if (address - start > kMaxFunctionBytes) return std::nullopt;
  // Of several names at one address the first in the file's order, which is the kernel's own.
  while (above != functions_.begin() && std::prev(above)->start == start) --above;
  return Symbol{modules_[above->module], names_.data() + above->name};
}

}  // namespace weir::daemon
