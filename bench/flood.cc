// bench/run flood: what a flood of label sets and names does to the edge. First the recorder alone:
// 1,500 Zipf routes and 60 % label sets seen once, at 2,000 series a metric, junk first. Then a
// real weir-daemon: 1,000,000 metric names seen once over its unix socket beside 100 that are in
// use; its memory is read from /proc, and what it counted from its outbox after it stopped.

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "common/batch.h"
#include "common/fd.h"
#include "common/sqlite.h"
#include "daemon/recorder.h"

namespace weir::bench {
namespace {

constexpr size_t kRoutes = 1'500;
constexpr size_t kBudgetMib = 64;
constexpr size_t kInUse = 100;

void must(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "bench flood: %s\n", what.c_str());
  std::exit(1);
}

struct Named {
  double legit_pct = 0;
  double top100 = 0;
  double total_error = 0;
};

// Five windows of 200,000 events.
Named flood_of_label_sets(size_t events) {
  daemon::RecorderLimits limits;
  limits.series.values_per_label = 1'000'000;  // what is measured is the limit behind it
  const UnixTime now(std::chrono::seconds(1'700'000'000));
  daemon::Recorder recorder(limits, now);
  const Metric metric{"requests_total", Kind::kCounter, "", 0};
  std::vector<double> below;
  double sum = 0;
  for (size_t rank = 1; rank <= kRoutes; ++rank) {
    below.push_back(sum += 1.0 / static_cast<double>(rank));
  }
  std::mt19937_64 random(7);
  const auto push = [&](const std::string& route) {
    const LabelView label{"route", route};
    const auto series = recorder.series(metric, {&label, 1});
    must(series.ok(), "the recorder refused a series");
    recorder.count(*series, now, 1);
    return recorder.alive(*series);
  };
  size_t junk = 0;
  size_t legit = 0;
  size_t named = 0;
  size_t pushed = 0;
  uint64_t counted = 0;
  const auto take = [&] {
    for (const int64_t start : recorder.open_windows()) {
      for (const Delta& delta : recorder.take(start)) {
        const bool own = recorder.table().metric_of(delta.series).name != metric.name;
        counted += own ? 0 : mass(delta.value);  // Weir's own tell about it
      }
    }
    recorder.end_window(now);
  };
  for (; pushed < 4'000; ++pushed) push("junk" + std::to_string(junk++));
  for (size_t i = 0; i < events; ++i, ++pushed) {
    if (random() % 100 < 60) {
      push("junk" + std::to_string(junk++));
    } else {
      ++legit;
      const double at = sum * static_cast<double>(random() >> 11) * 0x1p-53;
      const auto rank = std::upper_bound(below.begin(), below.end(), at) - below.begin();
      named += push("route" + std::to_string(rank)) ? 1U : 0U;
    }
    if ((i + 1) % (events / 5) == 0) take();
  }
  Named out;
  out.legit_pct = 100 * static_cast<double>(named) / static_cast<double>(legit);
  for (size_t rank = 0; rank < 100; ++rank) {
    out.top100 += push("route" + std::to_string(rank)) ? 1 : 0;
    ++pushed;
  }
  take();
  out.total_error = std::abs(static_cast<double>(counted) - static_cast<double>(pushed));
  return out;
}

class Daemon {
 public:
  explicit Daemon(const std::string& folder) : folder_(folder) {
    std::ofstream config(folder + "/weir.yaml");
    config << "host: bench\ndata_dir: " << folder << "\nwindow: 60s\nflush_every: 5s\n"
           << "upstream: tcp://127.0.0.1:9\n"  // nobody: all stays in the outbox
           << "limits: {memory: " << kBudgetMib << "MiB}\n"
           << "requests: {enabled: false}\nprofile: {enabled: false}\n"
           << "statsd: {udp: \"\", unix: " << socket_path() << "}\nlog: {level: error}\n";
    config.close();
    const auto program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "weir-daemon";
    pid_ = ::fork();
    must(pid_ >= 0, "fork failed");
    if (pid_ == 0) {
      const std::string file = folder + "/weir.yaml";
      ::execl(program.c_str(), program.c_str(), "--config", file.c_str(), nullptr);
      ::_exit(127);
    }
    sender_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path().copy(address.sun_path, sizeof address.sun_path - 1);
    for (int tries = 0;; ++tries) {
      if (::connect(sender_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
          0) {
        break;
      }
      must(tries < 300, "weir-daemon did not open its socket");
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }

  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  ~Daemon() { stop(); }

  // A full socket makes the sender wait: nothing is lost.
  void send(const std::string& packet) {
    must(::send(sender_.get(), packet.data(), packet.size(), 0) ==
             static_cast<ssize_t>(packet.size()),
         "weir-daemon takes no more packets");
  }

  // "VmRSS" now, or the greatest ever, "VmHWM"; KiB.
  [[nodiscard]] double memory_kib(const std::string& key) const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1));
    }
    return 0;
  }

  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "weir-daemon failed");
  }

