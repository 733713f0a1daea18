#include "daemon/listeners.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTcp =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n"
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "7001 1 0000000000000000 100 0 0 10 0\n"
    "   1: 0100007F:1F91 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 "
    "7002 1 0000000000000000 100 0 0 10 0\n";

TEST(Listeners, OnlyListeningSocketsAreRead) {
  const auto rows = parse_listening(kTcp);
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].port, 8080);
  EXPECT_EQ(rows[0].inode, 7001U);
}

TEST(Listeners, IPv6AddressesAndDamagedLines) {
  const auto rows = parse_listening(
      "0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 "
      "0 0 42 1\n"
      "1: nonsense\n"
      "2: 0100007F:ZZZZ 00000000:0000 0A 0:0 0:0 0 0 0 43 1\n"
      "3: 0100007F:0051 00000000:0000 0A 0:0 0:0 0 0 0 x 1\n"
      "4: 0100007F:0051 00000000:0000 0A");
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0].port, 80);
  EXPECT_EQ(rows[0].inode, 42U);
}

TEST(Listeners, TheSocketsInodeLeadsToTheProcessAndItsCgroup) {
  const TempDir root;
  const auto process = root.file("proc/77");
  fs::create_directories(process + "/net");
  fs::create_directories(process + "/fd");
  fs::create_directories(process + "/ns");
  fs::create_directories(root.file("proc/self"));  // not a number: not a process
  fs::create_directories(root.file("cgroup/web.service"));
  fs::create_symlink("net:[4026531840]", process + "/ns/net");
  fs::create_symlink("socket:[7001]", process + "/fd/5");
  fs::create_symlink("socket:[1]", process + "/fd/6");
  fs::create_symlink("/dev/null", process + "/fd/0");
  std::ofstream(process + "/net/tcp") << kTcp;
  std::ofstream(process + "/comm") << "nginx\n";
  std::ofstream(process + "/cgroup") << "1:cpu:/\n0::/web.service\n";
  const auto found = listeners_now(root.file("proc"), root.file("cgroup"));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].comm, "nginx");
  EXPECT_EQ(found[0].port, 8080);

  struct stat info {};

  ASSERT_EQ(::stat(root.file("cgroup/web.service").c_str(), &info), 0);
  EXPECT_EQ(found[0].cgroup, info.st_ino);
}

TEST(Listeners, NothingToReadIsNothingFound) {
  EXPECT_TRUE(listeners_now("/nonexistent", "/nonexistent").empty());
}

}  // namespace
}  // namespace weir::daemon
