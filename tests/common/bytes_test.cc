#include "common/bytes.h"

#include <random>

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(Varint, EveryLengthComesBackAlikeWithAndWithoutBytesBehindIt) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 20'000; ++round) {
    const uint64_t value = random() >> (random() % 64);
    ByteWriter out;
    out.varint(value);
    Bytes longer = out.bytes();
    for (size_t i = random() % 12; i > 0; --i) longer.push_back(static_cast<std::byte>(random()));
    for (const ByteView bytes : {ByteView(out.bytes()), ByteView(longer)}) {
      uint64_t narrow = 0;
      ByteReader in(bytes);
      ASSERT_TRUE(in.varint(narrow));
      EXPECT_EQ(narrow, value);
      EXPECT_EQ(in.remaining(), bytes.size() - out.size());
      UInt128 wide = 0;
      ASSERT_TRUE(ByteReader(bytes).varint128(wide));
      EXPECT_TRUE(wide == value);
    }
  }
}

TEST(Varint, OneThatIsNotMinimalOrNotWholeIsRefused) {
  for (size_t size = 2; size < 18; ++size) {
    for (const size_t behind : {size_t{0}, size_t{20}}) {
      Bytes bytes(size, std::byte{0x80});
      bytes.back() = std::byte{0};  // a last byte without bits
      bytes.resize(size + behind, std::byte{1});
      uint64_t value = 0;
      UInt128 wide = 0;
      EXPECT_FALSE(ByteReader(bytes).varint(value)) << size;
      EXPECT_FALSE(ByteReader(bytes).varint128(wide)) << size;
      ByteReader cut(ByteView(bytes).first(size - 1));
      EXPECT_FALSE(cut.varint(value)) << size;
      EXPECT_TRUE(cut.failed());
    }
  }
}

TEST(Varint, GreatestAndOneMore) {
  ByteWriter out;
  out.varint(UINT64_MAX);
  out.varint(UInt128{UINT64_MAX} + 1);
  out.varint(~UInt128{0});
  ByteReader in(out.bytes());
  uint64_t value = 0;
  UInt128 wide = 0;
  ASSERT_TRUE(in.varint(value));
  EXPECT_EQ(value, UINT64_MAX);
  ByteReader again = in;
  EXPECT_FALSE(again.varint(value)) << "beyond 64 bits";
  ASSERT_TRUE(in.varint128(wide));
  EXPECT_TRUE(wide == UInt128{UINT64_MAX} + 1);
  ASSERT_TRUE(in.varint128(wide));
  EXPECT_TRUE(wide == ~UInt128{0});
  Bytes over = out.bytes();
  over.back() = std::byte{4};  // bit 129
  EXPECT_FALSE(ByteReader(ByteView(over).last(19)).varint128(wide));
}

}  // namespace
}  // namespace weir
