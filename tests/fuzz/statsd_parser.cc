// Any bytes as a StatsD packet: lines or counted refusals, views inside the packet, numbers finite.

#include <cstddef>
#include <cstdint>

#include "daemon/statsd/parser.h"

using namespace weir::daemon::statsd;

namespace {

void check(bool good) {
  if (!good) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view packet(reinterpret_cast<const char*>(data), size);
  std::string_view text;
  while (next_line(packet, text)) {
    Line line;
    if (parse_line(text, line)) continue;
    check(!line.name.empty() && line.rate_nano > 0 && line.rate_nano <= kNano);
    Scaler scaler(line.rate_nano);
    for (bool more = true; more;) {
      std::string_view digits;
      more = take_value(line.values, digits);
      Number number;
      if (parse_number(digits, number)) continue;
      check(number.nano < kNano);
      if (const auto quanta = millionths(number)) check(*quanta >= 0);
      if (const auto events = scaler.add(number); events && !number.is_zero()) {
        check(*events >= number.whole);  // a rate of at most 1 never makes events fewer
      }
    }
    std::string_view name;
    std::string_view value;
    while (next_tag(line.tags, name, value)) check(!label_name(name).empty());
    check(metric_name(line.name).size() >= line.name.size());
  }
  return 0;
}
