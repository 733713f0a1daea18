#include "daemon/listeners.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <unordered_map>

namespace weir::daemon {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxListeners = 4096;
constexpr std::string_view kListenState = "0A";
constexpr std::string_view kSocket = "socket:[";

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string read_link(const std::string& path) {
  std::array<char, 4096> target{};
  const auto size = ::readlink(path.c_str(), target.data(), target.size());
  return size < 0 ? std::string{} : std::string(target.data(), static_cast<size_t>(size));
}

std::string_view next_word(std::string_view& line) {
  const auto begin = std::min(line.find_first_not_of(' '), line.size());
  const auto end = std::min(line.find(' ', begin), line.size());
  const auto word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

template <class T>
bool parse(std::string_view text, T& value, int base) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return failure == std::errc{} && end == text.data() + text.size();
}

// The inode of the process's cgroup v2 directory; 0 when unknown.
uint64_t cgroup_id_of(const std::string& process, const std::string& cgroup_root) {
  std::ifstream in(process + "/cgroup");
  for (std::string line; std::getline(in, line);) {
    struct stat info {};

    if (!line.starts_with("0::")) continue;
    return ::stat((cgroup_root + line.substr(3)).c_str(), &info) == 0 ? info.st_ino : 0;
  }
  return 0;
}

std::string comm_of(const std::string& process) {
  auto comm = read_file(process + "/comm");
  while (!comm.empty() && comm.back() == '\n') comm.pop_back();
  return comm;
}

std::vector<std::string> processes(const std::string& proc_root) {
  std::vector<std::string> out;
  std::error_code failure;
  for (fs::directory_iterator it(proc_root, failure), end; !failure && it != end;
       it.increment(failure)) {
    const auto name = it->path().filename().string();
    if (std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      out.push_back(it->path().string());
    }
  }
  return out;
}

}  // namespace

std::vector<ListenRow> parse_listening(std::string_view text) {
  std::vector<ListenRow> rows;
  while (!text.empty() && rows.size() < kMaxListeners) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    next_word(line);  // "0:"
    const auto local = next_word(line);
    next_word(line);  // remote
    if (next_word(line) != kListenState) continue;
    for (int skipped = 0; skipped < 5; ++skipped) next_word(line);
    ListenRow row;
    const auto colon = local.rfind(':');
    if (colon == std::string_view::npos || !parse(local.substr(colon + 1), row.port, 16) ||
        !parse(next_word(line), row.inode, 10)) {
      continue;
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<Listener> listeners_now(const std::string& proc_root, const std::string& cgroup_root) {
  // Every network namespace once, through any process in it.
  std::unordered_map<uint64_t, uint16_t> port_of_inode;
  std::set<std::string> namespaces;
  const auto all = processes(proc_root);
  for (const auto& process : all) {
    if (!namespaces.insert(read_link(process + "/ns/net")).second) continue;
    for (const char* file : {"/net/tcp", "/net/tcp6"}) {
      for (const auto& row : parse_listening(read_file(process + file))) {
        if (port_of_inode.size() < kMaxListeners) port_of_inode.emplace(row.inode, row.port);
      }
    }
  }
  std::vector<Listener> out;
  if (port_of_inode.empty()) return out;
  for (const auto& process : all) {
    std::error_code failure;
    for (fs::directory_iterator it(process + "/fd", failure), end; !failure && it != end;
         it.increment(failure)) {
      const auto link = read_link(it->path().string());
      const std::string_view target = link;
      uint64_t inode = 0;
      if (!target.starts_with(kSocket) || !target.ends_with(']')) continue;
      if (!parse(target.substr(kSocket.size(), target.size() - kSocket.size() - 1), inode, 10)) {
        continue;
      }
      const auto found = port_of_inode.find(inode);
      if (found == port_of_inode.end()) continue;
      uint32_t tgid = 0;
      parse(std::string_view(process).substr(process.rfind('/') + 1), tgid, 10);
      out.push_back({cgroup_id_of(process, cgroup_root), found->second, tgid, comm_of(process)});
      port_of_inode.erase(found);  // the lowest pid that holds it: the parent of workers
    }
  }
  return out;
}

std::string executable_of(const std::string& proc_root, uint32_t tgid, std::string_view comm) {
  const auto process = proc_root + "/" + std::to_string(tgid);
  return comm_of(process) == comm ? read_link(process + "/exe") : std::string{};
}

}  // namespace weir::daemon
