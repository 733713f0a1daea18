// Any frames as a question of ZAP: a request or nothing. Input: the length of a frame in one byte,
// the frame, and so on.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/zap.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::ByteView rest = std::as_bytes(std::span(data, size));
  std::vector<weir::ByteView> frames;
  while (!rest.empty()) {
    const size_t length = std::min(static_cast<size_t>(rest.front()), rest.size() - 1);
    frames.push_back(rest.subspan(1, length));
    rest = rest.subspan(1 + length);
  }
  const auto request = weir::parse_zap(frames);
  if (request && (frames.size() != 7 || request->id.size() > 255)) __builtin_trap();
  return 0;
}
