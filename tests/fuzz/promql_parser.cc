// Any bytes give a tree or an error with a place; never a crash, never more depth than promised.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "aggregator/query/parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = weir::aggregator::parse_query(text);
  if (parsed.ok() && (*parsed)->depth > weir::aggregator::kMaxExpressionDepth) std::abort();
  if (!parsed.ok() && parsed.error().message.empty()) std::abort();
  return 0;
}
