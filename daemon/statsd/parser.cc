#include "daemon/statsd/parser.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "common/bytes.h"

namespace weir::daemon::statsd {
namespace {

constexpr std::array<std::string_view, kRejects> kRejectNames{
    "no_value",  "name",  "type",     "number", "range",      "negative", "rate",
    "timestamp", "field", "too_long", "label",  "kind_clash", "event",    "service_check"};

constexpr int64_t kMaxUnixS = 9'000'000'000;  // in nanoseconds it still fits 63 bits

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

std::string_view take_until(std::string_view& text, char end) {
  const size_t at = text.find(end);
  const std::string_view head = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return head;
}

std::optional<Type> type_of(std::string_view text) {
  if (text == "c") return Type::kCounter;
  if (text == "ms") return Type::kTimer;
  if (text == "g") return Type::kGauge;
  if (text == "h") return Type::kHistogram;
  if (text == "d") return Type::kDistribution;
  if (text == "s") return Type::kSet;
  return std::nullopt;
}

// "5", ".5", "5." and "5.25"; decimals beyond the ninth are cut.
std::optional<Reject> parse_plain(std::string_view text, Number& out) {
  const char* at = text.data();
  const char* const end = at + text.size();
  size_t digits = 0;
  if (at != end && is_digit(*at)) {
    const auto [rest, ec] = std::from_chars(at, end, out.whole);
    if (ec != std::errc{}) return Reject::kRange;
    digits = static_cast<size_t>(rest - at);
    at = rest;
  }
  if (at != end && *at == '.') {
    uint32_t unit = kNano / 10;
    for (++at; at != end && is_digit(*at); ++at, ++digits, unit /= 10) {
      out.nano += static_cast<uint32_t>(*at - '0') * unit;
    }
  }
  return at == end && digits > 0 ? std::nullopt : std::optional(Reject::kNumber);
}

// "1e-05", as some languages print small floats: by way of a double, so to 53 bits.
std::optional<Reject> parse_exponent(std::string_view text, Number& out) {
  double value = 0;
  const auto [rest, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec == std::errc::result_out_of_range || value >= 0x1p64) return Reject::kRange;
  if (ec != std::errc{} || rest != text.data() + text.size()) return Reject::kNumber;
  const double whole = std::floor(value);
  out.whole = static_cast<uint64_t>(whole);
  out.nano = static_cast<uint32_t>((value - whole) * kNano);
  return std::nullopt;
}

std::optional<Reject> parse_rate(std::string_view text, uint32_t& rate_nano) {
  Number rate;
  if (parse_number(text, rate) || rate.sign == Number::Sign::kMinus) return Reject::kRate;
  if (rate.is_zero() || rate.whole > 1 || (rate.whole == 1 && rate.nano > 0)) return Reject::kRate;
  rate_nano = rate.whole == 1 ? kNano : rate.nano;
  return std::nullopt;
}

std::optional<Reject> parse_timestamp(std::string_view text, std::optional<int64_t>& unix_s) {
  int64_t value = 0;
  const auto [rest, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || rest != text.data() + text.size() || value < 0 || value > kMaxUnixS) {
    return Reject::kTimestamp;
  }
  unix_s = value;
  return std::nullopt;
}

std::optional<Reject> parse_fields(std::string_view rest, Line& out) {
  bool rate_seen = false;
  while (!rest.empty()) {
    const std::string_view field = take_until(rest, '|');
    if (field.starts_with('#')) {
      if (!out.tags.empty()) return Reject::kField;
      out.tags = field.substr(1);
    } else if (field.starts_with('@')) {
      if (std::exchange(rate_seen, true)) return Reject::kField;
      if (const auto reject = parse_rate(field.substr(1), out.rate_nano)) return reject;
    } else if (field.starts_with('T')) {
      if (out.unix_s) return Reject::kField;
      if (const auto reject = parse_timestamp(field.substr(1), out.unix_s)) return reject;
    } else if (!field.starts_with("c:") && !field.starts_with("e:") &&
               !field.starts_with("card:")) {
      return Reject::kField;
    }
  }
  return std::nullopt;
}

}  // namespace

std::string_view reject_name(Reject reject) { return kRejectNames[static_cast<size_t>(reject)]; }

std::optional<Reject> parse_line(std::string_view text, Line& out) {
  if (text.size() > kMaxLine) return Reject::kTooLong;
  if (text.starts_with("_e{")) return Reject::kEvent;
  if (text.starts_with("_sc|")) return Reject::kServiceCheck;
  const size_t bar = text.find('|');
  const size_t colon = text.substr(0, bar).find(':');
  if (bar == std::string_view::npos || colon == std::string_view::npos) return Reject::kNoValue;
  if (colon == 0 || colon > kMaxName) return Reject::kName;
  out = Line{};
  out.name = text.substr(0, colon);
  out.values = text.substr(colon + 1, bar - colon - 1);
  text.remove_prefix(bar + 1);
  const auto type = type_of(take_until(text, '|'));
  if (!type) return Reject::kType;
  out.type = *type;
  return parse_fields(text, out);
}

bool next_line(std::string_view& packet, std::string_view& line) {
  while (!packet.empty()) {
    line = take_until(packet, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) return true;
  }
  return false;
}

bool take_value(std::string_view& values, std::string_view& value) {
  const bool more = values.find(':') != std::string_view::npos;
  value = take_until(values, ':');
  return more;
}

std::optional<Reject> parse_number(std::string_view text, Number& out) {
  out = Number{};
  if (text.starts_with('-')) out.sign = Number::Sign::kMinus;
  if (text.starts_with('+')) out.sign = Number::Sign::kPlus;
  if (out.sign != Number::Sign::kNone) text.remove_prefix(1);
  if (text.empty() || (!is_digit(text.front()) && text.front() != '.')) return Reject::kNumber;
  return text.find_first_of("eE") == std::string_view::npos ? parse_plain(text, out)
                                                            : parse_exponent(text, out);
}

std::optional<int64_t> millionths(const Number& number) {
  const UInt128 value = UInt128{number.whole} * 1'000'000 + (number.nano + 500) / 1000;
  if (value > INT64_MAX) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::optional<uint64_t> Scaler::add(const Number& number) {
  if (rate_nano_ == kNano && number.nano == 0) return number.whole;  // the usual: no division
  const UInt128 units = UInt128{number.whole} * kNano + number.nano + rest_;
  const UInt128 events = units / rate_nano_;
  if (events > UINT64_MAX) return std::nullopt;
  rest_ = static_cast<uint64_t>(units % rate_nano_);
  return static_cast<uint64_t>(events);
}

std::string metric_name(std::string_view name) {
  std::string out(name);
  std::ranges::replace_if(
      out, [](char c) { return !is_name_char(c) && c != ':'; }, '_');
  if (!out.empty() && is_digit(out.front())) out.insert(out.begin(), '_');
  return out.starts_with("__") || out.starts_with("weir_") ? "exported_" + out : out;
}

std::string label_name(std::string_view name) {
  std::string out(name);
  std::ranges::replace_if(
      out, [](char c) { return !is_name_char(c); }, '_');
  if (out.empty() || is_digit(out.front())) out.insert(out.begin(), '_');
  const bool reserved = out == "host" || out == "region" || out.starts_with("__");
  return reserved ? "exported_" + out : out;
}

bool next_tag(std::string_view& tags, std::string_view& name, std::string_view& value) {
  while (!tags.empty()) {
    value = take_until(tags, ',');
    if (value.empty()) continue;
    const size_t colon = value.find(':');
    name = value.substr(0, colon);
    value = colon == std::string_view::npos ? "true" : value.substr(colon + 1);
    return true;
  }
  return false;
}

}  // namespace weir::daemon::statsd
