// Control messages from a peer: any bytes give a message within its limits, or an Error; and what
// was accepted encodes and decodes to itself.

#include <cstdint>
#include <span>

#include "common/check.h"
#include "common/control.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto message = weir::decode_control(std::as_bytes(std::span(data, size)));
  if (!message.ok()) return 0;
  const auto again = weir::decode_control(weir::encode_control(*message));
  WEIR_CHECK(again.ok() && *again == *message);
  return 0;
}
