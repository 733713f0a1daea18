#include "aggregator/http/json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <iterator>

#include <fmt/format.h>

#include "common/check.h"
#include "common/utf8.h"

namespace weir::aggregator {
namespace {

// Room for the longest double without exponent: 1.8e308 has 309 digits, 5e-324 has 326 characters.
using NumberBuffer = std::array<char, 400>;

std::string_view fixed_text(double value, NumberBuffer& buffer) {
  const auto [end, fault] =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  WEIR_CHECK(fault == std::errc{});
  return {buffer.data(), static_cast<size_t>(end - buffer.data())};
}

}  // namespace

void JsonWriter::comma() {
  if (!first_) out_.push_back(',');
  first_ = false;
}

JsonWriter& JsonWriter::open(char bracket) {
  comma();
  out_.push_back(bracket);
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  out_.push_back(bracket);
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  comma();
  quoted(name);
  out_.push_back(':');
  first_ = true;  // no comma before the value
  return *this;
}

JsonWriter& JsonWriter::text(std::string_view value) {
  comma();
  quoted(value);
  return *this;
}

JsonWriter& JsonWriter::integer(int64_t value) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}", value);
  return *this;
}

JsonWriter& JsonWriter::natural(uint64_t value) {
  comma();
  fmt::format_to(std::back_inserter(out_), "{}", value);
  return *this;
}

JsonWriter& JsonWriter::real(double value) {
  comma();
  NumberBuffer buffer;
  out_ += std::isfinite(value) ? fixed_text(value, buffer) : "null";
  return *this;
}

JsonWriter& JsonWriter::truth(bool value) {
  comma();
  out_ += value ? "true" : "false";
  return *this;
}

void JsonWriter::quoted(std::string_view value) {
  out_.push_back('"');
  while (!value.empty()) {
    const char c = value.front();
    const auto byte = static_cast<unsigned char>(c);
    size_t length = 1;
    if (c == '"' || c == '\\') {
      out_.push_back('\\');
      out_.push_back(c);
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out_), "\\u{:04x}", byte);
    } else if (byte < 0x80) {
      out_.push_back(c);
    } else if (const size_t valid = utf8_sequence(value); valid > 0) {
      out_ += value.substr(0, valid);
      length = valid;
    } else {
      out_ += "\xef\xbf\xbd";
    }
    value.remove_prefix(length);
  }
  out_.push_back('"');
}

std::string sample_text(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  NumberBuffer buffer;
  return std::string(fixed_text(value, buffer));
}

}  // namespace weir::aggregator
