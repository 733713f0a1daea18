#include "common/frame.h"

#include <string>

#include "common/crc32c.h"

namespace weir {
namespace {

constexpr uint32_t kMagic = 0x31505457;  // "WTP1", read as little-endian
constexpr size_t kCrcOffset = 60;

}  // namespace

std::string_view fault_name(HeaderFault fault) {
  switch (fault) {
    case HeaderFault::kSize:
      return "header_size";
    case HeaderFault::kMagic:
      return "header_magic";
    case HeaderFault::kCrc:
      return "header_crc";
    case HeaderFault::kUnknownVersion:
      return "version";
  }
  return "unknown";
}

HeaderBytes encode_header(const FrameHeader& header) {
  HeaderBytes bytes{};
  size_t size = 0;
  const auto put = [&](const auto& value) {
    std::memcpy(bytes.data() + size, &value, sizeof value);
    size += sizeof value;
  };
  put(kMagic);
  put(kWireMajor);
  put(kWireMinor);
  put(header.type);
  put(header.codec);
  put(header.source);
  put(header.epoch);
  put(header.seq);
  put(header.target_epoch);
  put(header.raw_len);
  put(header.body_len);
  put(header.body_crc32c);
  WEIR_CHECK(size == kCrcOffset);
  put(crc32c(ByteView(bytes).first(kCrcOffset)));
  return bytes;
}

HeaderBytes encode_header_for(FrameHeader header, ByteView body) {
  WEIR_CHECK(body.size() <= UINT32_MAX);
  header.body_len = static_cast<uint32_t>(body.size());
  header.body_crc32c = crc32c(body);
  if (header.codec == BodyCodec::kNone) header.raw_len = header.body_len;
  return encode_header(header);
}

std::variant<FrameHeader, HeaderFault> check_header(ByteView bytes) {
  if (bytes.size() != kHeaderSize) return HeaderFault::kSize;
  ByteReader in(bytes);
  uint32_t magic = 0;
  uint32_t stored_crc = 0;
  uint8_t major = 0;
  uint8_t minor = 0;
  FrameHeader header;
  const bool read = in.get(magic) && in.get(major) && in.get(minor) && in.get(header.type) &&
                    in.get(header.codec) && in.get(header.source) && in.get(header.epoch) &&
                    in.get(header.seq) && in.get(header.target_epoch) && in.get(header.raw_len) &&
                    in.get(header.body_len) && in.get(header.body_crc32c) && in.get(stored_crc);
  WEIR_CHECK(read);  // the size was checked
  if (magic != kMagic) return HeaderFault::kMagic;
  if (crc32c(bytes.first(kCrcOffset)) != stored_crc) return HeaderFault::kCrc;
  if (major != kWireMajor) return HeaderFault::kUnknownVersion;
  return header;
}

Result<FrameHeader> decode_header(ByteView bytes) {
  const auto checked = check_header(bytes);
  if (const auto* header = std::get_if<FrameHeader>(&checked)) return *header;
  return invalid("frame refused: " + std::string(fault_name(std::get<HeaderFault>(checked))));
}

}  // namespace weir
