#include "cli/profile_tree.h"

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

namespace weir::cli {
namespace {

nlohmann::json sample() {
  return nlohmann::json::parse(
      R"JSON({"type":"cpu","unit":"nanoseconds","total":60,"samples":6,"hosts":1,
    "quality":{"lost":0,"truncated":3,"unresolved":0},
    "frames":[{"kind":"user","module":"app","name":"main"},
              {"kind":"user","module":"app","name":"</script><script>alert(1)"},
              {"kind":"kernel","module":"kernel","name":"do;it"}],
    "nodes":{"parent":[0,0,1,2],"frame":[0,0,1,2],"self":[0,10,20,30]}})JSON");
}

}  // namespace

TEST(ProfileTree, FoldsEachStackWithItsOwnTime) {
  const auto tree = parse_profile(sample());
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(folded(*tree),
            "main 10\n"
            "main;</script><script>alert(1) 20\n"
            "main;</script><script>alert(1);do:it_[k] 30\n");
}

TEST(ProfileTree, StatesItsQuality) {
  const auto tree = parse_profile(sample());
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(quality_line(*tree),
            "samples 6, CPU 0.00 s, hosts 1, truncated 50.0 %, unresolved 0.0 %, lost 0");
}

TEST(ProfileTree, SaysThatATierKeepsNoHosts) {
  auto data = sample();
  data["hosts"] = 0;
  EXPECT_NE(quality_line(*parse_profile(data)).find("hosts not kept at this tier"),
            std::string::npos);
}

TEST(ProfileTree, RefusesIndexesOutOfRangeAndUnequalColumns) {
  for (const char* patch :
       {R"([{"op":"replace","path":"/nodes/parent/1","value":1}])",
        R"([{"op":"replace","path":"/nodes/frame/3","value":3}])",
        R"([{"op":"replace","path":"/nodes/self/3","value":-1}])",
        R"([{"op":"remove","path":"/nodes/self/3"}])", R"([{"op":"remove","path":"/frames"}])",
        R"([{"op":"replace","path":"/nodes/parent","value":"x"}])"}) {
    EXPECT_FALSE(parse_profile(sample().patch(nlohmann::json::parse(patch))).ok()) << patch;
  }
}

TEST(FlameHtml, HostileNamesStayData) {
  const auto tree = parse_profile(sample());
  ASSERT_TRUE(tree.ok());
  const std::string page = flame_html(*tree, "<b>title</b>");
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_NE(page.find("\\u003c/script>\\u003cscript>alert(1)"), std::string::npos);
  EXPECT_NE(page.find("<title>&lt;b&gt;title&lt;/b&gt;</title>"), std::string::npos);
}

// The JSON block of a page.
nlohmann::json data_of(const std::string& page) {
  constexpr std::string_view kOpen = R"(id="profile">)";
  const size_t from = page.find(kOpen) + kOpen.size();
  return nlohmann::json::parse(page.substr(from, page.find("</script>", from) - from));
}

TEST(FlameHtml, ThePackedProfileKeepsEveryNumber) {
  const auto tree = parse_profile(sample());
  ASSERT_TRUE(tree.ok());
  const auto data = data_of(flame_html(*tree, "t"));
  EXPECT_EQ(data["unit"], 10);
  EXPECT_EQ(data["self"], nlohmann::json({0, 1, 2, 3}));
  EXPECT_EQ(data["up"], nlohmann::json({0, 1, 1, 1}));
  EXPECT_EQ(data["kinds"], "uuk");
  EXPECT_EQ(data["modules"], nlohmann::json({"app", "kernel"}));
  EXPECT_EQ(data["module"], nlohmann::json({0, 0, 1}));
}

TEST(FlameHtml, EightThousandNodesMakeAPageOfLessThan150KB) {
  ProfileTree tree;
  for (int i = 0; i < 1500; ++i) {
    tree.frames.push_back(
        {"user", "/usr/lib/libapp.so", "shop::cart::handler_" + std::to_string(i)});
  }
  tree.nodes.push_back({});
  for (uint32_t i = 1; i < 8000; ++i) {  // many stacks of 127 frames
    tree.nodes.push_back({i % 127 == 1 ? 0 : i - 1, i % 1500, i % 3 * 52'631'578});
  }
  EXPECT_LT(flame_html(tree, "t").size(), 150'000U);
}

TEST(FlameHtml, ThePagePermitsOnlyItsOwnBlocks) {
  const auto tree = parse_profile(sample());
  ASSERT_TRUE(tree.ok());
  const std::string page = flame_html(*tree, "t");
  EXPECT_NE(page.find("default-src 'none'; script-src 'sha256-"), std::string::npos);
  EXPECT_EQ(page.find("http"), page.find("http-equiv"));
}

}  // namespace weir::cli
