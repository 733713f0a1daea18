#include "common/frame.h"

#include <gtest/gtest.h>

#include "common/crc32c.h"

namespace weir {
namespace {

FrameHeader sample() {
  FrameHeader header;
  header.type = FrameType::kOut;
  header.codec = BodyCodec::kZstd;
  for (size_t i = 0; i < header.source.size(); ++i) header.source[i] = static_cast<std::byte>(i);
  header.epoch = 0x1122334455667788;
  header.seq = 42;
  header.target_epoch = 7;
  header.raw_len = 1000;
  header.body_len = 600;
  header.body_crc32c = 0xDEADBEEF;
  return header;
}

HeaderFault fault_of(ByteView bytes) { return std::get<HeaderFault>(check_header(bytes)); }

// Puts a right CRC under changed bytes, as a peer of another version would.
void reseal(HeaderBytes& bytes) {
  const uint32_t crc = crc32c(ByteView(bytes).first(60));
  std::memcpy(bytes.data() + 60, &crc, sizeof crc);
}

TEST(Frame, EveryFieldSurvives) {
  const FrameHeader in = sample();
  const auto out = decode_header(encode_header(in));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->type, in.type);
  EXPECT_EQ(out->codec, in.codec);
  EXPECT_EQ(out->source, in.source);
  EXPECT_EQ(out->epoch, in.epoch);
  EXPECT_EQ(out->seq, in.seq);
  EXPECT_EQ(out->target_epoch, in.target_epoch);
  EXPECT_EQ(out->raw_len, in.raw_len);
  EXPECT_EQ(out->body_len, in.body_len);
  EXPECT_EQ(out->body_crc32c, in.body_crc32c);
}

TEST(Frame, FieldsStandWhereThePageSays) {
  const HeaderBytes bytes = encode_header(sample());
  EXPECT_EQ(std::memcmp(bytes.data(), "WTP1", 4), 0);
  EXPECT_EQ(bytes[4], std::byte{1});
  EXPECT_EQ(bytes[6], std::byte{5});
  EXPECT_EQ(bytes[8], std::byte{0});
  EXPECT_EQ(bytes[23], std::byte{15});
  EXPECT_EQ(bytes[24], std::byte{0x88});
  EXPECT_EQ(bytes[32], std::byte{42});
  EXPECT_EQ(bytes[52], std::byte{0x58});
}

TEST(Frame, HeaderForABodyCarriesItsLengthAndChecksum) {
  FrameHeader header = sample();
  header.codec = BodyCodec::kNone;
  const auto out = decode_header(encode_header_for(header, as_bytes("123456789")));
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->body_len, 9U);
  EXPECT_EQ(out->raw_len, 9U);
  EXPECT_EQ(out->body_crc32c, 0xE3069283U);
}

TEST(Frame, EveryOtherSizeIsRefused) {
  const HeaderBytes bytes = encode_header(sample());
  for (size_t size = 0; size < kHeaderSize; ++size) {
    EXPECT_EQ(fault_of(ByteView(bytes).first(size)), HeaderFault::kSize);
  }
  Bytes longer(bytes.begin(), bytes.end());
  longer.push_back({});
  EXPECT_EQ(fault_of(longer), HeaderFault::kSize);
}

TEST(Frame, EveryFlippedBitIsRefused) {
  const HeaderBytes good = encode_header(sample());
  for (size_t bit = 0; bit < kHeaderSize * 8; ++bit) {
    HeaderBytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_EQ(fault_of(bad), bit < 32 ? HeaderFault::kMagic : HeaderFault::kCrc) << bit;
  }
}

TEST(Frame, AnotherMajorVersionIsRefusedAndAnotherMinorIsNot) {
  HeaderBytes bytes = encode_header(sample());
  bytes[5] = std::byte{200};
  reseal(bytes);
  EXPECT_TRUE(decode_header(bytes).ok());
  bytes[4] = std::byte{2};
  reseal(bytes);
  EXPECT_EQ(fault_of(bytes), HeaderFault::kUnknownVersion);
  EXPECT_EQ(decode_header(bytes).error().message, "frame refused: version");
}

TEST(Frame, AnUnknownTypeIsLeftToTheReceiver) {
  HeaderBytes bytes = encode_header(sample());
  bytes[6] = std::byte{99};
  reseal(bytes);
  const auto header = decode_header(bytes);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(static_cast<int>(header->type), 99);
}

}  // namespace
}  // namespace weir
