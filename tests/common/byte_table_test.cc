#include "common/byte_table.h"

#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace weir {

namespace {

// Keys of every length from nothing to 70 bytes.
std::string key_text(uint64_t i) { return std::string(i % 71, 'k') + std::to_string(i / 71); }

}  // namespace

TEST(ByteTable, AMillionInsertsAndErasesAgreeWithAMap) {
  ByteTable table(7);
  std::unordered_map<std::string, std::pair<uint32_t, ByteTable::Key*>> model;
  std::mt19937_64 random(1);
  for (uint32_t step = 0; step < 1'000'000; ++step) {
    // Waves of growth and shrinkage between nothing and some 6,000 keys.
    const bool growing = (step / 50'000) % 2 == 0;
    const std::string text = key_text(random() % 8000);
    const auto it = model.find(text);
    ASSERT_EQ(table.find(3, as_bytes(text)),
              it == model.end() ? ByteTable::kNone : it->second.first);
    if (it == model.end() && (growing || random() % 8 == 0)) {
      model.emplace(text, std::pair(step, table.insert(3, as_bytes(text), step)));
    } else if (it != model.end() && (!growing || random() % 8 == 0)) {
      ASSERT_EQ(it->second.second->text(), text);
      table.erase(it->second.second);
      model.erase(it);
    }
    ASSERT_EQ(table.size(), model.size());
  }
  for (const auto& [text, entry] : model) {
    ASSERT_EQ(table.find(3, as_bytes(text)), entry.first);
    table.erase(entry.second);
  }
  EXPECT_EQ(table.size(), 0U);
}

TEST(ByteTable, MemoryReturnsWhenKeysGo) {
  ByteTable table(7);
  const size_t empty = table.memory_bytes();
  std::vector<ByteTable::Key*> keys;
  for (uint32_t i = 0; i < 20'000; ++i) {
    keys.push_back(table.insert(0, as_bytes(key_text(i)), i));
  }
  EXPECT_GT(table.memory_bytes(), empty + 20'000 * (sizeof(ByteTable::Key) + 35 + 16));
  for (const ByteTable::Key* key : keys) table.erase(key);
  EXPECT_EQ(table.memory_bytes(), empty);
}

TEST(ByteTable, SpacesKeepEqualBytesApart) {
  ByteTable table(7);
  const ByteTable::Key* first = table.insert(1, as_bytes("same"), 10);
  table.insert(2, as_bytes("same"), 20);
  table.insert(1, {}, 30);
  EXPECT_EQ(table.find(1, as_bytes("same")), 10U);
  EXPECT_EQ(table.find(2, as_bytes("same")), 20U);
  EXPECT_EQ(table.find(3, as_bytes("same")), ByteTable::kNone);
  EXPECT_EQ(table.find(1, {}), 30U);
  EXPECT_EQ(table.find(2, {}), ByteTable::kNone);
  table.erase(first);
  EXPECT_EQ(table.find(1, as_bytes("same")), ByteTable::kNone);
  EXPECT_EQ(table.find(2, as_bytes("same")), 20U);
}

// Keys that all want one slot under a seed somebody knows are spread by any other seed.
TEST(ByteTable, KeysChosenForOneSeedDoNotMeetUnderAnother) {
  constexpr uint64_t kKnown = 1;
  std::vector<std::string> chosen;
  for (uint64_t i = 0; chosen.size() < 400; ++i) {
    std::string text = "route:/" + std::to_string(i);
    if ((hash64(as_bytes(text), kKnown) & 1023) == 0) chosen.push_back(std::move(text));
  }
  ByteTable known(kKnown);
  ByteTable other(2);
  for (uint32_t i = 0; i < chosen.size(); ++i) {
    known.insert(0, as_bytes(chosen[i]), i);
    other.insert(0, as_bytes(chosen[i]), i);
  }
  EXPECT_EQ(known.longest_probe(), chosen.size() - 1);
  EXPECT_LT(other.longest_probe(), 25U);
}

}  // namespace weir
