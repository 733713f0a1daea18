#pragma once
// JsonWriter: writes one JSON text, commas and escapes included. For answers of many megabytes:
// no tree is built.
//
// Thread: one. Promise: strings come out as valid UTF-8 (bytes that are not become U+FFFD); a
// number that JSON cannot say (NaN, infinity) becomes null. The caller nests properly.

#include <cstdint>
#include <string>
#include <string_view>

namespace weir::aggregator {

class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }

  JsonWriter& end_object() { return close('}'); }

  JsonWriter& begin_array() { return open('['); }

  JsonWriter& end_array() { return close(']'); }

  JsonWriter& key(std::string_view name);
  JsonWriter& text(std::string_view value);
  JsonWriter& integer(int64_t value);
  JsonWriter& natural(uint64_t value);
  JsonWriter& real(double value);
  JsonWriter& truth(bool value);

  // A key and its value at once.
  JsonWriter& text(std::string_view name, std::string_view value) { return key(name).text(value); }

  JsonWriter& integer(std::string_view name, int64_t value) { return key(name).integer(value); }

  JsonWriter& natural(std::string_view name, uint64_t value) { return key(name).natural(value); }

  JsonWriter& truth(std::string_view name, bool value) { return key(name).truth(value); }

  [[nodiscard]] size_t size() const { return out_.size(); }

  [[nodiscard]] std::string take() && { return std::move(out_); }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void comma();
  void quoted(std::string_view value);

  std::string out_;
  bool first_ = true;  // nothing yet in the innermost object or array
};

// Prometheus' text of a sample: shortest digits that read back the same, no exponent; "NaN",
// "+Inf", "-Inf".
[[nodiscard]] std::string sample_text(double value);

}  // namespace weir::aggregator
