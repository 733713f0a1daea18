#pragma once
// The 64-byte header of WTP/1 (docs/wire.md): the first of the two frames of every message.
//
// Pure. Promise: a header is used only after its size, magic, CRC and major version were checked,
// in that order; the fault says which failed. The type is not judged here: a receiver answers an
// unknown one. Cost: one CRC32C of 60 bytes.

#include <array>
#include <cstdint>
#include <string_view>
#include <variant>

#include "common/batch.h"
#include "common/bytes.h"
#include "common/result.h"

namespace weir {

// Wire values: never renumber.
enum class FrameType : uint8_t {
  kHello = 1,
  kWelcome = 2,
  kData = 3,  // one batch from an edge
  kTombstone = 4,
  kOut = 5,   // a rollup with its manifest, from a tier to the next
  kAckR = 6,  // durable at the next tier
  kAckG = 7,  // durable at the last tier: the outbox may forget it
  kNack = 8,
  kCredit = 9,
  kPing = 10,
  kPong = 11,
  kAskIncluded = 12,
  kIncluded = 13,
  kFenced = 14,
  kRevoked = 15,
  kGoaway = 16,
  kQuery = 17,
  kResult = 18,
};

enum class BodyCodec : uint8_t { kNone = 0, kZstd = 1 };

inline constexpr uint8_t kWireMajor = 1;
inline constexpr uint8_t kWireMinor = 0;
inline constexpr size_t kHeaderSize = 64;

struct FrameHeader {
  FrameType type = FrameType::kData;  // may hold a value this version does not know
  BodyCodec codec = BodyCodec::kNone;
  SourceId source{};
  uint64_t epoch = 0;
  uint64_t seq = 0;
  uint64_t target_epoch = 0;
  uint32_t raw_len = 0;  // of the body before compression
  uint32_t body_len = 0;
  uint32_t body_crc32c = 0;  // of the body as it travels
};

using HeaderBytes = std::array<std::byte, kHeaderSize>;

enum class HeaderFault : uint8_t { kSize, kMagic, kCrc, kUnknownVersion };

// The reason as it stands in counters: "header_size", "header_magic", "header_crc", "version".
[[nodiscard]] std::string_view fault_name(HeaderFault fault);

// Fills in magic, version and the header CRC.
[[nodiscard]] HeaderBytes encode_header(const FrameHeader& header);
// The same, with body_len and body_crc32c of this body; raw_len too when the codec is none.
[[nodiscard]] HeaderBytes encode_header_for(FrameHeader header, ByteView body);

[[nodiscard]] std::variant<FrameHeader, HeaderFault> check_header(ByteView bytes);
// The same, for callers that do not count each fault.
[[nodiscard]] Result<FrameHeader> decode_header(ByteView bytes);

}  // namespace weir
