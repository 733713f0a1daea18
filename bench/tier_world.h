#pragma once
// What bench/run tier runs against: weir-aggregator processes that speak CURVE on loopback, the
// keys of everyone who may connect, and what /proc says of a process's memory.
//
// Owner: the bench's main thread. Promise: a process ends with its object, and with the bench.

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "aggregator/store/body_file.h"
#include "common/fd.h"
#include "common/keys.h"
#include "common/sqlite.h"

namespace weir::bench {

inline void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "bench tier: %s\n", status.error().message.c_str());
  std::exit(1);
}

template <class T>
T must(Result<T> result) {
  if (!result.ok()) must(Status(result.error()));
  return *std::move(result);
}

inline Status because(bool ok, const std::string& what) {
  return ok ? Status() : Status(Error{Errc::kIo, what});
}

// A TCP port of loopback that was free a moment ago.
inline std::string free_address() {
  const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  must(because(
      ::bind(probe.get(), generic, size) == 0 && ::getsockname(probe.get(), generic, &size) == 0,
      "no free port"));
  return "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
}

inline void write_zeros(const std::string& path, uint64_t bytes) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  const std::vector<char> zeros(size_t{1} << 20);
  for (uint64_t done = 0; done < bytes; done += zeros.size()) {
    must(because(
        ::write(file.get(), zeros.data(), zeros.size()) == static_cast<ssize_t>(zeros.size()),
        "no room for the bench"));
  }
  must(because(::fsync(file.get()) == 0, "the disk does not sync"));
}

// The keys of one region, of its global and of its edges; `edges` of them are let in.
class KeyRing {
 public:
  KeyRing(std::string folder, size_t edges)
      : folder_(std::move(folder)), region_(make("region", Role::kRegion)) {
    const KeyPair global = make("global", Role::kGlobal);
    global_key_ = z85_text(global.line().key);
    std::filesystem::create_directory(folder_ + "/edges.d");
    std::ofstream allow(folder_ + "/edges.d/edges.pub");
    for (size_t i = 0; i < edges; ++i) {
      edges_.push_back(KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever));
      allow << public_line_text(edges_.back().line()) << '\n';
    }
    std::filesystem::create_directory(folder_ + "/regions.d");
    std::ofstream(folder_ + "/regions.d/region.pub") << public_line_text(region_.line()) << '\n';
  }

  [[nodiscard]] const std::string& folder() const { return folder_; }

  [[nodiscard]] const KeyPair& region() const { return region_; }

  [[nodiscard]] const std::vector<KeyPair>& edges() const { return edges_; }

  [[nodiscard]] const std::string& global_key() const { return global_key_; }

 private:
  KeyPair make(const std::string& name, Role role) const {
    KeyPair keys = KeyPair::generate({random_uuid(), role}, PublicLine::kNever);
    std::filesystem::create_directory(folder_ + "/" + name);
    must(keys.save(folder_ + "/" + name));
    return keys;
  }

  std::string folder_;
  KeyPair region_;
  std::string global_key_;
  std::vector<KeyPair> edges_;
};

// One running weir-aggregator.
class Process {
 public:
  explicit Process(const std::string& config) {
    const auto program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "weir-aggregator";
    pid_ = ::fork();
    must(because(pid_ >= 0, "fork failed"));
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::execl(program.c_str(), program.c_str(), "--config", config.c_str(), nullptr);
      ::_exit(127);
    }
  }

  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  ~Process() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }

  // "VmRSS" now, or the greatest since forget_peak(), "VmHWM".
  [[nodiscard]] double memory_kib(const std::string& key) const {
    std::ifstream in(proc("status"));
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1));
    }
    must(invalid("weir-aggregator is gone"));
    return 0;
  }

  void forget_peak() const { std::ofstream(proc("clear_refs")) << "5"; }

  // Of all its threads, user and system.
  [[nodiscard]] double cpu_s() const {
    std::ifstream in(proc("stat"));
    std::string line;
    std::getline(in, line);
    std::istringstream fields(line.substr(line.rfind(')') + 2));
    std::string skipped;
    double user = 0;
    double system = 0;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    fields >> user >> system;
    return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }

 private:
  [[nodiscard]] std::string proc(const std::string& name) const {
    return "/proc/" + std::to_string(pid_) + "/" + name;
  }

  pid_t pid_ = 0;
};

// A global and a region that sends to it. What edges send stays in the region's inbox, or with
// `folds` is merged and sent up as by default.
enum class Folds : uint8_t { kNever, kAsByDefault };

class World {
 public:
  // With room for so many bytes of bodies, written once before.
  World(const KeyRing& keys, const std::string& folder, Folds folds, uint64_t room = 0)
      : folder_(folder),
        global_address_(free_address()),
        region_address_(free_address()),
        global_(global_config(keys)) {
    const std::string config = region_config(keys, folds);
    if (room > 0) {
      std::filesystem::create_directories(folder_ + "/region");
      write_zeros(aggregator::body_file(database()), room);
    }
    region_.emplace(config);
  }

  [[nodiscard]] std::string endpoint() const { return "tcp://" + region_address_; }

  [[nodiscard]] const Process& region() const { return *region_; }

  [[nodiscard]] std::string database() const { return folder_ + "/region/weir.db"; }

 private:
  std::string global_config(const KeyRing& keys) const {
    return config("global", "listen: tcp://" + global_address_ + "\nkeys: {dir: " + keys.folder() +
                                "/global, allow: " + keys.folder() + "/regions.d}\n");
  }

  std::string region_config(const KeyRing& keys, Folds folds) const {
    std::string text = "listen: tcp://" + region_address_ + "\nkeys: {dir: " + keys.folder() +
                       "/region, allow: " + keys.folder() +
                       "/edges.d}\nupstream: {endpoint: " + "'tcp://" + global_address_ +
                       "', server_keys: ['" + keys.global_key() + "']}\ndrop_labels: [host]\n";
    if (folds == Folds::kNever) {
      text += "windows: {in: 60s, out: 24h}\nflush_every: 0s\nlimits: {inbox: 1TiB}\n";
    }
    return config("region", text);
  }

  [[nodiscard]] std::string config(const std::string& tier, const std::string& text) const {
    std::filesystem::create_directories(folder_ + "/" + tier);
    const std::string path = folder_ + "/" + tier + ".yaml";
    std::ofstream(path) << "tier: " << tier
                        << "\nname: bench\nhttp: 127.0.0.1:0\ndata_dir: " << folder_ << "/" << tier
                        << "\nlog: {level: error}\n"
                        << text;
    return path;
  }

  std::string folder_;
  std::string global_address_;
  std::string region_address_;
  Process global_;
  std::optional<Process> region_;
};

}  // namespace weir::bench
