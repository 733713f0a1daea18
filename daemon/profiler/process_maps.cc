#include "daemon/profiler/process_maps.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "common/fd.h"
#include "daemon/profiler/demangle.h"

namespace weir::daemon {
namespace {

template <class T>
bool take_number(std::string_view& text, T& value, int base, char after) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (parsed.ec != std::errc{}) return false;
  text.remove_prefix(static_cast<size_t>(parsed.ptr - text.data()));
  if (text.empty() || text.front() != after) return false;
  text.remove_prefix(1);
  return true;
}

// Memory without a file is "[anon]" whatever it is called; the kernel's own keeps its brackets.
std::string module_name(const Mapping& mapping) {
  std::string_view path = mapping.path;
  if (mapping.inode == 0) return path.starts_with('[') ? clean_name(path) : "[anon]";
  if (path.ends_with(" (deleted)")) path.remove_suffix(10);
  const size_t slash = path.rfind('/');
  return clean_name(slash == path.npos ? path : path.substr(slash + 1));
}

// "55d0-55e0 r-xp 00002000 fe:00 247134                     /usr/bin/cat"
bool parse_line(std::string_view line, Mapping& out, bool& executable) {
  if (!take_number(line, out.start, 16, '-') || !take_number(line, out.end, 16, ' ')) return false;
  if (out.end <= out.start || line.size() < 5 || line[4] != ' ') return false;
  executable = line[2] == 'x';
  line.remove_prefix(5);
  if (!take_number(line, out.file_offset, 16, ' ') ||
      !take_number(line, out.device_major, 16, ':') ||
      !take_number(line, out.device_minor, 16, ' ') || !take_number(line, out.inode, 10, ' ')) {
    return false;
  }
  const size_t path = line.find_first_not_of(' ');
  out.path = path == line.npos ? std::string_view() : line.substr(path);
  out.module = module_name(out);
  return true;
}

// The whole file, at most `max` bytes; errno tells why not.
std::optional<std::string> read_file(const std::string& path, size_t max) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return std::nullopt;
  std::string text;
  while (text.size() < max) {
    const size_t before = text.size();
    text.resize(std::min(max, before + 65'536));
    const ssize_t n = ::read(file.get(), text.data() + before, text.size() - before);
    text.resize(before + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
  }
  return text;
}

}  // namespace

std::vector<Mapping> parse_maps(std::string_view text, size_t max_mappings) {
  std::vector<Mapping> out;
  while (!text.empty() && out.size() < max_mappings) {
    const size_t end = std::min(text.find('\n'), text.size());
    Mapping mapping;
    bool executable = false;
    if (parse_line(text.substr(0, end), mapping, executable) && executable) {
      out.push_back(std::move(mapping));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::sort(out.begin(), out.end(),
            [](const Mapping& a, const Mapping& b) { return a.start < b.start; });
  return out;
}

std::optional<uint64_t> start_ticks(std::string_view stat) {
  const size_t name_end = stat.rfind(')');
  if (name_end == stat.npos) return std::nullopt;
  stat.remove_prefix(name_end + 1);  // " S 1 ...": field 3 on
  for (int field = 2; field < 22; ++field) {
    const size_t space = stat.find(' ');
    if (space == stat.npos) return std::nullopt;
    stat.remove_prefix(space + 1);
  }
  uint64_t ticks = 0;
  return take_number(stat, ticks, 10, ' ') ? std::optional(ticks) : std::nullopt;
}

Mapping* ProcessMaps::find(const ProcessImage& image, uint64_t pc, int64_t now_s) {
  Entry& entry = entry_of(image, now_s);
  const auto lookup = [&entry, pc]() -> Mapping* {
    auto above = std::upper_bound(
        entry.mappings.begin(), entry.mappings.end(), pc,
        [](uint64_t wanted, const Mapping& mapping) { return wanted < mapping.start; });
    if (above == entry.mappings.begin()) return nullptr;
    --above;
    return pc < above->end ? &*above : nullptr;
  };
  if (Mapping* found = lookup(); found != nullptr) return found;
  // A library loaded since: look again, but not for every wild pc of a broken chain.
  if (entry.state != Loaded::kYes || entry.read_at_s == now_s) return nullptr;
  entry.read_at_s = now_s;
  read(entry);
  return lookup();
}

ProcessMaps::Loaded ProcessMaps::load(const ProcessImage& image, int64_t now_s) {
  return entry_of(image, now_s).state;
}

ProcessMaps::Entry& ProcessMaps::entry_of(const ProcessImage& image, int64_t now_s) {
  if (const auto known = by_image_.find(image); known != by_image_.end()) {
    entries_.splice(entries_.begin(), entries_, known->second);
    return entries_.front();
  }
  if (entries_.size() >= kMaxProcesses) forget_oldest();
  entries_.push_front(Entry{.image = image, .read_at_s = now_s, .mappings = {}});
  by_image_[image] = entries_.begin();
  Entry& entry = entries_.front();
  read(entry);
  if (entry.state == Loaded::kGone) ++gone_;
  if (entry.state == Loaded::kDenied) ++denied_;
  return entry;
}

void ProcessMaps::forget_oldest() {
  all_mappings_ -= entries_.back().mappings.size();
  by_image_.erase(entries_.back().image);
  entries_.pop_back();
}

// On failure what was known before stays: a process that ended still explains its last samples.
void ProcessMaps::read(Entry& entry) {
  const std::string folder = proc_ + "/" + std::to_string(entry.image.pid);
  const auto maps = read_file(folder + "/maps", kMaxMapsBytes);
  if (!maps) {
    if (entry.mappings.empty()) {
      entry.state = errno == EACCES || errno == EPERM ? Loaded::kDenied : Loaded::kGone;
    }
    return;
  }
  if (maps->empty()) return;  // a zombie
  // Read after the mappings: if the pid is still the process that was sampled, they are its own.
  const auto stat = read_file(folder + "/stat", 4096);
  const auto ticks = stat ? start_ticks(*stat) : std::nullopt;
  const auto ticks_per_s = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  if (!ticks || *ticks != entry.image.start_ns / (1'000'000'000 / ticks_per_s)) return;
  entry.state = Loaded::kYes;
  all_mappings_ -= entry.mappings.size();
  entry.mappings = parse_maps(*maps, kMaxMappings);
  all_mappings_ += entry.mappings.size();
  while (all_mappings_ > kMaxAllMappings) forget_oldest();  // the one just read is the newest
}

}  // namespace weir::daemon
