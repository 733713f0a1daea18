#include "daemon/requests/request_labels.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "bpf/route_hash.h"
#include "daemon/recorder.h"
#include "daemon/requests/request_series.h"
#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

using namespace std::chrono_literals;

const MonoTime kStart{1h};

class FakeKernel final : public KernelNames {
 public:
  // As the kernel does: the first path of a hash is kept.
  uint32_t see(const std::string& path) {
    weir_route_path value{};
    std::memcpy(value.bytes, path.data(), std::min(path.size(), sizeof value.bytes));
    const auto hash = weir_hash_path(value.bytes, sizeof value.bytes).hash;
    paths.emplace(hash, value);
    return hash;
  }

  void listen(uint16_t port, uint32_t tgid, const std::string& comm) {
    weir_listener value{};
    value.tgid = tgid;
    comm.copy(value.comm, sizeof value.comm);
    listeners[port] = value;
  }

  std::optional<weir_route_path> path_of(uint64_t /*cgroup*/, uint32_t route) const override {
    const auto found = paths.find(route);
    if (found == paths.end()) return {};
    return found->second;
  }

  std::optional<weir_listener> listener_of(uint64_t /*cgroup*/, uint16_t port) const override {
    const auto found = listeners.find(port);
    if (found == listeners.end()) return {};
    return found->second;
  }

  std::map<uint32_t, weir_route_path> paths;
  std::map<uint16_t, weir_listener> listeners;
};

weir_cell_key key_of(uint32_t route, uint8_t role = WEIR_ROLE_SERVER) {
  weir_cell_key key{};
  key.cgroup = 1;
  key.port = 80;
  key.status = 200;
  key.method = WEIR_METHOD_GET;
  key.role = role;
  key.proto = WEIR_PROTO_HTTP1;
  key.octave = 30;
  key.route = route;
  return key;
}

class RequestNames : public ::testing::Test {
 protected:
  // What the recorder has: route, by service.
  std::map<std::string, uint64_t> recorded() {
    for (const auto window : recorder_.open_windows()) {
      for (const auto& delta : recorder_.take(window)) {
        const std::string& metric = recorder_.table().metric_of(delta.series).name;
        if (!metric.ends_with("request_duration_seconds")) continue;
        std::string name;
        for (const auto& [label, value] : recorder_.table().labels_of(delta.series)) {
          if (label == "service") name = value + name;
          if (label == "http_route") name += " " + value;
        }
        out_[name] += std::get<Distribution>(delta.value).count();
      }
    }
    return out_;
  }

  void request(const std::string& path, uint64_t n = 1) {
    RequestCell cell;
    cell.key = key_of(kernel_.see(path));
    cell.n[7] = n;
    cell.sum_ns = n * 1'000;
    cell.min_ns = cell.max_ns = 1'000;
    series_.record(cell, {recorder_, kernel_, now_, kStart});
  }

  static RecorderLimits limits() {
    RecorderLimits out;
    out.series.values_per_label = 1'000;  // more than there may be routes: the tree's cap is shown
    return out;
  }

