#include "daemon/profiler/symbolizer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"
#include "tests/fakes/tiny_elf.h"

extern "C" __attribute__((noinline, used)) int weir_symbolizer_test_landmark(int x) {
  return x * 3 + 2;
}

namespace weir::daemon {
namespace {

// A fake /proc with one process, pid 7, that maps one tiny ELF file at 0x7000000.
class SymbolizerTest : public ::testing::Test {
 protected:
  SymbolizerTest() {
    write_file("kallsyms", "ffffffff81000000 T do_syscall_64\nffffffff81000100 T vfs_read\n");
    install(TinyElf{.symbols = {{"main", 0x401000, 0x100}, {"_ZN3app4workEv", 0x401100, 0x100}}});
  }

  void write_file(const std::string& name, std::string_view text) {
    std::ofstream(dir_.file(name), std::ios::binary) << text;
  }

  // The program file, and the process that maps its code segment (file offset 0x1000).
  void install(const TinyElf& elf) {
    Bytes bytes = elf.bytes();
    std::filesystem::create_directories(dir_.file("7/map_files"));
    write_file("program", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    write_file("7/maps",
               "07000000-07001000 r-xp 00001000 00:00 99 /opt/app\n"
               "08000000-08001000 r-xp 00000000 00:00 0 \n");
    write_file("7/stat", "7 (app) S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 500 1 1\n");
    std::error_code ignored;
    std::filesystem::remove(dir_.file("7/map_files/7000000-7001000"), ignored);
    std::filesystem::create_symlink(dir_.file("program"), dir_.file("7/map_files/7000000-7001000"));
    std::filesystem::create_directories(dir_.file("self"));
    std::filesystem::remove(dir_.file("self/fd"), ignored);
    std::filesystem::create_symlink("/proc/self/fd", dir_.file("self/fd"));
  }

  static StackSample stack(std::vector<uint64_t> kernel, std::vector<uint64_t> user) {
    StackSample out;
    const auto per_second = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
    out.image = {7, 500 * (1'000'000'000 / per_second), 1};
    out.comm = "app";
    out.unix_s = 1'700'000'000;
    out.kernel = std::move(kernel);
    out.user = std::move(user);
    return out;
  }

  // "app;app`main;[kernel]`vfs_read"
  std::string named(const StackSample& sample) {
    std::vector<Frame> frames;
    quality_ = symbolizer_.symbolize(sample, frames);
    std::string out;
    for (const auto& frame : frames) {
      if (!out.empty()) out += ';';
      if (!frame.module.empty()) out += frame.module + "`";
      out += frame.name;
    }
    return out;
  }

  TempDir dir_;
  Symbolizer symbolizer_{{.proc_root = dir_.path(), .debug_root = dir_.file("debug")}};
  Symbolizer::Quality quality_;
};

TEST_F(SymbolizerTest, ProcessThenUserThenKernelRootFirst) {
  EXPECT_EQ(named(stack({0xffffffff81000110, 0xffffffff81000020}, {0x7000110, 0x7000050})),
            "app;app`main;app`app::work();[kernel]`do_syscall_64;[kernel]`vfs_read");
  EXPECT_FALSE(quality_.truncated);
  EXPECT_FALSE(quality_.unresolved);
}

TEST_F(SymbolizerTest, AReturnAddressBelongsToTheCallBeforeIt) {
  // 0x7000100 is the first byte of work(): as a leaf it is work, as a return address main's last.
  EXPECT_EQ(named(stack({}, {0x7000100, 0x7000100})), "app;app`main;app`app::work()");
}

TEST_F(SymbolizerTest, WhatHasNoNameKeepsModuleAndAddress) {
  EXPECT_EQ(named(stack({}, {0x7000250, 0x7000050})), "app;app`main;app`app+0x401250");
  EXPECT_TRUE(quality_.unresolved);
  EXPECT_EQ(named(stack({}, {0x7000050, 0x7000250})), "app;app`app+0x40124f;app`main");
  EXPECT_FALSE(quality_.unresolved);  // the leaf has a name
}

TEST_F(SymbolizerTest, GeneratedCodeHasNoAddresses) {
  EXPECT_EQ(named(stack({}, {0x8000250, 0x7000050})), "app;app`main;[anon]`[anon]");
  EXPECT_TRUE(quality_.unresolved);
}

TEST_F(SymbolizerTest, AChainThroughNoCodeIsTruncatedThere) {
  EXPECT_EQ(named(stack({}, {0x7000110, 0x7000050, 0xdeadbeef, 0x7000050})),
            "app;[truncated:unmapped];app`main;app`app::work()");
  EXPECT_TRUE(quality_.truncated);
  EXPECT_FALSE(quality_.unresolved);
}

TEST_F(SymbolizerTest, AStackAsDeepAsWeLookIsTruncated) {
  auto deep = stack({}, std::vector<uint64_t>(WEIR_PROFILE_MAX_FRAMES, 0x7000050));
  deep.stop = WEIR_PROFILE_STOP_DEPTH;
  EXPECT_TRUE(named(deep).starts_with("app;[truncated:depth];app`main;"));
  EXPECT_TRUE(quality_.truncated);
}

TEST_F(SymbolizerTest, AUserProcessWithoutUserStackSaysSo) {
  EXPECT_EQ(named(stack({0xffffffff81000110}, {})),
            "app;[truncated:no_user_stack];[kernel]`vfs_read");
  EXPECT_TRUE(quality_.truncated);
  EXPECT_FALSE(quality_.unresolved);
}

TEST_F(SymbolizerTest, AProcessThatIsGoneSaysSo) {
  auto gone = stack({}, {0x7000110});
  gone.image.pid = 8;
  EXPECT_EQ(named(gone), "app;[truncated:no_mappings]");
  EXPECT_TRUE(quality_.truncated);
  EXPECT_TRUE(quality_.unresolved);
  EXPECT_EQ(symbolizer_.health().processes_gone, 1U);
}

TEST_F(SymbolizerTest, KernelThreadsAreNamedWithoutTheirNumber) {
  auto worker = stack({0xffffffff81000110}, {});
  worker.kernel_thread = true;
  worker.comm = "kworker/0:1-events";
  EXPECT_EQ(named(worker), "kworker;[kernel]`vfs_read");
  EXPECT_FALSE(quality_.truncated);
}

TEST_F(SymbolizerTest, HiddenKernelAddressesLeaveOnlyWhatGivesNothingAway) {
  write_file("kallsyms", "0000000000000000 T do_syscall_64\n");
  EXPECT_EQ(named(stack({0xffffffff81234567}, {0x7000050})),
            "app;app`main;[kernel]`[kernel]+0x34567");
  EXPECT_TRUE(quality_.unresolved);
  EXPECT_FALSE(symbolizer_.health().kernel_names);
}

TEST_F(SymbolizerTest, NamesOfProcessesAreCleaned) {
  auto hostile = stack({}, {0x7000050});
  hostile.comm = "a\x1b[2J\xff";
  EXPECT_EQ(named(hostile), "a?[2J?;app`main");
}

TEST_F(SymbolizerTest, AnUnreadableFileLeavesOffsets) {
  std::filesystem::remove(dir_.file("program"));
  EXPECT_EQ(named(stack({}, {0x7000110})), "app;app`app+0x1110");
  EXPECT_EQ(symbolizer_.health().files_unreadable, 1U);
}

TEST_F(SymbolizerTest, ADebugFileOfTheSameBuildGivesTheNames) {
  const Bytes id = {std::byte{0xab}, std::byte{0xcd}, std::byte{0xef}};
  install({.dynamic_symbols = {{"exported", 0x401000, 8}}, .build_id = id});
  const Bytes debug = TinyElf{.symbols = {{"secret", 0x401100, 0x100}}, .build_id = id}.bytes();
  std::filesystem::create_directories(dir_.file("debug/.build-id/ab"));
  write_file("debug/.build-id/ab/cdef.debug",
             {reinterpret_cast<const char*>(debug.data()), debug.size()});
  EXPECT_EQ(named(stack({}, {0x7000110})), "app;app`secret");
}

TEST_F(SymbolizerTest, ADebugFileOfAnotherBuildIsNotUsed) {
  install({.dynamic_symbols = {{"exported", 0x401100, 8}},
           .build_id = {std::byte{0xab}, std::byte{0xcd}, std::byte{0xef}}});
  const Bytes debug =
      TinyElf{.symbols = {{"wrong", 0x401100, 0x100}}, .build_id = {std::byte{1}, std::byte{2}}}
          .bytes();
  std::filesystem::create_directories(dir_.file("debug/.build-id/ab"));
  write_file("debug/.build-id/ab/cdef.debug",
             {reinterpret_cast<const char*>(debug.data()), debug.size()});
  EXPECT_EQ(named(stack({}, {0x7000104})), "app;app`exported");
}

// A pipe in place of the file must not be waited on, nor a device opened.
TEST_F(SymbolizerTest, OnlyRegularFilesAreOpened) {
  std::filesystem::remove(dir_.file("program"));
  ASSERT_EQ(::mkfifo(dir_.file("program").c_str(), 0600), 0);
  EXPECT_EQ(named(stack({}, {0x7000110})), "app;app`app+0x1110");
}

// An upgrade in place is another file, though a new process maps it under the same name.
TEST(ObjectCache, AnUpgradedFileIsReadAgain) {
  TempDir dir;
  std::filesystem::create_directories(dir.file("7/map_files"));
  std::filesystem::create_directories(dir.file("self"));
  std::filesystem::create_symlink("/proc/self/fd", dir.file("self/fd"));
  std::filesystem::create_symlink(dir.file("program"), dir.file("7/map_files/1000-2000"));
  ObjectCache cache({.proc_root = dir.path(), .debug_root = dir.file("debug")});
  for (const std::string name : {"before", "afterwards"}) {
    const Bytes bytes = TinyElf{.symbols = {{name, 0x401000, 8}}}.bytes();
    std::ofstream(dir.file("program"), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    Mapping mapping{.start = 0x1000, .end = 0x2000, .inode = 9, .path = "/p", .module = "p"};
    const ElfSymbols* symbols = cache.symbols(7, mapping);
    ASSERT_NE(symbols, nullptr);
    EXPECT_EQ(symbols->name_at(0x401000), name);
    EXPECT_EQ(cache.symbols(7, mapping), symbols);  // known by now
  }
  EXPECT_EQ(cache.size(), 2U);
}

TEST(ObjectCache, ForgetsTheLeastRecentlyUsedBeyondItsBounds) {
  TempDir dir;
  std::filesystem::create_directories(dir.file("7/map_files"));
  std::filesystem::create_directories(dir.file("self"));
  std::filesystem::create_symlink("/proc/self/fd", dir.file("self/fd"));
  const Bytes bytes = TinyElf{.symbols = {{"f", 0x401000, 8}}}.bytes();
  ObjectCache cache({.proc_root = dir.path(), .debug_root = dir.file("debug"), .max_objects = 4});
  std::vector<Mapping> mappings;
  for (int i = 1; i <= 9; ++i) {
    const std::string digit = std::to_string(i);
    std::ofstream(dir.file("program" + digit), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    std::filesystem::create_symlink(dir.file("program" + digit),
                                    dir.file("7/map_files/" + digit + "000-" + digit + "fff"));
    const uint64_t start = static_cast<uint64_t>(i) << 12;
    mappings.push_back(
        {.start = start, .end = start + 0xfff, .inode = 9, .path = "/p", .module = "p"});
    ASSERT_NE(cache.symbols(7, mappings.back()), nullptr);
    EXPECT_LE(cache.size(), 4U);
  }
  EXPECT_NE(cache.symbols(7, mappings.front()), nullptr);  // read again
  EXPECT_EQ(cache.size(), 4U);
}

TEST(Vdso, HasTheClock) {
  const auto vdso = vdso_symbols("/proc");
  if (!vdso.ok()) GTEST_SKIP() << vdso.error().message;
  EXPECT_GT(vdso->size(), 0U);
}

TEST(Symbolizer, NamesAFunctionOfThisProcess) {
  std::ifstream stat("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(stat), {}};
  const auto per_second = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  StackSample sample;
  sample.image = {static_cast<uint32_t>(::getpid()),
                  *start_ticks(text) * (1'000'000'000 / per_second), 1};
  sample.comm = "daemon_tests";
  sample.user = {reinterpret_cast<uint64_t>(&weir_symbolizer_test_landmark)};
  Symbolizer symbolizer;
  std::vector<Frame> frames;
  symbolizer.symbolize(sample, frames);
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(frames[1].name, "weir_symbolizer_test_landmark");
}

}  // namespace
}  // namespace weir::daemon
