#include "common/crc32c.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

Bytes filled(size_t size, int first, int step) {
  Bytes bytes(size);
  int value = first;
  for (auto& byte : bytes) {
    byte = static_cast<std::byte>(value);
    value += step;
  }
  return bytes;
}

TEST(Crc32c, MatchesThePublishedVectors) {  // RFC 3720, B.4
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c({}), 0U);
  EXPECT_EQ(crc32c(filled(32, 0, 0)), 0x8A9136AAU);
  EXPECT_EQ(crc32c(filled(32, 0xFF, 0)), 0x62A8AB43U);
  EXPECT_EQ(crc32c(filled(32, 0, 1)), 0x46DD794EU);
  EXPECT_EQ(crc32c(filled(32, 31, -1)), 0x113FDB5CU);
}

TEST(Crc32c, InstructionAndTableAgreeAtEveryLengthAndAlignment) {
  const Bytes bytes = filled(128, 7, 37);
  for (size_t offset = 0; offset < 9; ++offset) {
    for (size_t size = 0; size + offset <= bytes.size(); ++size) {
      const ByteView part = ByteView(bytes).subspan(offset, size);
      ASSERT_EQ(crc32c(part), crc32c_portable(part)) << offset << " " << size;
    }
  }
}

}  // namespace
}  // namespace weir
