// Any bytes as a configuration file: an Error or a struct, never a crash, hang or exception.

#include "common/yaml_reader.h"

#include <cstddef>
#include <cstdint>
#include <string>

using namespace std::chrono_literals;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto r = weir::YamlReader::from_text("f", std::string(reinterpret_cast<const char*>(data), size));
  std::string host;
  bool enabled = false;
  uint64_t bytes = 0;
  std::chrono::seconds window{};
  std::vector<std::string> list;
  std::vector<std::pair<std::string, std::string>> labels;
  int hz = 0;
  r.read("host", host);
  r.read("hz", hz, 1, 999);
  r.read("window", window, 1s, 1h);
  r.read("labels", labels);
  r.read("drop", list);
  auto limits = r.section("limits");
  limits.read_size("outbox", bytes, 1, 1 << 30);
  limits.read("enabled", enabled);
  for (auto& rule : r.sections("metrics")) {
    rule.require("name");
    rule.read("name", host);
    rule.read("series", hz, 1, 999);
  }
  r.require("host");
  const auto result = r.done(0);
  if (!result && result.error().message.empty()) __builtin_trap();
  return 0;
}
