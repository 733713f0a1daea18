#include "daemon/profiler/elf_symbols.h"

#include <fcntl.h>

#include <cstring>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/fakes/tiny_elf.h"

// Found by name in this very test binary.
extern "C" __attribute__((noinline, used)) int weir_elf_symbols_test_landmark(int x) {
  return x * 7 + 1;
}

namespace weir::daemon {
namespace {

ElfSymbols parsed(const TinyElf& elf, const ElfLimits& limits = {}) {
  const Bytes bytes = elf.bytes();
  auto symbols = ElfSymbols::parse(ElfInput(bytes), limits);
  EXPECT_TRUE(symbols.ok()) << symbols.error().message;
  return *std::move(symbols);
}

TEST(ElfSymbols, NamesTheFunctionThatCoversAnAddress) {
  const auto elf = parsed({.symbols = {{"beta", 0x401100, 0x20}, {"alpha", 0x401000, 0x80}}});
  EXPECT_EQ(elf.size(), 2U);
  EXPECT_TRUE(elf.complete());
  EXPECT_EQ(elf.name_at(0x401000), "alpha");
  EXPECT_EQ(elf.name_at(0x40107f), "alpha");
  EXPECT_EQ(elf.name_at(0x401080), std::nullopt);  // between the two
  EXPECT_EQ(elf.name_at(0x401110), "beta");
  EXPECT_EQ(elf.name_at(0x401120), std::nullopt);
  EXPECT_EQ(elf.name_at(0x400fff), std::nullopt);
  EXPECT_EQ(elf.name_at(0), std::nullopt);
  EXPECT_EQ(elf.name_at(UINT64_MAX), std::nullopt);
}

TEST(ElfSymbols, AFunctionWithoutSizeReachesToTheNext) {
  const auto elf = parsed({.symbols = {{"_start", 0x401000, 0, STT_NOTYPE}, {"f", 0x401040, 8}}});
  EXPECT_EQ(elf.name_at(0x40103f), "_start");
  EXPECT_EQ(elf.name_at(0x401047), "f");
}

TEST(ElfSymbols, AnAddressBehindANestedSymbolBelongsToTheOuterOne) {
  const auto elf = parsed({.symbols = {{"outer", 0x401000, 0x100}, {"inner", 0x401010, 8}}});
  EXPECT_EQ(elf.name_at(0x401014), "inner");
  EXPECT_EQ(elf.name_at(0x401020), "outer");
}

TEST(ElfSymbols, OfTwoNamesTheSizedGlobalOneWins) {
  const auto elf = parsed({.symbols = {{"a_local", 0x401000, 8, STT_FUNC, STB_LOCAL},
                                       {"b_label", 0x401000, 0, STT_NOTYPE, STB_GLOBAL},
                                       {"z_global", 0x401000, 8, STT_FUNC, STB_GLOBAL},
                                       {"c_weak", 0x401000, 8, STT_FUNC, STB_WEAK}}});
  EXPECT_EQ(elf.size(), 1U);
  EXPECT_EQ(elf.name_at(0x401000), "z_global");
}

TEST(ElfSymbols, DataIsNotAFunction) {
  const auto elf = parsed({.symbols = {{"table", 0x401000, 64, STT_OBJECT}, {"f", 0x401100, 1}}});
  EXPECT_EQ(elf.size(), 1U);
  EXPECT_EQ(elf.name_at(0x401000), std::nullopt);
}

TEST(ElfSymbols, TheFullTableIsPreferredToTheDynamicOne) {
  const auto both =
      parsed({.symbols = {{"all", 0x401000, 8}}, .dynamic_symbols = {{"exported", 0x401000, 8}}});
  EXPECT_EQ(both.name_at(0x401000), "all");
  const auto dynamic = parsed({.dynamic_symbols = {{"exported", 0x401000, 8}}});
  EXPECT_EQ(dynamic.name_at(0x401000), "exported");
  EXPECT_FALSE(dynamic.complete());
}

TEST(ElfSymbols, MapsFileOffsetsToAddresses) {
  const auto elf = parsed({});
  EXPECT_EQ(elf.address_of(0x1000), 0x401000U);
  EXPECT_EQ(elf.address_of(0x1fff), 0x401fffU);
  EXPECT_EQ(elf.address_of(0x0fff), std::nullopt);
  EXPECT_EQ(elf.address_of(0x2000), std::nullopt);
}

TEST(ElfSymbols, ReadsTheBuildId) {
  const auto elf = parsed({.build_id = {std::byte{0xab}, std::byte{0xcd}, std::byte{0x01}}});
  EXPECT_EQ(elf.build_id(), "abcd01");
  EXPECT_EQ(parsed({}).build_id(), "");
}

TEST(ElfSymbols, TakesNamesFromADebugFileAndKeepsItsSegments) {
  auto stripped = parsed({.dynamic_symbols = {{"exported", 0x401000, 8}}});
  stripped.take_names_from(parsed({.symbols = {{"secret", 0x401010, 8}}, .code_size = 0}));
  EXPECT_EQ(stripped.name_at(0x401010), "secret");
  EXPECT_TRUE(stripped.complete());
  EXPECT_EQ(stripped.address_of(0x1010), 0x401010U);
}

TEST(ElfSymbols, FunctionsBeyondTheLimitsAreCounted) {
  const TinyElf elf = {.symbols = {{"a", 0x401000, 8}, {"b", 0x401010, 8}, {"c", 0x401020, 8}}};
  const auto two = parsed(elf, {.symbols = 2});
  EXPECT_EQ(two.size(), 2U);
  EXPECT_EQ(two.dropped(), 1U);
  const auto first_one = parsed(elf, {.scanned = 2});  // of them one is the null symbol
  EXPECT_EQ(first_one.size(), 1U);
  EXPECT_EQ(first_one.dropped(), 2U);
  const auto short_names = parsed(elf, {.name_bytes = 4});
  EXPECT_EQ(short_names.size(), 2U);
  EXPECT_EQ(short_names.dropped(), 1U);
}

TEST(ElfSymbols, ALongNameIsCut) {
  const auto elf = parsed({.symbols = {{std::string(100'000, 'x'), 0x401000, 8}}});
  EXPECT_EQ(elf.name_at(0x401000)->size(), 4096U);
}

TEST(ElfSymbols, EveryTruncationIsRefused) {
  const Bytes whole = TinyElf{.symbols = {{"alpha", 0x401000, 8}},
                              .dynamic_symbols = {{"beta", 0x401000, 8}},
                              .build_id = Bytes(20, std::byte{7})}
                          .bytes();
  ASSERT_TRUE(ElfSymbols::parse(ElfInput(whole)).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ElfSymbols::parse(ElfInput(ByteView(whole).first(size))).ok()) << size;
  }
}

// No claim about the result: only that each flipped byte is survived (sanitizers watch).
TEST(ElfSymbols, EveryFlippedByteIsSurvived) {
  Bytes bytes = TinyElf{.symbols = {{"alpha", 0x401000, 8}},
                        .dynamic_symbols = {{"beta", 0x401000, 8}},
                        .build_id = Bytes(20, std::byte{7})}
                    .bytes();
  for (auto& byte : bytes) {
    for (const auto flip : {std::byte{0x01}, std::byte{0x80}, std::byte{0xff}}) {
      byte ^= flip;
      const auto symbols = ElfSymbols::parse(ElfInput(bytes));
      if (symbols.ok()) {
        for (uint64_t at = 0x400ff0; at < 0x401020; ++at) (void)symbols->name_at(at);
      }
      byte ^= flip;
    }
  }
}

TEST(ElfSymbols, OtherFilesAreRefusedWithAReason) {
  EXPECT_EQ(ElfSymbols::parse(ElfInput(as_bytes("#!/bin/sh\n"))).error().message,
            "not an ELF file");
  Bytes narrow = TinyElf{}.bytes();
  narrow[EI_CLASS] = std::byte{ELFCLASS32};
  EXPECT_EQ(ElfSymbols::parse(ElfInput(narrow)).error().message,
            "not a 64-bit little-endian ELF file");
}

TEST(ElfSymbols, AHugeStringTableIsRefusedWithoutReadingIt) {
  const Bytes bytes = TinyElf{.symbols = {{"alpha", 0x401000, 8}}}.bytes();
  const auto refused = ElfSymbols::parse(ElfInput(bytes), {.string_bytes = 3});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::kLimit);
}

TEST(ElfSymbols, ReadsThisTestsOwnExecutable) {
  const Fd self(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(self.valid());
  const auto input = ElfInput::of_file(self.get());
  ASSERT_TRUE(input.ok());
  const auto elf = ElfSymbols::parse(*input);
  ASSERT_TRUE(elf.ok()) << elf.error().message;
  EXPECT_TRUE(elf->complete());
  EXPECT_GT(elf->size(), 1000U);
  // Position-independent or not, two functions are as far apart in the file as in memory.
  EXPECT_EQ(weir_elf_symbols_test_landmark(1), 8);
  int found = 0;
  for (uint64_t at = 0; at < input->size(); at += 16) {
    const auto address = elf->address_of(at);
    if (address && elf->name_at(*address) == "weir_elf_symbols_test_landmark") ++found;
  }
  EXPECT_GE(found, 1);
}

TEST(ElfSymbols, ADirectoryIsNotAFile) {
  const Fd directory(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FALSE(ElfInput::of_file(directory.get()).ok());
}

}  // namespace
}  // namespace weir::daemon
