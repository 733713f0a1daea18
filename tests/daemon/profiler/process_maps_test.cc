#include "daemon/profiler/process_maps.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

constexpr char kCat[] =
    "55a0ddbe8000-55a0ddbea000 r--p 00000000 fe:00 247134                     /usr/bin/cat\n"
    "55a0ddbea000-55a0ddbef000 r-xp 00002000 fe:00 247134                     /usr/bin/cat\n"
    "55a0f3f08000-55a0f3f29000 rw-p 00000000 00:00 0                          [heap]\n"
    "7fa610fe7000-7fa611009000 rwxp 00000000 00:00 0 \n"
    "7fa611100000-7fa611101000 r-xp 00000000 fe:00 99        /opt/a b/lib x.so (deleted)\n"
    "7ffd0d9f2000-7ffd0d9f4000 r-xp 00000000 00:00 0                          [vdso]\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

TEST(ParseMaps, KeepsExecutableMappings) {
  const auto maps = parse_maps(kCat, 100);
  ASSERT_EQ(maps.size(), 5U);
  EXPECT_EQ(maps[0].start, 0x55a0ddbea000U);
  EXPECT_EQ(maps[0].end, 0x55a0ddbef000U);
  EXPECT_EQ(maps[0].file_offset, 0x2000U);
  EXPECT_EQ(maps[0].device_major, 0xfeU);
  EXPECT_EQ(maps[0].inode, 247134U);
  EXPECT_EQ(maps[0].path, "/usr/bin/cat");
  EXPECT_EQ(maps[1].path, "");
  EXPECT_EQ(maps[2].path, "/opt/a b/lib x.so (deleted)");
}

TEST(ParseMaps, NamesModulesAsPeopleDo) {
  const auto maps = parse_maps(kCat, 100);
  ASSERT_EQ(maps.size(), 5U);
  EXPECT_EQ(maps[0].module, "cat");
  EXPECT_EQ(maps[1].module, "[anon]");
  EXPECT_EQ(maps[2].module, "lib x.so");
  EXPECT_EQ(maps[3].module, "[vdso]");
  EXPECT_EQ(maps[4].module, "[vsyscall]");
}

TEST(ParseMaps, LeavesOutLinesThatMakeNoSense) {
  EXPECT_EQ(parse_maps("rubbish\n\n1-\n10-20\n10-20 r\n20-10 r-xp 0 0:0 1 /x\n"
                       "10-20 r-xp 0 0:0 1 /ok\n10-20 r-xp zz 0:0 1 /x\n",
                       100)
                .size(),
            1U);
}

TEST(ParseMaps, EveryTruncationIsSurvived) {
  const std::string_view text = kCat;
  for (size_t size = 0; size <= text.size(); ++size) {
    EXPECT_LE(parse_maps(text.substr(0, size), 100).size(), 5U);
  }
}

TEST(ParseMaps, StopsAtTheLimit) { EXPECT_EQ(parse_maps(kCat, 2).size(), 2U); }

TEST(StartTicks, ReadsBehindANameThatHoldsAnything) {
  EXPECT_EQ(start_ticks("7 (a) S 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 5712 9 9"),
            5712U);
  EXPECT_EQ(start_ticks("7 (x) S 1 2 3"), std::nullopt);
  EXPECT_EQ(start_ticks(""), std::nullopt);
}

class ProcessMapsTest : public ::testing::Test {
 protected:
  void process(uint32_t pid, const std::string& maps, uint64_t ticks) {
    const std::string folder = dir_.file(std::to_string(pid));
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/maps") << maps;
    std::ofstream(folder + "/stat")
        << pid << " (x) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 " << ticks << " 1 1\n";
  }

