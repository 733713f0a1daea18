#include "common/zap.h"

#include <vector>

#include <gtest/gtest.h>

namespace weir {
namespace {

std::optional<ZapRequest> parse(const std::vector<std::string>& frames) {
  std::vector<ByteView> views;
  for (const std::string& frame : frames) views.push_back(as_bytes(frame));
  return parse_zap(views);
}

const std::vector<std::string> kGood = {
    "1.0", "id", "weir", "10.0.0.1", "", "CURVE", std::string(32, 'k')};

TEST(Zap, AQuestionAboutAKeyIsRead) {
  const auto request = parse(kGood);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->id, "id");
  EXPECT_EQ(request->domain, "weir");
  EXPECT_EQ(request->address, "10.0.0.1");
  EXPECT_EQ(request->key[31], std::byte{'k'});
}

TEST(Zap, AnythingElseIsNone) {
  const auto with = [](size_t at, std::string frame) {
    std::vector<std::string> frames = kGood;
    frames[at] = std::move(frame);
    return frames;
  };
  for (const auto& frames :
       {with(0, "2.0"), with(5, "NULL"), with(5, "PLAIN"), with(6, std::string(31, 'k')),
        with(6, ""), with(1, std::string(256, 'i')), std::vector<std::string>{},
        std::vector<std::string>(kGood.begin(), kGood.end() - 1)}) {
    EXPECT_FALSE(parse(frames).has_value());
  }
}

TEST(Zap, AnAnswerHasSixFrames) {
  EXPECT_EQ(zap_accept("7", "user"), (ZapAnswer{"1.0", "7", "200", "OK", "user", ""}));
  EXPECT_EQ(zap_refuse("7", "not allowed"), (ZapAnswer{"1.0", "7", "400", "not allowed", "", ""}));
}

}  // namespace
}  // namespace weir
