#include "daemon/route_tree.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

using namespace std::chrono_literals;

const MonoTime kStart{1h};

// "aa", "ab", ...: words without a digit.
std::string word(size_t i) {
  std::string out;
  do out += static_cast<char>('a' + i % 26);
  while ((i /= 26) > 0);
  return "w" + out;
}

std::map<std::string, uint64_t> listed(const RouteTree& tree) {
  const auto list = tree.list();
  return {list.begin(), list.end()};
}

TEST(RouteTree, FewTemplatesAreTheirOwnRoutes) {
  RouteRoom room;
  RouteTree tree({}, room);
  for (const char* path : {"/", "/users/{id}", "/users/{id}/", "/users/{id}/orders", "*"}) {
    EXPECT_EQ(tree.label(path, 3, kStart).text, path);
    EXPECT_EQ(tree.label(path, 4, kStart).text, path);
  }
  EXPECT_EQ(tree.routes(), 5U);
  EXPECT_EQ(listed(tree).at("/users/{id}"), 7U);
}

TEST(RouteTree, ALevelOfFiftyOneWordsCollapsesWithWhatIsBelow) {
  RouteRoom room;
  RouteTree tree({.routes = 1000, .words = 50}, room);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(tree.label("/users/" + word(i), 1, kStart).text, "/users/" + word(i));
    tree.label("/users/" + word(i) + "/posts", 1, kStart);
    tree.label("/users/" + word(i) + "/posts/{id}", 1, kStart);
  }
  EXPECT_EQ(tree.generation(), 0U);
  EXPECT_EQ(tree.label("/users/" + word(50), 1, kStart).text, "/users/*");
  EXPECT_NE(tree.generation(), 0U);
  EXPECT_EQ(listed(tree),
            (std::map<std::string, uint64_t>{
                {"/users/*", 51}, {"/users/*/posts", 50}, {"/users/*/posts/{id}", 50}}));
  EXPECT_EQ(tree.label("/users/" + word(3) + "/posts", 1, kStart).text, "/users/*/posts");
  EXPECT_EQ(tree.routes(), 3U);
  EXPECT_EQ(room.nodes + 4, RouteRoom{}.nodes);
}

TEST(RouteTree, HeavyWordsAndIdsKeepTheirPlaceInACrowd) {
  RouteRoom room;
  RouteTree tree({}, room);
  tree.label("/login", 500, kStart);
  tree.label("/{id}", 1, kStart);
  tree.label("/cart", 21, kStart);  // 21 of 1,022 is more than 2 %
  tree.label("/help", 20, kStart);  // 20 is less
  tree.label("/home", 432, kStart);
  for (size_t i = 0; i < 48; ++i) tree.label("/" + word(i), 1, kStart);
  EXPECT_EQ(listed(tree),
            (std::map<std::string, uint64_t>{
                {"/login", 500}, {"/{id}", 1}, {"/cart", 21}, {"/home", 432}, {"/*", 68}}));
  EXPECT_EQ(tree.label("/login", 1, kStart).text, "/login");
  EXPECT_EQ(tree.label("/help", 1, kStart).text, "/*");
  EXPECT_EQ(tree.label("/{id}", 1, kStart).text, "/{id}");
}

