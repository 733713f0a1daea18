#include "common/sketch/topk.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/samples.h"

namespace weir {
namespace {

const Metric kMetric{.name = "keys", .kind = Kind::kTopk, .unit = "", .quantum = 0};

using Truth = std::map<std::string, uint64_t>;

// Keys whose counts fall off slowly enough that most of them do not fit.
std::string skewed_key(std::mt19937_64& random) {
  const double u = static_cast<double>(random() >> 11) * 0x1.0p-53;
  return "k" + std::to_string(static_cast<uint64_t>(std::pow(200'000.0, u)));
}

void count(Topk& topk, Truth& truth, const std::string& key, uint64_t n = 1) {
  ASSERT_TRUE(topk.add(key, n).ok());
  truth[key] += n;
}

// Every key's true count lies in [count, count + err]; one that is not listed came err times at
// most; and the error is within what is promised.
void expect_bounds(const Topk& topk, const Truth& truth) {
  uint64_t n = 0;
  Truth listed;
  for (const auto& [key, count] : topk.by_key()) listed[std::string(key)] = count;
  for (const auto& [key, count] : truth) {
    n += count;
    const auto at = listed.find(key);
    const uint64_t low = at == listed.end() ? 0 : at->second;
    EXPECT_LE(low, count) << key;
    EXPECT_GE(low + topk.err(), count) << key;
  }
  for (const auto& [key, count] : listed) EXPECT_TRUE(truth.contains(key)) << key;
  EXPECT_EQ(topk.n(), n);
  EXPECT_LE(topk.err(), n / (Topk::kCapacity + 1));
}

TEST(Topk, ExactWhileThereIsRoom) {
  std::mt19937_64 random(1);
  Topk topk;
  Truth truth;
  for (int i = 0; i < 20'000; ++i)
    count(topk, truth, "k" + std::to_string(random() % 1500), static_cast<uint64_t>(i % 4));
  std::erase_if(truth, [](const auto& entry) { return entry.second == 0; });
  EXPECT_EQ(topk.err(), 0U);
  EXPECT_EQ(topk.size(), truth.size());
  for (const auto& [key, count] : topk.by_key()) EXPECT_EQ(truth.at(std::string(key)), count);
  const auto top = topk.top(3);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].count, std::ranges::max_element(truth, {}, &Truth::value_type::second)->second);
  EXPECT_GE(top[0].count, top[1].count);
}

TEST(Topk, EqualCountsAreAnsweredInTheOrderOfTheirKeys) {
  Topk topk;
  for (const char* key : {"c", "a", "b"}) ASSERT_TRUE(topk.add(key, 2).ok());
  const auto top = topk.top(2);
  EXPECT_EQ(top[0].key, "a");
  EXPECT_EQ(top[1].key, "b");
}

// The stated 0.04 % of n, on streams of many more keys than there are counters.
TEST(Topk, CountingAtTheEdgeErrsByLessThanStated) {
  for (const uint64_t seed : {2U, 3U, 4U}) {
    std::mt19937_64 random(seed);
    Topk topk;
    Truth truth;
    for (int i = 0; i < 150'000; ++i) count(topk, truth, skewed_key(random));
    EXPECT_LT(topk.size(), 2 * Topk::kCapacity);
    EXPECT_GT(topk.err(), 0U);
    EXPECT_LE(static_cast<double>(topk.err()), 0.0004 * static_cast<double>(topk.n()));
    expect_bounds(topk, truth);
  }
}

TEST(Topk, KeysThatNeverRepeatStayWithinTheBound) {
  Topk topk;
  Truth truth;
  for (int i = 0; i < 50'000; ++i) count(topk, truth, "junk-" + std::to_string(i));
  expect_bounds(topk, truth);
}

TEST(Topk, UnprunedPartsAddUpInAnyTreeToTheSameBytes) {
  std::mt19937_64 random(6);
  std::vector<Value> parts(6, Topk());
  Truth truth;
  for (int i = 0; i < 4000; ++i) {
    count(std::get<Topk>(parts[random() % parts.size()]), truth, skewed_key(random));
  }
  std::set<Bytes> whole;
  std::set<Bytes> pruned;
  for (int tree = 0; tree < 1000; ++tree) {
    auto forest = parts;
    while (forest.size() > 1) {
      std::swap(forest[random() % forest.size()], forest.back());
      const Value taken = std::move(forest.back());
      forest.pop_back();
      ASSERT_TRUE(merge(forest[random() % forest.size()], taken).ok());
    }
    if (tree == 0) {
      EXPECT_EQ(std::get<Topk>(forest[0]).err(), 0U);
      EXPECT_GT(std::get<Topk>(forest[0]).size(), Topk::kCapacity);
      expect_bounds(std::get<Topk>(forest[0]), truth);
    }
    if (tree % 20 == 0) whole.insert(bytes_of(kMetric, forest[0]));
    prune(forest[0]);
    pruned.insert(bytes_of(kMetric, forest[0]));
    if (tree == 0) {
      EXPECT_LE(std::get<Topk>(forest[0]).size(), Topk::kCapacity);
      expect_bounds(std::get<Topk>(forest[0]), truth);
    }
  }
  EXPECT_EQ(whole.size(), 1U);
  EXPECT_EQ(pruned.size(), 1U);
}

TEST(Topk, PruningAtEveryTierStaysWithinTheBound) {
  std::mt19937_64 random(7);
  Truth truth;
  Topk global;
  for (int region = 0; region < 3; ++region) {
    Topk sum;
    for (int host = 0; host < 8; ++host) {
      Topk part;
      for (int i = 0; i < 10'000; ++i) count(part, truth, skewed_key(random));
      part.prune();
      ASSERT_TRUE(sum.merge(part).ok());
    }
    sum.prune();
    ASSERT_TRUE(global.merge(sum).ok());
  }
  global.prune();
  EXPECT_FALSE(global.pruned_early());
  expect_bounds(global, truth);
}

TEST(Topk, TiesAtTheEdgeOfTheCapacityAllGo) {
  Topk topk;
  ASSERT_TRUE(topk.add("often", 9).ok());
  for (int i = 0; i < 1600; ++i) ASSERT_TRUE(topk.add("k" + std::to_string(i), 2).ok());
  topk.prune();
  ASSERT_EQ(topk.size(), 1U);
  EXPECT_EQ(topk.by_key()[0], (Topk::Item{"often", 7}));
  EXPECT_EQ(topk.err(), 2U);
  EXPECT_EQ(topk.n(), 3209U);
  const Topk once = topk;
  topk.prune();
  EXPECT_TRUE(topk == once);
}

TEST(Topk, FuseKeepsAnyKeysWithinItsBytesAndSaysSo) {
  Topk sum(Topk::kMinBytes);
  Truth truth;
  for (int part = 0; part < 6; ++part) {
    Topk keys;
    for (int i = 0; i < 1200; ++i) {
      std::string key = std::to_string(part) + "-" + std::to_string(i);
      key.resize(Topk::kMaxKey, 'x');
      count(keys, truth, key, 1 + static_cast<uint64_t>(i % 7));
    }
    ASSERT_TRUE(sum.merge(keys).ok());
    EXPECT_LE(sum.size() * (Topk::kMaxKey + Topk::kEntryBytes), Topk::kMinBytes);
  }
  EXPECT_TRUE(sum.pruned_early());
  expect_bounds(sum, truth);
  Topk other;
  ASSERT_TRUE(other.merge(sum).ok());
  EXPECT_TRUE(other.pruned_early());
}

TEST(Topk, LongAndBrokenKeysBecomeLabelsAnyTierTakes) {
  Topk topk;
  const std::string longer(300, 'a');
  ASSERT_TRUE(topk.add(longer).ok());
  ASSERT_TRUE(topk.add(longer).ok());
  ASSERT_TRUE(topk.add(longer + "b").ok());
  ASSERT_TRUE(topk.add("bad \xff").ok());
  EXPECT_EQ(topk.add("").error().code, Errc::kInvalid);
  const auto items = topk.by_key();
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].key.size(), Topk::kMaxKey);
  EXPECT_EQ(items[2], (Topk::Item{"bad ?", 1}));
  EXPECT_EQ(topk.n(), 4U);
}

TEST(Topk, WhatCannotBeIsRefused) {
  EXPECT_TRUE(Topk::rebuild({{"a", 1}, {"b", 2}}, 3, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"b", 1}, {"a", 2}}, 3, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"a", 1}, {"a", 2}}, 3, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"", 3}}, 3, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"\xff", 3}}, 3, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"a", 0}}, 0, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"a", 3}}, 2, 0, false).ok()) << "more counted than came";
  EXPECT_FALSE(Topk::rebuild({{"a", 3}}, 4, 0, false).ok()) << "something is lost without error";
  EXPECT_FALSE(Topk::rebuild({{"a", 3}}, 3, 0, true).ok()) << "pruned, but without error";
  EXPECT_FALSE(Topk::rebuild({{"a", 3}}, 1539, 1, false).ok()) << "not enough lost for the error";
  EXPECT_TRUE(Topk::rebuild({{"a", 3}}, 1540, 1, true).ok());
  EXPECT_TRUE(Topk::rebuild({}, 1537, 1, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"a", 1}}, kMaxCount + 1, 1, false).ok());
  EXPECT_FALSE(Topk::rebuild({{"a", kMaxCount}, {"b", kMaxCount}}, kMaxCount, 0, false).ok());
  EXPECT_FALSE(Topk::rebuild({{std::string(257, 'a'), 1}}, 1, 0, false).ok());
  std::vector<std::string> keys;
  std::vector<Topk::Item> items;
  for (int i = 0; i < 5000; ++i)
    keys.push_back(std::to_string(100'000 + i) + std::string(200, 'a'));
  for (const auto& key : keys) items.push_back({key, 1});
  EXPECT_EQ(Topk::rebuild(items, 5000, 0, false).error().code, Errc::kLimit);
}

}  // namespace
}  // namespace weir
