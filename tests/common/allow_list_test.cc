#include "common/allow_list.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/fake_clock.h"
#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using namespace std::chrono_literals;
using Verdict = AllowList::Verdict;

constexpr int64_t kNow = 1'800'000'000;

PublicLine line_of(Role role, int64_t not_after_s = PublicLine::kNever,
                   const SourceId& source = random_uuid()) {
  return KeyPair::generate({source, role}, not_after_s).line();
}

class AllowListTest : public testing::Test {
 protected:
  AllowListTest() : loop_(*Loop::create()) { clock_.set_unix(kNow); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.file(name)) << text;
  }

  void open() {
    auto opened = AllowList::open(dir_.path(), *loop_, clock_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    list_ = *std::move(opened);
  }

  Verdict verdict(const PublicLine& line) { return list_->find(line.key).verdict; }

  TempDir dir_;
  FakeClock clock_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<AllowList> list_;
};

TEST_F(AllowListTest, KnowsTheKeysOfItsFilesAndNobodyElse) {
  const PublicLine edge = line_of(Role::kEdge);
  const PublicLine region = line_of(Role::kRegion);
  write("a.pub", public_line_text(edge) + "\n");
  write("b.pub", "# regions\n" + public_line_text(region) + "\n");
  write("c.txt", public_line_text(line_of(Role::kEdge)));
  write(".d.pub", public_line_text(line_of(Role::kEdge)));
  open();
  EXPECT_EQ(list_->size(), 2U);
  EXPECT_EQ(verdict(edge), Verdict::kAllowed);
  EXPECT_EQ(list_->find(region.key).owner, region.owner);
  EXPECT_EQ(verdict(line_of(Role::kEdge)), Verdict::kUnknown);
  EXPECT_EQ(list_->bad_files(), 0U);
}

TEST_F(AllowListTest, AKeyEndsAtItsTimeWithoutAReload) {
  const PublicLine edge = line_of(Role::kEdge, kNow + 10);
  write("a.pub", public_line_text(edge));
  open();
  EXPECT_EQ(verdict(edge), Verdict::kAllowed);
  clock_.advance(10s);
  EXPECT_EQ(verdict(edge), Verdict::kExpired);
}

TEST_F(AllowListTest, ChangesOfTheFolderHoldByThemselves) {
  const PublicLine first = line_of(Role::kEdge);
  const PublicLine second = line_of(Role::kEdge);
  write("a.pub", public_line_text(first));
  open();
  write("new", public_line_text(second));
  ASSERT_EQ(std::rename(dir_.file("new").c_str(), dir_.file("b.pub").c_str()), 0);
  ASSERT_EQ(std::remove(dir_.file("a.pub").c_str()), 0);
  for (int i = 0; i < 500 && verdict(first) != Verdict::kUnknown; ++i) loop_->turn(10ms);
  EXPECT_EQ(verdict(first), Verdict::kUnknown);
  EXPECT_EQ(verdict(second), Verdict::kAllowed);
}

TEST_F(AllowListTest, AFolderThatIsReplacedAsAWholeIsSeen) {
  const PublicLine first = line_of(Role::kEdge);
  const PublicLine second = line_of(Role::kEdge);
  const PublicLine third = line_of(Role::kEdge);
  const auto make = [&](const std::string& name, const PublicLine& line) {
    std::filesystem::create_directory(dir_.file(name));
    write(name + "/a.pub", public_line_text(line));
  };
  const auto seen = [&](const PublicLine& line) {
    for (int i = 0; i < 500 && verdict(line) != Verdict::kAllowed; ++i) loop_->turn(10ms);
    return verdict(line) == Verdict::kAllowed;
  };
  make("one", first);
  std::filesystem::create_symlink("one", dir_.file("allow.d"));
  list_ = *AllowList::open(dir_.file("allow.d"), *loop_, clock_);
  EXPECT_EQ(verdict(first), Verdict::kAllowed);
  make("two", second);
  std::filesystem::remove(dir_.file("allow.d"));
  std::filesystem::create_symlink("two", dir_.file("allow.d"));
  EXPECT_TRUE(seen(second));
  EXPECT_EQ(verdict(first), Verdict::kUnknown);
  std::filesystem::remove_all(dir_.file("two"));
  for (int i = 0; i < 500 && list_->bad_files() == 0; ++i) loop_->turn(10ms);
  EXPECT_EQ(list_->bad_files(), 1U);  // gone: said once, and every key keeps its place
  make("two", third);
  EXPECT_TRUE(seen(third));
  write("two/a.pub", public_line_text(first));  // it is watched again
  EXPECT_TRUE(seen(first));
}