TEST(RouteTree, SubtreesThatTogetherAreACrowdCollapseToo) {
  RouteRoom room;
  RouteTree tree({.routes = 10'000, .words = 50}, room);
  for (size_t user = 0; user < 51; ++user) {
    for (size_t repo = 0; repo < 5; ++repo) {
      tree.label("/" + word(user) + "/" + word(user * 5 + repo) + "/pulls", 1, kStart);
    }
  }
  const auto all = listed(tree);
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all.begin()->first, "/*/*/pulls");
  EXPECT_EQ(all.begin()->second, 255U);
}

TEST(RouteTree, BeyondTheCapThereIsNoPlaceUntilOneIsGivenBack) {
  RouteRoom room;
  RouteTree tree({.routes = 3, .words = 50}, room);
  for (const char* path : {"/a", "/b", "/c"}) EXPECT_EQ(tree.label(path, 1, kStart).text, path);
  EXPECT_EQ(tree.label("/d", 1, kStart).node, nullptr);
  tree.label("/a", 1, kStart + 30min);
  RouteTree::used(*tree.label("/b", 1, kStart).node, 1, kStart + 40min);
  const auto before = tree.generation();
  tree.expire(kStart + 60min);
  EXPECT_EQ(tree.generation(), before);
  tree.expire(kStart + 61min);
  EXPECT_NE(tree.generation(), before);
  EXPECT_EQ(listed(tree), (std::map<std::string, uint64_t>{{"/a", 2}, {"/b", 3}}));
  EXPECT_EQ(tree.label("/d", 1, kStart + 61min).text, "/d");
}

TEST(RouteTree, AFullTreeStillSeesACrowd) {
  RouteRoom room;
  RouteTree tree({.routes = 10, .words = 50}, room);
  for (size_t i = 0; i < 50; ++i) tree.label("/" + word(i), 1, kStart);
  EXPECT_EQ(tree.routes(), 10U);
  EXPECT_EQ(tree.label("/" + word(12), 1, kStart).node, nullptr);  // seen before: no new word
  EXPECT_EQ(tree.label("/" + word(50), 1, kStart).text, "/*");
  EXPECT_EQ(tree.routes(), 1U);
}

TEST(RouteTree, ACrowdGetsAPlaceAmongHeavyWordsToo) {
  RouteRoom room;
  RouteTree tree({.routes = 3, .words = 5}, room);
  tree.label("/a", 900, kStart);
  tree.label("/b", 700, kStart);
  tree.label("/c", 800, kStart);
  for (size_t i = 0; i < 5; ++i) tree.label("/" + word(i), 1, kStart);
  EXPECT_EQ(tree.label("/x", 1, kStart).text, "/*");
  EXPECT_EQ(listed(tree), (std::map<std::string, uint64_t>{{"/a", 900}, {"/*", 704}, {"/c", 800}}));
}

TEST(RouteTree, ACollapsedLevelThatFallsSilentBeginsAnew) {
  RouteRoom room;
  RouteTree tree({}, room);
  for (size_t i = 0; i < 60; ++i) tree.label("/" + word(i), 1, kStart);
  EXPECT_EQ(tree.routes(), 1U);
  tree.expire(kStart + 61min);
  EXPECT_EQ(tree.routes(), 0U);
  EXPECT_EQ(room.nodes, RouteRoom{}.nodes);
  EXPECT_EQ(tree.label("/login", 1, kStart + 62min).text, "/login");
}

TEST(RouteTree, TreesShareTheirRoomAndGiveItBack) {
  RouteRoom room{.nodes = 5};
  RouteTree tree({}, room);
  {
    RouteTree other({}, room);
    EXPECT_EQ(other.label("/a/b/c", 1, kStart).text, "/a/b/c");
    EXPECT_EQ(tree.label("/a/b/c", 1, kStart).node, nullptr);
    EXPECT_EQ(tree.label("/a/b", 1, kStart).text, "/a/b");
    EXPECT_EQ(room.nodes, 0U);
    EXPECT_EQ(tree.label("/a", 1, kStart).text, "/a");  // takes no node
  }
  EXPECT_EQ(room.nodes, 3U);
}

// Random templates in random order, so levels collapse in every order: whatever is asked, the
// requests of the routes are those that were given a label, and no limit is passed.
TEST(RouteTree, TotalsAreConservedInAnyOrderOfCollapses) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random(seed);
    RouteRoom room{.nodes = 400};
    const RouteTree::Limits limits{.routes = 5 + random() % 60, .words = 2 + random() % 12};
    RouteTree tree(limits, room);
    uint64_t named = 0;
    uint64_t other = 0;
    uint64_t total = 0;
    for (int i = 0; i < 4000; ++i) {
      std::string path;
      for (auto depth = 1 + random() % 4; depth > 0; --depth) {
        path += random() % 5 == 0 ? "/{id}" : "/" + word(random() % (1 + random() % 30));
      }
      const uint64_t n = random() % 7;
      const auto label = tree.label(path, n, kStart);
      total += n;
      (label.node == nullptr ? other : named) += n;
      EXPECT_EQ(label.node == nullptr, label.text.empty());
      ASSERT_LE(tree.routes(), limits.routes);
      if (i % 97 != 0) continue;
      const auto list = tree.list();
      uint64_t sum = 0;
      for (const auto& [text, requests] : list) sum += requests;
      ASSERT_EQ(sum, named) << "seed " << seed;
      ASSERT_EQ(list.size(), tree.routes()) << "seed " << seed;
      ASSERT_EQ(listed(tree).size(), list.size()) << "a label twice, seed " << seed;
    }
    EXPECT_EQ(named + other, total);
    tree.expire(kStart + 2h);
    EXPECT_EQ(tree.routes(), 0U);
    EXPECT_EQ(room.nodes, 400U) << "seed " << seed;
  }
}

// What is labelled keeps its label until the generation changes.
TEST(RouteTree, ALabelHoldsForAGeneration) {
  std::mt19937_64 random(3);
  RouteRoom room;
  RouteTree tree({.routes = 40, .words = 8}, room);
  std::map<std::string, RouteTree::Label> kept;
  uint64_t generation = 0;
  for (int i = 0; i < 5000; ++i) {
    const auto path = "/" + word(random() % 9) + "/" + word(random() % 12);
    const auto label = tree.label(path, 1, kStart);
    if (tree.generation() != generation) kept.clear();
    generation = tree.generation();
    if (label.node == nullptr) continue;
    const auto [at, fresh] = kept.try_emplace(path, label);
    EXPECT_EQ(at->second.text, label.text);
    EXPECT_EQ(at->second.node, label.node);
  }
}

TEST(RouteTree, AHundredThousandPathsAreFewRoutes) {
  RouteRoom room;
  RouteTree tree({}, room);
  uint64_t other = 0;
  std::mt19937_64 random(9);
  for (size_t i = 0; i < 100'000; ++i) {
    const auto path = "/shop/" + word(random() % 100'000) + (i % 3 == 0 ? "/reviews" : "");
    other += tree.label(path, 1, kStart).node == nullptr;
    if (i % 10 == 0) other += tree.label("/login", 1, kStart).node == nullptr;
  }
  EXPECT_EQ(other, 0U);
  const auto all = listed(tree);
  EXPECT_EQ(all.at("/login"), 10'000U);
  EXPECT_GT(all.at("/shop/*"), 66'000U);
  EXPECT_GT(all.at("/shop/*/reviews"), 33'000U);
  EXPECT_LE(all.size(), 6U);
}

// None of the table's templates (tests/daemon/route_paths.txt) is touched while no level is
// crowded.
TEST(RouteTree, TheTableOfPathsStaysAsItIs) {
  std::ifstream table("tests/daemon/route_paths.txt");
  RouteRoom room;
  RouteTree tree({.routes = 1000, .words = 200}, room);
  for (std::string line; std::getline(table, line);) {
    if (line.empty() || line[0] == '#') continue;
    const auto route = line.substr(line.find(' ') + 1);
    EXPECT_EQ(tree.label(route, 1, kStart).text, route);
  }
  EXPECT_GT(tree.routes(), 150U);
}

}  // namespace
}  // namespace weir::daemon
