#include "common/sketch/distinct.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/fakes/samples.h"

namespace weir {
namespace {

const Metric kMetric{.name = "users", .kind = Kind::kDistinct, .unit = "", .quantum = 0};

Distinct distinct_of(const std::vector<uint64_t>& hashes) {
  Distinct out;
  for (const uint64_t hash : hashes) EXPECT_TRUE(out.add(hash).ok());
  return out;
}

std::vector<uint64_t> hashes_from(uint64_t first, size_t n) {
  std::vector<uint64_t> out;
  for (uint64_t i = first; i < first + n; ++i) {
    out.push_back(Distinct::hash_of("user-" + std::to_string(i)));
  }
  return out;
}

Distinct merged(Distinct a, const Distinct& b) {
  EXPECT_TRUE(a.merge(b).ok());
  return a;
}

TEST(Distinct, ExactUpToTheLengthOfTheList) {
  Distinct users;
  for (int i = 0; i < 3; ++i) {
    for (const uint64_t hash : hashes_from(0, Distinct::kMaxList)) {
      ASSERT_TRUE(users.add(hash).ok());
    }
  }
  EXPECT_TRUE(users.exact());
  EXPECT_EQ(users.n(), 3 * Distinct::kMaxList);
  EXPECT_EQ(users.estimate().value, 256);
  EXPECT_EQ(users.estimate().lo, 256);
  EXPECT_EQ(users.estimate().hi, 256);
  ASSERT_TRUE(users.add(Distinct::hash_of("one more")).ok());
  EXPECT_FALSE(users.exact());
}

TEST(Distinct, NoEventsAddNoMember) {
  Distinct users;
  ASSERT_TRUE(users.add(7, 0).ok());
  EXPECT_TRUE(users == Distinct());
}

TEST(Distinct, FormDependsOnTheSetAlone) {
  const auto all = hashes_from(0, 300);
  const std::vector<uint64_t> low(all.begin(), all.begin() + 256);
  const std::vector<uint64_t> high(all.begin() + 44, all.end());
  EXPECT_TRUE(merged(distinct_of(low), distinct_of(low)).exact());
  const Distinct both = merged(distinct_of(low), distinct_of(high));
  EXPECT_FALSE(both.exact());
  const Distinct once = distinct_of(all);
  EXPECT_TRUE(std::ranges::equal(both.registers(), once.registers()));
  EXPECT_TRUE(both == merged(distinct_of(high), distinct_of(low)));
  EXPECT_FALSE(merged(once, distinct_of({1})).exact());
  EXPECT_FALSE(merged(distinct_of({1}), once).exact());
}

TEST(Distinct, AnyMergeTreeGivesTheSameBytes) {
  std::mt19937_64 random(5);
  for (const size_t members : {40U, 300U, 20'000U}) {  // lists; lists that grow; registers
    std::vector<Value> parts(12, Distinct());
    for (size_t i = 0; i < 2 * members; ++i) {
      const uint64_t hash = Distinct::hash_of(std::to_string(random() % members));
      ASSERT_TRUE(std::get<Distinct>(parts[random() % parts.size()]).add(hash, 1 + i % 2).ok());
    }
    std::set<Bytes> encodings;
    for (int tree = 0; tree < 1000; ++tree) {
      auto forest = parts;
      while (forest.size() > 1) {
        std::swap(forest[random() % forest.size()], forest.back());
        const Value taken = std::move(forest.back());
        forest.pop_back();
        ASSERT_TRUE(merge(forest[random() % forest.size()], taken).ok());
      }
      encodings.insert(bytes_of(kMetric, forest[0]));
    }
    EXPECT_EQ(encodings.size(), 1U) << members;
  }
}

TEST(Distinct, EventsTwiceAndShuffledChangeOnlyN) {
  auto hashes = hashes_from(0, 5000);
  const Distinct once = distinct_of(hashes);
  const auto again = hashes;
  hashes.insert(hashes.end(), again.begin(), again.end());
  std::ranges::shuffle(hashes, std::mt19937_64(3));
  const Distinct twice = distinct_of(hashes);
  EXPECT_TRUE(std::ranges::equal(once.registers(), twice.registers()));
  EXPECT_EQ(once.n(), 5000U);
  EXPECT_EQ(twice.n(), 10'000U);
}

// The standard error of 32 sketches each is that of the theory, and their mean is not off.
TEST(Distinct, EstimateErrsAsStated) {
  for (const size_t members : {257U, 1000U, 5000U, 20'000U}) {
    constexpr uint64_t kSketches = 32;
    double sum = 0;
    double squares = 0;
    size_t outside = 0;
    for (uint64_t sketch = 0; sketch < kSketches; ++sketch) {
      const Distinct users = distinct_of(hashes_from(sketch * 1'000'000, members));
      const Estimate estimate = users.estimate();
      const auto truth = static_cast<double>(members);
      const double error = (estimate.value - truth) / truth;
      sum += error;
      squares += error * error;
      outside += truth < estimate.lo || truth > estimate.hi ? 1U : 0U;
    }
    EXPECT_LE(std::sqrt(squares / kSketches), 1.4 * Distinct::kStandardError) << members;
    EXPECT_LE(std::abs(sum / kSketches), 0.5 * Distinct::kStandardError) << members;
    EXPECT_LE(outside, 1U) << members;
  }
}

// Whoever knows the hash can choose members that fill the registers; n still bounds the answer.
TEST(Distinct, EstimateNeverPassesTheEvents) {
  Distinct forged;
  for (uint64_t i = 0; i < Distinct::kRegisters; ++i) ASSERT_TRUE(forged.add(i << 52).ok());
  EXPECT_EQ(forged.registers()[7], Distinct::kMaxRegister);
  EXPECT_EQ(forged.estimate().value, static_cast<double>(Distinct::kRegisters));
  EXPECT_EQ(forged.estimate().hi, static_cast<double>(Distinct::kRegisters));
}

TEST(Distinct, HashOfAMemberIsTheSameForEver) {
  EXPECT_EQ(Distinct::hash_of("ada"), 13237506350552699389U);
  EXPECT_EQ(Distinct::hash_of("10.0.0.1"), 11894766824091055660U);
}

TEST(Distinct, WhatCannotBeIsRefused) {
  EXPECT_TRUE(Distinct::from_hashes(2, {1, 2}).ok());
  EXPECT_FALSE(Distinct::from_hashes(2, {2, 1}).ok());
  EXPECT_FALSE(Distinct::from_hashes(2, {1, 1}).ok());
  EXPECT_FALSE(Distinct::from_hashes(1, {1, 2}).ok()) << "fewer events than members";
  EXPECT_FALSE(Distinct::from_hashes(1, {}).ok());
  EXPECT_FALSE(Distinct::from_hashes(kMaxCount + 1, {1}).ok());
  std::vector<uint64_t> many(257);
  for (size_t i = 0; i < many.size(); ++i) many[i] = i;
  EXPECT_FALSE(Distinct::from_hashes(1000, many).ok());
  std::vector<uint8_t> registers(Distinct::kRegisters, 0);
  EXPECT_FALSE(Distinct::from_registers(1000, registers).ok()) << "no member";
  registers[9] = 53;
  EXPECT_TRUE(Distinct::from_registers(257, registers).ok());
  EXPECT_FALSE(Distinct::from_registers(256, registers).ok()) << "would be a list";
  registers[9] = 54;
  EXPECT_FALSE(Distinct::from_registers(1000, registers).ok());
  EXPECT_FALSE(Distinct::from_registers(1000, std::vector<uint8_t>(4095, 1)).ok());
  EXPECT_FALSE(Distinct::from_registers(4095, std::vector<uint8_t>(4096, 1)).ok());
}

}  // namespace
}  // namespace weir
