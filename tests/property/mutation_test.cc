// Damage on its way or at rest is noticed: what passes its checksum is what was written.

#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/batch.h"
#include "common/batch_check.h"
#include "common/crc32c.h"
#include "common/sketch/distribution.h"
#include "tests/fakes/verdicts.h"

namespace weir {
namespace {

void must(const Status& status) { ASSERT_TRUE(status.ok()) << status.error().message; }

// One to three flipped bits, of some also the end cut off.
void damage(Bytes& bytes, std::mt19937_64& random) {
  for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
    bytes[random() % bytes.size()] ^= std::byte{1} << static_cast<int>(random() % 8);
  }
  if (random() % 8 == 0) bytes.resize(random() % bytes.size());
}

// Distributions of every form: with narrow, wide and no buckets, of either sign, with exemplars and
// a zero threshold; of series whose label sets differ in length and share some names.
Bytes distributions() {
  const Metric metric{"duration_seconds", Kind::kDistribution, "seconds", -9};
  std::mt19937_64 random(11);
  std::vector<Labels> labels;
  std::vector<Value> values;
  for (uint64_t i = 0; i < 40; ++i) {
    Distribution value(metric.quantum, i % 5 == 4 ? 5 : kDefaultScale);
    for (uint64_t n = 0; n < 1 + 3 * i; ++n) {
      const uint64_t quanta = 1'000'000 + random() % 1'000'000'000;
      must(value.add(quanta, 1 + random() % 4));
      if (i % 8 == 7) must(value.add_negative(quanta / 2));
    }
    if (i % 4 == 3) must(value.add(5'000'000, i % 8 == 3 ? 70'000 : uint64_t{1} << 40));
    if (i % 6 == 5) must(value.add(0, i));
    if (i % 10 == 9) {
      value.raise_zero_threshold(1000);
      must(value.add(77));
      must(value.add_exemplar({.trace_id = {std::byte{9}}, .time_ns = 1, .value = 77}));
    }
    values.emplace_back(std::move(value));
    Labels& set = labels.emplace_back(Labels{{"route", "/item/" + std::to_string(i)}});
    if (i % 3 == 1) set.emplace_back("service", "café");
    if (i % 3 == 2) set.insert(set.begin(), {"az", "b"});
  }
  Distribution zeros(metric.quantum);
  must(zeros.add(0, 3));
  values.emplace_back(std::move(zeros));
  labels.emplace_back();
  std::vector<BatchRow> rows;
  for (size_t i = 0; i < values.size(); ++i) rows.push_back({&metric, &labels[i], &values[i]});
  const BatchHead head{.window = {1'700'000'040, 60},
                       .common_labels = {{"env", "prod"}, {"host", "edge-1"}},
                       .manifest = {}};
  return encode_batches(head, rows).at(0).body;
}

TEST(Mutation, NoDamagedBatchPassesForAnother) {
  std::ifstream in("tests/golden/batch_v1.bin", std::ios::binary);
  const std::vector<char> chars{std::istreambuf_iterator<char>(in), {}};
  ASSERT_FALSE(chars.empty());
  const auto view = std::as_bytes(std::span(chars));
  const Bytes whole(view.begin(), view.end());
  ASSERT_TRUE(decode_batch(whole).ok());
  const uint32_t crc = crc32c(whole);
  std::mt19937_64 random(7);
  Bytes damaged;
  uint64_t well_formed = 0;
  for (int i = 0; i < 2'000'000; ++i) {
    damaged = whole;
    damage(damaged, random);
    if (damaged == whole) continue;  // the same bit twice
    ASSERT_NE(crc32c(damaged), crc) << "round " << i;
    // Without the checksum some of it would count: that is why it comes first.
    if (i % 16 != 0) continue;
    const auto decoded = decode_batch(damaged);
    ASSERT_EQ(difference(check_batch(damaged), decoded), "") << "round " << i;
    well_formed += decoded.ok() ? 1U : 0U;
  }
  EXPECT_GT(well_formed, 0U);
}

// Nor does the door say anything else of it than the store.
TEST(Mutation, ADamagedDistributionIsRefusedAtTheDoorAsAtTheStore) {
  const Bytes whole = distributions();
  ASSERT_TRUE(decode_batch(whole).ok());
  std::mt19937_64 random(8);
  Bytes damaged;
  uint64_t well_formed = 0;
  for (int i = 0; i < 100'000; ++i) {
    damaged = whole;
    damage(damaged, random);
    const auto decoded = decode_batch(damaged);
    ASSERT_EQ(difference(check_batch(damaged), decoded), "") << "round " << i;
    well_formed += decoded.ok() ? 1U : 0U;
  }
  EXPECT_GT(well_formed, 100U);
}

}  // namespace
}  // namespace weir
