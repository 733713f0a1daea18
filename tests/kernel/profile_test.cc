// The profiler against the running kernel: real samples of a process whose shares are known.

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "daemon/profiler/profile_source.h"
#include "tests/kernel/kernel_test.h"

namespace weir::daemon {
namespace {

using std::chrono::milliseconds;

// A process under test; its CPU time is known once it ended.
class Child {
 public:
  explicit Child(std::vector<std::string> command) {
    std::vector<char*> argv;
    for (auto& part : command) argv.push_back(part.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    started_ = ::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
  }

  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  ~Child() {
    if (started_ && !cpu_ns_) {
      ::kill(pid_, SIGKILL);
      (void)ended(0);
    }
  }

  [[nodiscard]] bool started() const { return started_; }

  [[nodiscard]] bool ended(int options = WNOHANG) {
    rusage usage = {};
    int status = 0;
    if (::wait4(pid_, &status, options, &usage) != pid_) return false;
    const auto ns = [](const timeval& t) { return t.tv_sec * 1'000'000'000 + t.tv_usec * 1000; };
    cpu_ns_ = static_cast<uint64_t>(ns(usage.ru_utime) + ns(usage.ru_stime));
    return true;
  }

  [[nodiscard]] uint64_t cpu_ns() const { return cpu_ns_.value_or(0); }

 private:
  pid_t pid_ = 0;
  bool started_ = false;
  std::optional<uint64_t> cpu_ns_;
};

// A source as the edge runs it, with everything it records added up per service.
class Rig {
 public:
  explicit Rig(uint32_t hz) : source_({.enabled = true, .hz = hz}, services_) {
    source_.start({*loop_, worker_, recorder_, clock_});
  }

  [[nodiscard]] std::string obstacle() const {
    const auto status = source_.status();
    return status.state == SourceState::kUnavailable ? status.reason : "";
  }

  // Turns the loop and drains once a second until the child ends.
  void run(Child& child) {
    MonoTime drained = clock_.mono();
    while (!child.ended()) {
      loop_->turn(milliseconds(50));
      if (clock_.mono() - drained < std::chrono::seconds(1)) continue;
      drained = clock_.mono();
      source_.drain(clock_.now(), Source::Drain::kRegular);
    }
    source_.drain(clock_.now(), Source::Drain::kFinal);
    status_ = source_.status();
    source_.stop();
    for (const int64_t window : recorder_.open_windows()) {
      for (const Delta& delta : recorder_.take(window)) {
        const auto& labels = recorder_.table().labels_of(delta.series);
        ASSERT_EQ(labels.size(), 1U);
        ASSERT_EQ(labels[0].first, "service");
        ASSERT_EQ(recorder_.table().metric_of(delta.series).name, "cpu");
        ASSERT_TRUE(profiles_[labels[0].second].merge(std::get<Profile>(delta.value)).ok());
      }
    }
  }

  [[nodiscard]] const Profile& of(const std::string& service) { return profiles_[service]; }

  [[nodiscard]] uint64_t samples() const {
    uint64_t sum = 0;
    for (const auto& [service, profile] : profiles_) sum += profile.samples();
    return sum;
  }

  [[nodiscard]] uint64_t counter(std::string_view name) const {
    for (const auto& [counter, value] : status_.counters) {
      if (counter == name) return value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }

 private:
  SystemClock clock_;
  std::unique_ptr<Loop> loop_ = *Loop::create();
  Worker worker_{"symbolizer"};
  Recorder recorder_{RecorderLimits{}, clock_.now()};
  ServiceNames services_{""};
  ProfileSource source_;
  SourceStatus status_;
  std::map<std::string, Profile> profiles_;
};

struct Share {
  uint64_t ns = 0;      // below this function
  uint64_t rooted = 0;  // of it, called from main
};

std::map<std::string, Share> shares(const Profile& profile) {
  std::map<std::string, Share> out;
  profile.for_each_stack([&](std::span<const Frame* const> stack, uint64_t ns) {
    bool below_main = false;
    for (const Frame* frame : stack) {
      Share& share = out[frame->name];
      share.ns += ns;
      if (below_main) share.rooted += ns;
      below_main = below_main || frame->name == "main";
    }
  });
  return out;
}

// 2,500 samples: 5 points are five standard deviations of the largest share.
TEST(ProfileKernel, ABurnersFunctionsHaveTheirSharesAndItsTimeIsWhole) {
  Rig rig(499);
  WEIR_SKIP_IF(rig.obstacle());
  Child burner({WEIR_BURNER, "5"});
  ASSERT_TRUE(burner.started());
  rig.run(burner);

  const Profile& profile = rig.of("burner");
  const auto total = static_cast<double>(profile.total_ns());
  auto share = shares(profile);
  const auto percent = [&](const char* name) {
    return 100 * static_cast<double>(share[name].ns) / total;
  };
  EXPECT_NEAR(percent("burn_sixty"), 60, 5);
  EXPECT_NEAR(percent("burn_thirty"), 30, 5);
  EXPECT_NEAR(percent("burn_ten"), 10, 5);
  // Frame pointers lead from it to main, but for a sample between call and prologue.
  EXPECT_GT(share["burn_sixty"].rooted, share["burn_sixty"].ns * 95 / 100);
  EXPECT_NEAR(total, static_cast<double>(burner.cpu_ns()),
              0.05 * static_cast<double>(burner.cpu_ns()));
  std::printf("burner: %llu samples, %.3f s profiled of %.3f s used; %.1f / %.1f / %.1f %%\n",
              static_cast<unsigned long long>(profile.samples()), total / 1e9,
              static_cast<double>(burner.cpu_ns()) / 1e9, percent("burn_sixty"),
              percent("burn_thirty"), percent("burn_ten"));
}

TEST(ProfileKernel, EverySampleIsInAProfileOrCountedLost) {
  Rig rig(499);
  WEIR_SKIP_IF(rig.obstacle());
  Child burner({WEIR_BURNER, "1"});
  ASSERT_TRUE(burner.started());
  rig.run(burner);
  EXPECT_GT(rig.samples(), 400U);
  EXPECT_EQ(rig.samples(), rig.counter("weir_profile_samples_total"));
  EXPECT_EQ(rig.counter("weir_profile_lost_total"), 0U);
  EXPECT_EQ(rig.counter("weir_profile_malformed_total"), 0U);
}

TEST(ProfileKernel, TimeInTheKernelShowsKernelFunctions) {
  Rig rig(499);
  WEIR_SKIP_IF(rig.obstacle());
  Child dd({"/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=1M", "count=20000", "status=none"});
  ASSERT_TRUE(dd.started());
  rig.run(dd);
  uint64_t kernel_ns = 0;
  rig.of("dd").for_each_stack([&](std::span<const Frame* const> stack, uint64_t ns) {
    const Frame& leaf = *stack.back();
    if (leaf.kind == FrameKind::kKernel && !leaf.name.starts_with("[kernel]")) kernel_ns += ns;
    EXPECT_EQ(stack.front()->name, "dd");
  });
  EXPECT_GT(kernel_ns, rig.of("dd").total_ns() / 2);
}

// The program file is deleted while it runs: its names still come from the mapped file.
TEST(ProfileKernel, ADeletedProgramStillHasItsNames) {
  Rig rig(499);
  WEIR_SKIP_IF(rig.obstacle());
  const std::string copy = ::testing::TempDir() + "weir-gone";
  ASSERT_EQ(::system(("cp " WEIR_BURNER " " + copy).c_str()), 0);  // NOLINT: our own words
  Child burner({copy, "1"});
  ASSERT_TRUE(burner.started());
  ASSERT_EQ(::unlink(copy.c_str()), 0);
  rig.run(burner);
  auto share = shares(rig.of("weir-gone"));
  EXPECT_GT(share["burn_sixty"].ns, rig.of("weir-gone").total_ns() / 2);
}

// It is gone long before the next drain: its mappings are read at its first sample.
TEST(ProfileKernel, AProcessOfATenthOfASecondHasItsNames) {
  Rig rig(499);
  WEIR_SKIP_IF(rig.obstacle());
  Child shell({"/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do " WEIR_BURNER " 0.1; done"});
  ASSERT_TRUE(shell.started());
  rig.run(shell);
  auto share = shares(rig.of("burner"));
  const uint64_t named = share["burn_sixty"].ns + share["burn_thirty"].ns + share["burn_ten"].ns;
  std::printf("short processes: %.1f %% named\n",
              100 * static_cast<double>(named) / static_cast<double>(rig.of("burner").total_ns()));
  EXPECT_GT(named, rig.of("burner").total_ns() * 8 / 10);
}

}  // namespace
}  // namespace weir::daemon