TEST_F(AllowListTest, AFileThatOthersCouldWriteLetsNobodyIn) {
  const PublicLine edge = line_of(Role::kEdge);
  write("a.pub", public_line_text(edge));
  ASSERT_EQ(::chmod(dir_.file("a.pub").c_str(), 0666), 0);
  open();
  EXPECT_EQ(verdict(edge), Verdict::kUnknown);
  ASSERT_EQ(list_->problems().size(), 1U);
  EXPECT_NE(list_->problems()[0].find("chmod o-w"), std::string::npos);
  ASSERT_EQ(::chmod(dir_.file("a.pub").c_str(), 0644), 0);
  list_->reload();
  EXPECT_EQ(verdict(edge), Verdict::kAllowed);
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  write("b.pub", public_line_text(line_of(Role::kEdge)));
  ASSERT_EQ(::chown(dir_.file("b.pub").c_str(), 65534, 65534), 0);
  list_->reload();
  EXPECT_EQ(list_->size(), 1U);
  EXPECT_NE(list_->problems()[0].find("neither root nor we"), std::string::npos);
}

TEST_F(AllowListTest, ABadFileKeepsWhatItSaidAndIsCounted) {
  const PublicLine kept = line_of(Role::kEdge);
  const PublicLine other = line_of(Role::kEdge);
  write("a.pub", public_line_text(kept));
  open();
  write("a.pub", "half a li");
  write("b.pub", public_line_text(other));
  write("c.pub", std::string(AllowedKeys::kMaxFileBytes + 1, '\n'));
  list_->reload();
  EXPECT_EQ(list_->bad_files(), 2U);
  ASSERT_EQ(list_->problems().size(), 2U);
  EXPECT_NE(list_->problems()[0].find("a.pub:1: expected four words"), std::string::npos);
  EXPECT_EQ(verdict(kept), Verdict::kAllowed);
  EXPECT_EQ(verdict(other), Verdict::kAllowed);
  ASSERT_EQ(std::remove(dir_.file("a.pub").c_str()), 0);  // taking it away is no mistake
  list_->reload();
  EXPECT_EQ(verdict(kept), Verdict::kUnknown);
}

TEST_F(AllowListTest, ASourceMayHaveTwoValidKeysAndNoMore) {
  const SourceId source = random_uuid();
  const PublicLine old_key = line_of(Role::kEdge, kNow, source);  // no longer counts
  const PublicLine now_key = line_of(Role::kEdge, kNow + 60, source);
  const PublicLine next_key = line_of(Role::kEdge, PublicLine::kNever, source);
  const PublicLine third = line_of(Role::kEdge, PublicLine::kNever, source);
  write("a.pub", public_line_text(old_key) + "\n" + public_line_text(now_key) + "\n" +
                     public_line_text(next_key) + "\n" + public_line_text(third) + "\n");
  open();
  EXPECT_EQ(verdict(old_key), Verdict::kExpired);
  EXPECT_EQ(verdict(now_key), Verdict::kAllowed);
  EXPECT_EQ(verdict(next_key), Verdict::kAllowed);
  EXPECT_EQ(verdict(third), Verdict::kUnknown);
  ASSERT_EQ(list_->problems().size(), 1U);
  EXPECT_NE(list_->problems()[0].find("more than 2 valid keys"), std::string::npos);
}

TEST_F(AllowListTest, AKeyWithTwoOwnersIsNobodys) {
  PublicLine mine = line_of(Role::kEdge);
  write("a.pub", public_line_text(mine));
  PublicLine thief = mine;
  thief.owner.role = Role::kRegion;
  write("b.pub", public_line_text(thief));
  open();
  EXPECT_EQ(verdict(mine), Verdict::kUnknown);
  EXPECT_EQ(list_->problems().size(), 1U);
  thief = mine;
  thief.not_after_s = kNow - 1;
  write("b.pub", public_line_text(thief));  // twice the same owner: the earlier end holds
  list_->reload();
  EXPECT_EQ(verdict(mine), Verdict::kExpired);
}

TEST_F(AllowListTest, AFolderThatIsNotThereOrOpenToAllIsAnErrorAtTheStartAndKeepsTheKeysLater) {
  EXPECT_FALSE(AllowList::open(dir_.file("none"), *loop_, clock_).ok());
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0777), 0);
  const auto open_to_all = AllowList::open(dir_.path(), *loop_, clock_);
  ASSERT_FALSE(open_to_all.ok());
  EXPECT_NE(open_to_all.error().message.find("chmod o-w"), std::string::npos);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  const PublicLine edge = line_of(Role::kEdge);
  write("a.pub", public_line_text(edge));
  open();
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0777), 0);
  list_->reload();
  EXPECT_EQ(verdict(edge), Verdict::kAllowed);
  EXPECT_EQ(list_->bad_files(), 1U);
}

}  // namespace
}  // namespace weir
