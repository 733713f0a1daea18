#include "common/keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

const std::string kZ85 = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";  // RFC 32's own example
const std::string kUuid = "00112233-4455-4677-8899-aabbccddeeff";
const std::string kLine = kZ85 + " " + kUuid + " region 2027-11-21T08:00:00Z";

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_file(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

unsigned mode_of(const std::string& path) {
  struct stat info {};

  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 07777U;
}

TEST(Z85, IsReadOnlyAsItIsWritten) {
  const auto key = parse_z85(kZ85);
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(z85_text(*key), kZ85);
  EXPECT_FALSE(parse_z85(kZ85.substr(1)));
  EXPECT_FALSE(parse_z85(kZ85 + "0"));
  EXPECT_FALSE(parse_z85(std::string(40, ' ')));
  EXPECT_FALSE(parse_z85(std::string(40, '\xff')));
  EXPECT_FALSE(parse_z85(std::string(40, '#')));  // above 32 bits: would be another key
  EXPECT_FALSE(parse_z85("\"" + kZ85.substr(1)));
}

TEST(Uuid, RoundTripsAndNothingElseParses) {
  const auto id = parse_uuid(kUuid);
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(uuid_text(*id), kUuid);
  for (const char* bad :
       {"", "00112233445546778899aabbccddeeff", "0011223-34455-4677-8899-aabbccddeeff",
        "00112233-4455-4677-8899-aabbccddeefg", "00112233-4455-4677-8899-aabbccddeeff0",
        "+0112233-4455-4677-8899-aabbccddeeff"}) {
    EXPECT_FALSE(parse_uuid(bad)) << bad;
  }
  EXPECT_NE(random_uuid(), random_uuid());
  EXPECT_EQ(uuid_text(random_uuid())[14], '4');
}

TEST(PublicLines, ALineIsWhatItWasWrittenFrom) {
  const auto lines = parse_public_lines("f", "# the region\n\n  " + kLine + "\r\n");
  ASSERT_TRUE(lines.ok()) << lines.error().message;
  ASSERT_EQ(lines->size(), 1U);
  EXPECT_EQ(public_line_text(lines->front()), kLine);
  EXPECT_EQ(lines->front().not_after_s, 1'826'784'000);
  EXPECT_EQ(lines->front().owner, (Identity{*parse_uuid(kUuid), Role::kRegion}));
  PublicLine forever = lines->front();
  forever.not_after_s = PublicLine::kNever;
  EXPECT_EQ(parse_public_lines("f", public_line_text(forever))->front(), forever);
}

TEST(PublicLines, NoKeyLooksLikeAComment) {
  PublicLine line = parse_public_lines("f", kLine)->front();
  line.key.fill(std::byte{0xff});  // the largest first digit there is
  EXPECT_EQ(parse_public_lines("f", public_line_text(line))->front(), line);
  EXPECT_TRUE(parse_public_lines("f", "#" + kLine)->empty());
}

TEST(PublicLines, EveryMistakeHasItsFileAndLine) {
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"what", "f:1: expected four words"},
           {kLine + " more", "f:1: expected four words"},
           {"\n" + kLine.substr(1), "f:2: the first word is no public key"},
           {kZ85 + " me region never", "f:1: the second word is no source"},
           {kZ85 + " 00000000-0000-0000-0000-000000000000 edge never", "UUID of nobody"},
           {kZ85 + " " + kUuid + " king never", "f:1: the third word is no role"},
           {kZ85 + " " + kUuid + " edge 2027-11-21", "f:1: the fourth word is no end"},
           {kZ85 + " " + kUuid + " edge 2027-02-30T00:00:00Z", "f:1: the fourth word is no end"},
           {kZ85 + " " + kUuid + " edge 2027-02-03T24:00:00Z", "f:1: the fourth word is no end"}}) {
    const auto lines = parse_public_lines("f", text);
    ASSERT_FALSE(lines.ok()) << text;
    EXPECT_NE(lines.error().message.find(expected), std::string::npos) << lines.error().message;
  }
}

class KeyPairTest : public testing::Test {
 protected:
  void expect_refused(const std::string& why) {
    const auto pair = KeyPair::load(dir_.path());
    ASSERT_FALSE(pair.ok());
    EXPECT_NE(pair.error().message.find(why), std::string::npos) << pair.error().message;
  }

