#include "daemon/profiler/kallsyms.h"

#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

class KallsymsTest : public ::testing::Test {
 protected:
  Result<Kallsyms> load(const std::string& text) {
    const std::string path = dir_.file("kallsyms");
    std::ofstream(path, std::ios::binary) << text;
    return Kallsyms::load(path);
  }

 private:
  TempDir dir_;
};

TEST_F(KallsymsTest, NamesTheFunctionAtOrBelow) {
  const auto symbols = load(
      "ffffffff81000100 t second\n"
      "ffffffff81000000 T first\n"
      "ffffffff81000080 D data\n"
      "ffffffffc0a11000 t nft_do_chain\t[nf_tables]\n"
      "ffffffffc0b00000 t bpf_prog_1_sample\t[bpf]");
  ASSERT_TRUE(symbols.ok()) << symbols.error().message;
  EXPECT_EQ(symbols->size(), 4U);
  EXPECT_EQ(symbols->skipped(), 0U);
  EXPECT_FALSE(symbols->at(0xffffffff80ffffff));
  EXPECT_EQ(symbols->at(0xffffffff81000000)->name, "first");
  EXPECT_EQ(symbols->at(0xffffffff810000ff)->name, "first");
  EXPECT_EQ(symbols->at(0xffffffff81000100)->name, "second");
  EXPECT_EQ(symbols->at(0xffffffff81000100)->module, "[kernel]");
  EXPECT_EQ(symbols->at(0xffffffffc0a11fff)->name, "nft_do_chain");
  EXPECT_EQ(symbols->at(0xffffffffc0a11fff)->module, "[nf_tables]");
  EXPECT_EQ(symbols->at(0xffffffffc0b00fff)->module, "[bpf]");
  EXPECT_FALSE(symbols->at(UINT64_MAX));  // nothing near
}

TEST_F(KallsymsTest, OfTwoNamesTheFirstInTheFileStays) {
  const auto symbols = load("ffffffff81000000 T a\nffffffff81000000 T b\nffffffff81000010 T c\n");
  EXPECT_EQ(symbols->at(0xffffffff81000000)->name, "a");
}

TEST_F(KallsymsTest, HiddenAddressesAreUnavailable) {
  const auto hidden = load("0000000000000000 T _stext\n0000000000000000 T main\n");
  ASSERT_FALSE(hidden.ok());
  EXPECT_EQ(hidden.error().code, Errc::kUnavailable);
}

TEST_F(KallsymsTest, AnEmptyOrMissingFileIsUnavailable) {
  EXPECT_FALSE(load("").ok());
  EXPECT_FALSE(Kallsyms::load("/nonexistent/kallsyms").ok());
}

TEST_F(KallsymsTest, NonsenseLinesAreCountedAndTheRestCounts) {
  const auto symbols = load("rubbish\n\nffffffff81000000\nffffffff81000000 T\n" +
                            std::string(100'000, 'f') + " T long\n" + "ffffffff81000000 T " +
                            std::string(5000, 'n') + "\n" + "ffffffff81000020 T good\n");
  ASSERT_TRUE(symbols.ok());
  EXPECT_EQ(symbols->size(), 1U);
  EXPECT_EQ(symbols->skipped(), 6U);
  EXPECT_EQ(symbols->at(0xffffffff81000020)->name, "good");
}

}  // namespace
}  // namespace weir::daemon
