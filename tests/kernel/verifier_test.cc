#ifdef WEIR_BPF

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>

#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include "common/fd.h"
#include "daemon/request_probe.h"
#include "daemon/service_names.h"
#include "tests/kernel/kernel_test.h"

namespace weir::daemon {
namespace {

constexpr uint32_t kMaxInstructions = 50'000;  // walked by the verifier, a program

// Of the newest loaded program of each name that begins with "weir_".
std::map<std::string, uint32_t> verified_instructions() {
  std::map<std::string, uint32_t> out;
  for (uint32_t id = 0; bpf_prog_get_next_id(id, &id) == 0;) {
    const Fd program(bpf_prog_get_fd_by_id(id));
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (program.get() < 0 || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) continue;
    const std::string name(info.name);
    if (name.starts_with("weir_")) out[name] = info.verified_insns;
  }
  return out;
}

TEST(Verifier, WalksEveryRequestProgramWithinItsBudget) {
  const auto root = find_cgroup2_root("/proc/self/mountinfo");
  if (!root) WEIR_SKIP_IF(root.error().message);
  RequestProbe::Options options;
  options.cgroup_root = *root;
  Obstacle why;
  const auto probe = RequestProbe::create(options, why);
  if (!probe) WEIR_SKIP_IF(why.reason + "; " + why.fix);
  const auto walked = verified_instructions();
  for (const char* name : {"weir_ingress", "weir_egress", "weir_socket_sta", "weir_idle"}) {
    ASSERT_TRUE(walked.contains(name)) << name;
    std::printf("%-16s %6u instructions verified\n", name, walked.at(name));
    EXPECT_LT(walked.at(name), kMaxInstructions) << name;
  }
}

}  // namespace
}  // namespace weir::daemon

#endif  // WEIR_BPF