  // What the outbox holds, by metric name; Weir's own left out.
  [[nodiscard]] std::map<std::string, uint64_t> counted() const {
    std::map<std::string, uint64_t> out;
    auto db = Database::open(folder_ + "/outbox.db");
    must(db.ok(), "the outbox cannot be opened");
    auto read = db->prepare("SELECT body FROM outbox WHERE kind = 1");
    must(read.ok(), "the outbox cannot be read");
    for (;;) {
      const auto more = read->step();
      must(more.ok(), "the outbox cannot be read");
      if (!*more) return out;
      const auto batch = decode_batch(read->blob(0));
      must(batch.ok(), "a batch cannot be decoded");
      for (const DecodedRow& row : batch->rows) {
        const std::string& name = batch->metrics[row.metric].name;
        if (!name.starts_with("weir_")) out[name] += mass(row.value);
      }
    }
  }

 private:
  [[nodiscard]] std::string socket_path() const { return folder_ + "/statsd.sock"; }

  std::string folder_;
  pid_t pid_ = 0;
  Fd sender_;
};

struct Survived {
  double rss_growth_mib = 0;
  double legit_lost = 0;   // of names in use, under their own name
  double total_error = 0;  // of all that was sent
};

Survived flood_of_names(size_t names) {
  std::string folder = (std::filesystem::temp_directory_path() / "weir-bench-XXXXXX").string();
  must(::mkdtemp(folder.data()) != nullptr, "no temporary folder");
  Survived out;
  {
    Daemon daemon(folder);
    const auto in_use = [&] {
      for (size_t i = 0; i < kInUse; i += 20) {
        std::string packet;
        for (size_t k = i; k < i + 20; ++k) packet += "used" + std::to_string(k) + ":1|c\n";
        daemon.send(packet);
      }
    };
    uint64_t each = 0;
    for (; each < 200; ++each) in_use();
    std::this_thread::sleep_for(std::chrono::seconds(2));
    const double before = daemon.memory_kib("VmRSS");
    for (size_t sent = 0; sent < names; sent += 20) {
      std::string packet;
      for (size_t k = sent; k < sent + 20; ++k) packet += "junk" + std::to_string(k) + ":1|c\n";
      daemon.send(packet);
      if (sent % 1'000 == 0) {
        in_use();
        ++each;
      }
    }
    std::this_thread::sleep_for(std::chrono::seconds(2));
    out.rss_growth_mib = (daemon.memory_kib("VmHWM") - before) / 1024;
    daemon.stop();
    uint64_t total = 0;
    const auto counted = daemon.counted();
    for (const auto& [name, n] : counted) total += n;
    for (size_t k = 0; k < kInUse; ++k) {
      const auto at = counted.find("used" + std::to_string(k));
      const uint64_t got = at == counted.end() ? 0 : at->second;
      out.legit_lost += std::abs(static_cast<double>(each) - static_cast<double>(got));
    }
    out.total_error =
        std::abs(static_cast<double>(total) - static_cast<double>(names + each * kInUse));
  }
  std::filesystem::remove_all(folder);
  return out;
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  using namespace weir::bench;  // NOLINT
  Report report("flood", argc, argv);
  const Named named = flood_of_label_sets(1'000'000);
  const size_t names = report.quick() ? 200'000 : 1'000'000;
  const Survived survived = flood_of_names(names);
  report.figure("legit_named_pct", named.legit_pct, "%", ">= 99, of 400,000 events, 60 % junk");
  report.figure("top100_named", named.top100, "", "100");
  report.figure("total_error", named.total_error + survived.total_error, "events", "0");
  report.figure("names", static_cast<double>(names), "", "seen once, beside 100 in use");
  report.figure("legit_lost", survived.legit_lost, "events", "0, of names in use");
  report.figure("rss_growth_mib", survived.rss_growth_mib, "MiB", "<= budget + 8");
  report.figure("budget_mib", kBudgetMib, "MiB", "limits.memory");
  return report.print();
}
