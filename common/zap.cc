#include "common/zap.h"

#include <algorithm>
#include <cstring>

namespace weir {
namespace {

constexpr std::string_view kVersion = "1.0";
constexpr size_t kFrames = 7;
constexpr size_t kMaxText = 255;  // of a domain, an address or an id

std::string_view text_of(ByteView frame) {
  return {reinterpret_cast<const char*>(frame.data()), frame.size()};
}

}  // namespace

std::optional<ZapRequest> parse_zap(std::span<const ByteView> frames) {
  if (frames.size() != kFrames || text_of(frames[0]) != kVersion) return {};
  const auto texts = frames.subspan(1, 3);
  if (std::ranges::any_of(texts, [](ByteView text) { return text.size() > kMaxText; })) return {};
  ZapRequest out;
  if (text_of(frames[5]) != "CURVE" || frames[6].size() != out.key.size()) return {};
  out.id = text_of(frames[1]);
  out.domain = text_of(frames[2]);
  out.address = text_of(frames[3]);
  std::memcpy(out.key.data(), frames[6].data(), out.key.size());
  return out;
}

ZapAnswer zap_accept(std::string_view id, std::string_view user) {
  return {std::string(kVersion), std::string(id), "200", "OK", std::string(user), ""};
}

ZapAnswer zap_refuse(std::string_view id, std::string_view reason) {
  return {std::string(kVersion), std::string(id), "400", std::string(reason), "", ""};
}

}  // namespace weir