  const UnixTime now_{1'700'000'000s};
  FakeKernel kernel_;
  ServiceNames services_{""};
  RequestLabels labels_{100, services_};
  RequestSeries series_{labels_};
  Recorder recorder_{limits(), now_};
  std::map<std::string, uint64_t> out_;
};

TEST_F(RequestNames, APathIsNamedByRulesAndTheListener) {
  kernel_.listen(80, 7, "nginx");
  request("/api/v1/users/17 ");
  request("/api/v1/users/18 ", 2);
  EXPECT_EQ(recorded(), (std::map<std::string, uint64_t>{{"nginx /api/v1/users/{id}", 3}}));
}

TEST_F(RequestNames, AHundredThousandPathsAreFewRoutesAndEveryRequestIsCounted) {
  kernel_.listen(80, 7, "nginx");
  uint64_t total = 0;
  for (int harvest = 0; harvest < 10; ++harvest) {
    labels_.begin_harvest(0, kStart);
    for (int i = 0; i < 10'000; ++i) {
      std::string word = "/shop/";
      for (int left = harvest * 10'000 + i; left > 0; left /= 26) {
        word += static_cast<char>('a' + left % 26);
      }
      request(word + " ");
      request("/login ", 3);
      total += 4;
    }
    kernel_.paths.clear();
  }
  uint64_t sum = 0;
  for (const auto& [name, n] : recorded()) sum += n;
  EXPECT_EQ(sum, total);
  EXPECT_EQ(out_.at("nginx /login"), 300'000U);
  EXPECT_GT(out_.at("nginx /shop/*"), 69'000U);
  EXPECT_LE(out_.size(), 55U);  // those of the time before the collapse
  EXPECT_EQ(labels_.routes_limited(), 0U);
}

// Deep random paths that no single level shows as a crowd: the cap holds, the rest is __other__.
TEST_F(RequestNames, BeyondTheCapEveryRequestIsCountedAsOther) {
  kernel_.listen(80, 7, "nginx");
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) request(std::string("/") + a + "/" + b + " ", 2);
  }
  uint64_t sum = 0;
  for (const auto& [name, n] : recorded()) sum += n;
  EXPECT_EQ(sum, 26U * 26 * 2);
  EXPECT_EQ(out_.size(), 101U);
  EXPECT_EQ(out_.at("nginx __other__"), (26U * 26 - 100) * 2);
  EXPECT_EQ(labels_.routes_limited(), (26U * 26 - 100) * 2);
  request("/z/z ", 5);  // from the cache of names
  EXPECT_EQ(labels_.routes_limited(), (26U * 26 - 100) * 2 + 5);
}

TEST_F(RequestNames, APathTheKernelHasForgottenIsCountedAndAskedForAgain) {
  kernel_.listen(80, 7, "nginx");
  RequestCell cell;
  cell.key = key_of(kernel_.see("/late "));
  cell.n[7] = 4;
  cell.sum_ns = 4'000;
  cell.min_ns = cell.max_ns = 1'000;
  const auto kept = std::exchange(kernel_.paths, {});
  series_.record(cell, {recorder_, kernel_, now_, kStart});
  EXPECT_EQ(labels_.paths_evicted(), 4U);
  kernel_.paths = kept;
  series_.record(cell, {recorder_, kernel_, now_, kStart});
  EXPECT_EQ(labels_.paths_evicted(), 4U);
  EXPECT_EQ(recorded(),
            (std::map<std::string, uint64_t>{{"nginx __other__", 4}, {"nginx /late", 4}}));
}

TEST_F(RequestNames, AnotherListenerOfAPortRenamesItsSeries) {
  kernel_.listen(80, 7, "nginx");
  labels_.begin_harvest(0, kStart);
  request("/a ");
  kernel_.listen(80, 8, "caddy");
  labels_.begin_harvest(1, kStart);
  request("/a ", 2);
  EXPECT_EQ(recorded(), (std::map<std::string, uint64_t>{{"nginx /a", 1}, {"caddy /a", 2}}));
}

TEST_F(RequestNames, NewRulesHoldFromTheNextHarvestOn) {
  kernel_.listen(80, 7, "nginx");
  labels_.begin_harvest(0, kStart);
  request("/users/bob ");
  services_.set_rules(
      {.services = {{.cgroup = "", .exe = "", .comm = "nginx", .port = 80, .name = "web"}},
       .routes = {{.service = "web", .routes = {"/users/{name}"}}}});
  labels_.begin_harvest(0, kStart);
  request("/users/bob ", 2);
  EXPECT_EQ(recorded(),
            (std::map<std::string, uint64_t>{{"nginx /users/bob", 1}, {"web /users/{name}", 2}}));
}

TEST_F(RequestNames, ARouteUnusedForAnHourGivesItsPlaceBack) {
  RequestLabels labels(1, services_);
  kernel_.listen(80, 7, "nginx");
  const auto a = key_of(kernel_.see("/a "));
  const auto b = key_of(kernel_.see("/b "));
  labels.begin_harvest(0, kStart);
  const auto first = labels.name(a, 1, kernel_, kStart);
  EXPECT_EQ(first.route, "/a");
  EXPECT_EQ(labels.name(b, 1, kernel_, kStart).route, "__other__");
  labels.used(first.place, 1, kStart + 30min);
  const auto before = labels.generation();
  labels.begin_harvest(0, kStart + 80min);
  EXPECT_EQ(labels.generation(), before);
  labels.begin_harvest(0, kStart + 95min);
  EXPECT_NE(labels.generation(), before);
  EXPECT_EQ(labels.name(b, 1, kernel_, kStart + 95min).route, "/b");
}

TEST_F(RequestNames, AClientIsNotNamedByWhoListens) {
  kernel_.listen(80, 7, "nginx");
  const auto key = key_of(WEIR_ROUTE_UNSEEN, WEIR_ROLE_CLIENT);
  const auto name = labels_.name(key, 1, kernel_, kStart);
  EXPECT_EQ(name.service, "unknown");
  EXPECT_EQ(name.route, "__unseen__");
  EXPECT_FALSE(name.lasts);
}

TEST(RequestExe, IsAskedOfTheProcessThatStillHasTheName) {
  namespace fs = std::filesystem;
  const TempDir root;
  fs::create_directories(root.file("7"));
  fs::create_symlink("/usr/bin/java", root.file("7/exe"));
  std::ofstream(root.file("7/comm")) << "java\n";
  FakeKernel kernel;
  kernel.listen(80, 7, "java");
  ServiceNames services("");
  services.set_rules(
      {.services = {{.cgroup = "", .exe = "*/java", .comm = "", .port = 0, .name = "shop"}},
       .routes = {}});
  RequestLabels labels(100, services, root.path());
  const auto key = key_of(WEIR_ROUTE_UNSEEN);
  EXPECT_EQ(labels.name(key, 1, kernel, kStart).service, "shop");
  kernel.listen(80, 7, "other");  // the pid is somebody else's by now
  EXPECT_EQ(labels.name(key, 1, kernel, kStart).service, "other");
}

}  // namespace
}  // namespace weir::daemon
