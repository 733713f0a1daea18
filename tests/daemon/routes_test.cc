#include "daemon/routes.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "bpf/route_hash.h"

namespace weir::daemon {
namespace {

weir_route route_of(std::string_view text) {
  unsigned char bytes[WEIR_PATH_BYTES] = {};
  const auto n = std::min<size_t>(text.size(), sizeof bytes);
  std::memcpy(bytes, text.data(), n);
  return weir_hash_path(bytes, static_cast<__u32>(n));
}

std::string hashed(std::string_view text) {
  unsigned char bytes[WEIR_PATH_BYTES] = {};  // as the kernel keeps them
  std::memcpy(bytes, text.data(), std::min<size_t>(text.size(), sizeof bytes));
  return hashed_template(bytes);
}

TEST(RouteHash, IdsCollapseAndPlacesMatter) {
  EXPECT_EQ(route_of("/users/17/orders ").hash, route_of("/users/4242/orders ").hash);
  EXPECT_EQ(route_of("/users/17 ").hash, route_of("/users/a1b2-c3 ").hash);
  EXPECT_NE(route_of("/users/17 ").hash, route_of("/users/all ").hash);
  EXPECT_NE(route_of("/users/17 ").hash, route_of("/users/17/ ").hash);
  EXPECT_NE(route_of("/a/b ").hash, route_of("/b/a ").hash);
  EXPECT_NE(route_of("/ab ").hash, route_of("/a/b ").hash);
  EXPECT_NE(route_of("/a/a ").hash, route_of("/a ").hash);
  EXPECT_NE(route_of("//a ").hash, route_of("/a ").hash);
}

TEST(RouteHash, WordsWithDigitsStayApart) {
  for (const char* word : {"v1", "v10", "oauth2", "s3", "utf-8", "jquery-3.6.0.min.js", "a.b1",
                           "x1.css", "", "all", "-12"}) {
    EXPECT_FALSE(collapses(word)) << word;
  }
  for (const char* id : {"1", "17", "a1b", "v100", "1a", "17.json", "jquery-3.6.10.1.js",
                         "550e8400-e29b-41d4-a716-446655440000", "2024-01-31", "1.2.3", "v1v2"}) {
    EXPECT_TRUE(collapses(id)) << id;
  }
  EXPECT_NE(route_of("/api/v1/x ").hash, route_of("/api/v2/x ").hash);
}

TEST(RouteHash, TheQueryIsCut) {
  EXPECT_EQ(route_of("/a/b?c=d HTTP/1.1").hash, route_of("/a/b HTTP/1.1").hash);
  EXPECT_EQ(route_of("/a/b#c HTTP/1.1").hash, route_of("/a/b HTTP/1.1").hash);
  EXPECT_EQ(route_of("/a/b?c=d HTTP/1.1").length, 4);
}

TEST(RouteHash, APathThatGoesOnBeyondTheBytesIsNotEnded) {
  EXPECT_EQ(route_of("/users/17").ended, 0);
  EXPECT_EQ(route_of("").ended, 0);
  EXPECT_EQ(route_of("/users/17 ").ended, 1);
  EXPECT_EQ(route_of(std::string(64, 'a')).ended, 1);  // all that is looked at
}

TEST(RouteHash, TwoHundredIdsAreOneRouteAndWordsStayApart) {
  std::set<__u32> hashes;
  for (int i = 0; i < 200; ++i) hashes.insert(route_of("/item/" + std::to_string(i) + " ").hash);
  EXPECT_EQ(hashes.size(), 1U);
  for (char a = 'a'; a <= 'z'; ++a) hashes.insert(route_of(std::string("/item/") + a + " ").hash);
  EXPECT_EQ(hashes.size(), 1U + 26U);
}

TEST(RouteHash, AQuarterOfAMillionWordsDoNotMeetMoreThanChanceHasThem) {
  std::set<__u32> hashes;
  int n = 0;
  for (char a = 'a'; a <= 'z'; ++a) {
    for (char b = 'a'; b <= 'z'; ++b) {
      for (char c = 'a'; c <= 'z'; ++c) {
        for (char d = 'a'; d <= 'n'; ++d, ++n) {
          hashes.insert(
              route_of({std::initializer_list<char>{'/', a, '/', b, c, '/', d, ' '}.begin(), 8})
                  .hash);
        }
      }
    }
  }
  EXPECT_GT(hashes.size() + 40, static_cast<size_t>(n));  // 7 expected
}

TEST(Routes, OneHashHasOneTemplate) {
  std::mt19937_64 random(11);
  constexpr std::string_view kBytes = "ab/////1117h:.%@\xff-";
  std::map<__u32, std::pair<std::string, std::string>> seen;  // hash -> template, path
  size_t again = 0;
  for (int i = 0; i < 60'000; ++i) {
    std::string path = i % 2 == 0 ? "/" : "h";
    if (i % 3 == 0) path += std::string(50 + random() % 10, "a1"[i % 2]);  // up to the cut
    for (auto left = random() % 12; left > 0; --left) path += kBytes[random() % kBytes.size()];
    const auto hash = route_of(path + " ").hash;
    const auto [at, fresh] = seen.try_emplace(hash, hashed(path + " "), path);
    again += !fresh && at->second.second != path;
    EXPECT_EQ(at->second.first, hashed(path + " ")) << path << " and " << at->second.second;
  }
  EXPECT_GT(again, 5'000U);  // or it shows nothing
}

TEST(Routes, TwoHundredPathsBecomeTheirTemplates) {
  std::ifstream table("tests/daemon/route_paths.txt");
  size_t paths = 0;
  for (std::string line; std::getline(table, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto space = line.find(' ');
    ASSERT_NE(space, std::string::npos) << line;
    ++paths;
    EXPECT_EQ(with_rules(hashed(line.substr(0, space) + " HTTP/1.1")), line.substr(space + 1))
        << line;
  }
  EXPECT_GE(paths, 200U);
}

TEST(Routes, RulesHoldTheirOwnTemplates) {
  for (const char* path : {"/users/{id}", "/a/*", "/", "*", "//", "/x.{id}/y"}) {
    EXPECT_EQ(with_rules(path), path);
  }
}

TEST(Routes, TemplatesArePrintable) { EXPECT_EQ(hashed("/a\xff\x80z\x7f x"), "/a__z_"); }

TEST(Routes, AnythingGivesATemplate) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 20'000; ++i) {
    std::string path;
    for (auto left = random() % 70; left > 0; --left) path += static_cast<char>(random());
    const auto text = with_rules(hashed(path));
    EXPECT_FALSE(text.empty());
    EXPECT_LE(text.size(), 161U);
    EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f; })) << text;
  }
}

}  // namespace
}  // namespace weir::daemon