  static ProcessImage image(uint32_t pid, uint64_t ticks, uint64_t exec_id = 1) {
    const auto per_second = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
    return {pid, ticks * (1'000'000'000 / per_second) + 5, exec_id};
  }

  TempDir dir_;
  ProcessMaps maps_{dir_.path()};
};

TEST_F(ProcessMapsTest, FindsTheMappingOfAnAddress) {
  process(7, kCat, 100);
  const Mapping* found = maps_.find(image(7, 100), 0x55a0ddbea000, 1);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->path, "/usr/bin/cat");
  EXPECT_EQ(maps_.find(image(7, 100), 0x55a0ddbef000, 1), nullptr);  // one past the end
}

TEST_F(ProcessMapsTest, AnotherProcessUnderTheSamePidIsNotMistaken) {
  process(7, kCat, 100);
  EXPECT_EQ(maps_.find(image(7, 99), 0x55a0ddbea000, 1), nullptr);
  EXPECT_EQ(maps_.gone(), 1U);
  EXPECT_NE(maps_.find(image(7, 100), 0x55a0ddbea000, 1), nullptr);
}

TEST_F(ProcessMapsTest, AnExecIsANewImage) {
  process(7, kCat, 100);
  EXPECT_NE(maps_.find(image(7, 100, 1), 0x55a0ddbea000, 1), nullptr);
  process(7, "1000-2000 r-xp 00000000 fe:00 1 /bin/new\n", 100);
  EXPECT_EQ(maps_.find(image(7, 100, 2), 0x1000, 1)->path, "/bin/new");
  EXPECT_EQ(maps_.find(image(7, 100, 1), 0x55a0ddbea000, 1)->path, "/usr/bin/cat");
}

TEST_F(ProcessMapsTest, AMissLooksAgainOnceASecond) {
  process(7, kCat, 100);
  EXPECT_EQ(maps_.find(image(7, 100), 0x1000, 1), nullptr);
  process(7, std::string("1000-2000 r-xp 00000000 fe:00 1 /lib/late.so\n") + kCat, 100);
  EXPECT_EQ(maps_.find(image(7, 100), 0x1000, 1), nullptr);
  EXPECT_EQ(maps_.find(image(7, 100), 0x1000, 2)->path, "/lib/late.so");
}

TEST_F(ProcessMapsTest, AProcessThatEndedStillExplainsItsSamples) {
  process(7, kCat, 100);
  EXPECT_EQ(maps_.load(image(7, 100), 1), ProcessMaps::Loaded::kYes);
  std::filesystem::remove_all(dir_.file("7"));
  EXPECT_NE(maps_.find(image(7, 100), 0x55a0ddbea000, 9), nullptr);
  EXPECT_EQ(maps_.find(image(7, 100), 0x1000, 10), nullptr);
  EXPECT_NE(maps_.find(image(7, 100), 0x55a0ddbea000, 11), nullptr);
}

TEST_F(ProcessMapsTest, RemembersABoundedNumberOfProcesses) {
  for (uint32_t pid = 1; pid < 3000; ++pid) maps_.load(image(pid, 1), 1);
  EXPECT_EQ(maps_.size(), ProcessMaps::kMaxProcesses);
  EXPECT_EQ(maps_.gone(), 2999U);
}

TEST_F(ProcessMapsTest, RemembersABoundedNumberOfMappings) {
  std::string many;
  for (int i = 1; i <= 5000; ++i) {
    const std::string page = std::to_string(100'000 + i);  // hex digits too
    many += page + "000-" + page + "fff r-xp 00000000 fe:00 1 /lib/x.so\n";
  }
  for (uint32_t pid = 1; pid <= 20; ++pid) {
    process(pid, many, 1);
    EXPECT_EQ(maps_.load(image(pid, 1), 1), ProcessMaps::Loaded::kYes);
    EXPECT_LE(maps_.all_mappings(), ProcessMaps::kMaxAllMappings);
  }
  EXPECT_EQ(maps_.size(), ProcessMaps::kMaxAllMappings / ProcessMaps::kMaxMappings);
  EXPECT_NE(maps_.find(image(20, 1), 0x100001000, 1), nullptr);
}

}  // namespace
}  // namespace weir::daemon