  TempDir dir_;
  std::string key_ = dir_.file("host.key");
  std::string pub_ = dir_.file("host.pub");
  Identity owner_{*parse_uuid(kUuid), Role::kEdge};
  KeyPair pair_ = KeyPair::generate(owner_, 1'900'000'000);
};

TEST_F(KeyPairTest, IsSavedForItsOwnerOnlyAndLoadedAsItWas) {
  ASSERT_TRUE(pair_.save(dir_.path()).ok());
  EXPECT_EQ(mode_of(key_), 0600U);
  EXPECT_EQ(mode_of(pub_), 0644U);
  const auto loaded = KeyPair::load(dir_.path());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(loaded->line(), pair_.line());
  EXPECT_EQ(loaded->secret(), pair_.secret());
  EXPECT_EQ(read_file(pub_).find(z85_text(pair_.secret())), std::string::npos);
  EXPECT_EQ(loaded->line().owner, owner_);
  EXPECT_TRUE(KeyPair::load_for(dir_.path(), Role::kEdge).ok());
  const auto other = KeyPair::load_for(dir_.path(), Role::kRegion);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("weir keys new --role region"), std::string::npos);
}

TEST_F(KeyPairTest, ReplacesNothing) {
  ASSERT_TRUE(pair_.save(dir_.path()).ok());
  const auto again = KeyPair::generate(owner_, PublicLine::kNever).save(dir_.path());
  ASSERT_FALSE(again.ok());
  EXPECT_NE(again.error().message.find("is there already"), std::string::npos);
  EXPECT_EQ(KeyPair::load(dir_.path())->line(), pair_.line());
}

TEST_F(KeyPairTest, MakesBothFilesOrNone) {
  write_file(pub_, "of another time\n");
  EXPECT_FALSE(pair_.save(dir_.path()).ok());
  EXPECT_NE(::access(key_.c_str(), F_OK), 0);
  EXPECT_EQ(read_file(pub_), "of another time\n");
}

TEST_F(KeyPairTest, WhatOthersCouldWriteOrSwapIsRefused) {
  ASSERT_TRUE(pair_.save(dir_.path()).ok());
  ASSERT_EQ(::chmod(pub_.c_str(), 0666), 0);
  expect_refused("host.pub: everybody may write it");
  ASSERT_EQ(::chmod(pub_.c_str(), 0644), 0);
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0777), 0);
  expect_refused("everybody may write it");
}

TEST_F(KeyPairTest, ASecretThatOthersCouldReadOrSwapIsRefused) {
  expect_refused("weir keys new");
  ASSERT_TRUE(pair_.save(dir_.path()).ok());
  for (const mode_t mode : {0640U, 0604U, 0644U, 0620U}) {
    ASSERT_EQ(::chmod(key_.c_str(), mode), 0);
    expect_refused("chmod 600");
  }
  ASSERT_EQ(::chmod(key_.c_str(), 0600), 0);
  ASSERT_EQ(::rename(key_.c_str(), dir_.file("real").c_str()), 0);
  ASSERT_EQ(::symlink("real", key_.c_str()), 0);
  expect_refused("symbolic link");
  ASSERT_EQ(::unlink(key_.c_str()), 0);
  ASSERT_EQ(::mkfifo(key_.c_str(), 0600), 0);
  expect_refused("no regular file");
  ASSERT_EQ(::unlink(key_.c_str()), 0);
  ASSERT_EQ(::rename(dir_.file("real").c_str(), key_.c_str()), 0);
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  ASSERT_EQ(::chown(key_.c_str(), 65534, 65534), 0);
  expect_refused("it belongs to user 65534");
}

TEST_F(KeyPairTest, HalvesThatDoNotBelongTogetherAreRefused) {
  ASSERT_TRUE(pair_.save(dir_.path()).ok());
  const std::string line = read_file(pub_);
  write_file(pub_, public_line_text(KeyPair::generate(owner_, PublicLine::kNever).line()));
  expect_refused("is not the public half");
  write_file(pub_, line + line);
  expect_refused("expected one line, got 2");
  write_file(pub_, "");
  expect_refused("expected one line, got 0");
  write_file(pub_, std::string(5000, 'x'));
  expect_refused("larger than");
  write_file(pub_, line);
  write_file(key_, "no key\n");
  expect_refused("is no secret key");
  ASSERT_EQ(::unlink(pub_.c_str()), 0);
  write_file(key_, z85_text(pair_.secret()));
  expect_refused("host.pub: cannot open");
}

}  // namespace
}  // namespace weir
