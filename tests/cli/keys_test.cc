#include "common/keys.h"

#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "cli/commands.h"
#include "cli/report.h"
#include "tests/fakes/temp_dir.h"

namespace weir::cli {
namespace {

constexpr int64_t kNow = 1'800'000'000;
constexpr int64_t kDay = 86'400;

struct Ran {
  int code = 0;
  std::string out;
  std::string talk;
};

template <class Command>
Ran run(Command command, const KeyOptions& options, int64_t now_s = kNow) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.code = command(options, now_s);
  ran.out = testing::internal::GetCapturedStdout();
  ran.talk = testing::internal::GetCapturedStderr();
  return ran;
}

class KeysCommand : public testing::Test {
 protected:
  KeyOptions options(const std::string& role = "edge", unsigned days = 0) {
    KeyOptions out;
    out.dir = dir_.file("keys");
    out.role = role;
    out.valid_days = days;
    return out;
  }

  KeyOptions check() {
    KeyOptions out;
    out.dir = dir_.file("keys");
    out.allow = dir_.path();
    return out;
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_.file(name)) << text;
  }

  TempDir dir_;
};

TEST_F(KeysCommand, NewMakesAPairAndSaysTheLineAndWhereItBelongs) {
  const Ran made = run(run_keys_new, options("edge", 730));
  EXPECT_EQ(made.code, kAnswered) << made.talk;
  const auto pair = KeyPair::load(dir_.file("keys"));
  ASSERT_TRUE(pair.ok()) << pair.error().message;
  EXPECT_EQ(made.out, public_line_text(pair->line()) + "\n");
  EXPECT_EQ(pair->line().not_after_s, kNow + 730 * kDay);
  EXPECT_NE(made.talk.find("allow.d"), std::string::npos);
  EXPECT_EQ((made.out + made.talk).find(z85_text(pair->secret())), std::string::npos);
  EXPECT_EQ(run(run_keys_show, options()).out, made.out);
}

TEST_F(KeysCommand, OfARegionItAlsoSaysWhatEdgesName) {
  const Ran made = run(run_keys_new, options("region"));
  const auto pair = KeyPair::load(dir_.file("keys"));
  EXPECT_NE(made.talk.find("server_keys: ['" + z85_text(pair->line().key) + "']"),
            std::string::npos)
      << made.talk;
  EXPECT_EQ(pair->line().not_after_s, PublicLine::kNever);
}

TEST_F(KeysCommand, TheNextPairKeepsTheSource) {
  ASSERT_EQ(run(run_keys_new, options()).code, kAnswered);
  const PublicLine old_line = KeyPair::load(dir_.file("keys"))->line();
  KeyOptions next = options();
  next.dir = dir_.file("next");
  next.source = uuid_text(old_line.owner.source);
  ASSERT_EQ(run(run_keys_new, next).code, kAnswered);
  const PublicLine new_line = KeyPair::load(next.dir)->line();
  EXPECT_EQ(new_line.owner, old_line.owner);
  EXPECT_NE(new_line.key, old_line.key);
}

TEST_F(KeysCommand, EveryMistakeSaysWhatToDo) {
  EXPECT_EQ(run(run_keys_new, options("king")).code, kUsage);
  KeyOptions bad = options();
  bad.source = "me";
  EXPECT_NE(run(run_keys_new, bad).talk.find("second word of the old host.pub"), std::string::npos);
  EXPECT_NE(run(run_keys_show, options()).talk.find("weir keys new"), std::string::npos);
  ASSERT_EQ(run(run_keys_new, options()).code, kAnswered);
  const Ran again = run(run_keys_new, options());
  EXPECT_EQ(again.code, kUsage);
  EXPECT_NE(again.talk.find("is there already"), std::string::npos);
  EXPECT_EQ(run(run_keys_check, {}).code, kUsage);
}

TEST_F(KeysCommand, CheckFindsNothingInAGoodSet) {
  ASSERT_EQ(run(run_keys_new, options("region", 60)).code, kAnswered);
  write(
      "edge-1.pub",
      public_line_text(KeyPair::generate({random_uuid(), Role::kEdge}, PublicLine::kNever).line()));
  const Ran ran = run(run_keys_check, check());
  EXPECT_EQ(ran.code, kAnswered) << ran.out;
  EXPECT_EQ(ran.out, "");
  EXPECT_NE(ran.talk.find("1 keys in 1 files"), std::string::npos) << ran.talk;
}

TEST_F(KeysCommand, CheckFindsModesBadLinesAndKeysThatEndSoon) {
  ASSERT_EQ(run(run_keys_new, options("edge", 20)).code, kAnswered);
  write("a.pub", "half\n");
  write("b.pub",
        public_line_text(KeyPair::generate({random_uuid(), Role::kEdge}, kNow - 1).line()));
  Ran ran = run(run_keys_check, check());
  EXPECT_EQ(ran.code, kNegative);
  for (const char* expected : {"a.pub:1: expected four words", "ended 2027-01-15T07:59:59Z",
                               "in 20 days; make the next pair with: weir keys new --role edge"}) {
    EXPECT_NE(ran.out.find(expected), std::string::npos) << expected << "\n" << ran.out;
  }
  ASSERT_EQ(::chmod(dir_.file("keys/host.key").c_str(), 0640), 0);
  ran = run(run_keys_check, check());
  EXPECT_NE(ran.out.find("chmod 600"), std::string::npos) << ran.out;
  write("\x1b[31m.pub", "");
  ASSERT_EQ(::chmod(dir_.file("\x1b[31m.pub").c_str(), 0664), 0);
  ran = run(run_keys_check, check());
  EXPECT_NE(ran.out.find("\\x1b[31m.pub: others may write it"), std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find('\x1b'), std::string::npos);
  ASSERT_EQ(::chmod(dir_.file("keys/host.key").c_str(), 0600), 0);
  ASSERT_EQ(::chmod(dir_.file("keys").c_str(), 0775), 0);
  ran = run(run_keys_check, check());
  EXPECT_NE(ran.out.find("chmod go-w"), std::string::npos) << ran.out;
}

}  // namespace
}  // namespace weir::cli
