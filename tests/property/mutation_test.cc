// Damage on its way or at rest is noticed: what passes its checksum is what was written.

#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "common/batch.h"
#include "common/batch_check.h"
#include "common/crc32c.h"
#include "tests/fakes/verdicts.h"

namespace weir {
namespace {

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
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      damaged[random() % damaged.size()] ^= std::byte{1} << static_cast<int>(random() % 8);
    }
    if (random() % 8 == 0) damaged.resize(random() % damaged.size());
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

}  // namespace
}  // namespace weir
