#include "daemon/bpf_support.h"

#include <cerrno>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

constexpr Capability kNeeded[] = {Capability::kBpf, Capability::kPerfmon, Capability::kNetAdmin};

constexpr uint64_t bit(Capability c) { return uint64_t{1} << static_cast<unsigned>(c); }

std::string status_file(const std::string& text) {
  std::string folder = (std::filesystem::temp_directory_path() / "weir-caps-XXXXXX").string();
  EXPECT_NE(::mkdtemp(folder.data()), nullptr);
  std::ofstream(folder + "/status") << text;
  return folder + "/status";
}

TEST(BpfSupport, ReadsTheEffectiveSet) {
  const auto set = effective_capabilities(status_file("Name:\tx\nCapEff:\t000000c000001000\n"));
  ASSERT_TRUE(set.ok());
  EXPECT_EQ(*set, bit(Capability::kBpf) | bit(Capability::kPerfmon) | bit(Capability::kNetAdmin));
}

TEST(BpfSupport, AStatusFileWithoutTheSetIsAnError) {
  EXPECT_FALSE(effective_capabilities(status_file("Name:\tx\n")).ok());
  EXPECT_FALSE(effective_capabilities(status_file("CapEff:\tzz\n")).ok());
  EXPECT_FALSE(effective_capabilities("/nonexistent").ok());
}

TEST(BpfSupport, SysAdminImpliesWhatBpfNeeds) {
  const uint64_t admin = bit(Capability::kSysAdmin);
  EXPECT_TRUE(has_capability(admin, Capability::kBpf));
  EXPECT_TRUE(has_capability(admin, Capability::kNetAdmin));
  EXPECT_FALSE(has_capability(admin, Capability::kSysPtrace));
  EXPECT_FALSE(has_capability(bit(Capability::kBpf), Capability::kPerfmon));
}

TEST(BpfSupport, AFailureNamesTheMissingCapabilityAndTheFix) {
  const auto why = explain_bpf_failure("attaching requests", -EPERM, kNeeded,
                                       bit(Capability::kBpf) | bit(Capability::kPerfmon), "");
  EXPECT_EQ(why.reason, "attaching requests: Operation not permitted; missing CAP_NET_ADMIN");
  EXPECT_EQ(why.fix, "needs CAP_NET_ADMIN: AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN");
}

TEST(BpfSupport, AFailureWithEveryCapabilityQuotesTheKernel) {
  const auto why = explain_bpf_failure("loading requests", EINVAL, kNeeded, ~uint64_t{0},
                                       "first\nunknown func bpf_loop#181\n");
  EXPECT_EQ(why.reason, "loading requests: Invalid argument (unknown func bpf_loop#181)");
  EXPECT_FALSE(why.fix.empty());
}

}  // namespace
}  // namespace weir::daemon
