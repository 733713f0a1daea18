#include "common/zstd.h"

#include <string>

#include <gtest/gtest.h>

namespace weir {
namespace {

Bytes repeated(size_t size) {
  Bytes out(size);
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(i % 7);
  return out;
}

TEST(Zstd, WhatGoesInComesOut) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100}, size_t{100'000}}) {
    const Bytes raw = repeated(size);
    const auto packed = zstd_compress(raw, 1);
    ASSERT_TRUE(packed.ok());
    const auto back = zstd_decompress(*packed, size);
    ASSERT_TRUE(back.ok()) << size;
    EXPECT_EQ(*back, raw);
  }
}

TEST(Zstd, AnotherSizeThanDeclaredIsRefused) {
  const auto packed = zstd_compress(repeated(1000), 1);
  ASSERT_TRUE(packed.ok());
  EXPECT_FALSE(zstd_decompress(*packed, 999).ok());
  EXPECT_FALSE(zstd_decompress(*packed, 1001).ok());
}

TEST(Zstd, EveryTruncationIsRefused) {
  const auto packed = zstd_compress(repeated(1000), 1);
  ASSERT_TRUE(packed.ok());
  for (size_t size = 0; size < packed->size(); ++size) {
    EXPECT_FALSE(zstd_decompress(ByteView(*packed).first(size), 1000).ok()) << size;
  }
}

TEST(Zstd, BytesAfterTheFrameAreRefused) {
  auto packed = zstd_compress(repeated(1000), 1);
  ASSERT_TRUE(packed.ok());
  packed->push_back(std::byte{0});
  EXPECT_FALSE(zstd_decompress(*packed, 1000).ok());
}

TEST(Zstd, RandomBytesAreNotAFrame) {
  EXPECT_FALSE(zstd_decompress(as_bytes("no frame at all"), 100).ok());
}

}  // namespace
}  // namespace weir
