#include "aggregator/http/params.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

#include "aggregator/query/lexer.h"

namespace weir::aggregator {
namespace {

constexpr size_t kMaxFields = 256;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      out.push_back(' ');
    } else if (text[i] != '%') {
      out.push_back(text[i]);
    } else {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return invalid("broken percent escape in the request");
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    }
  }
  return out;
}

// Exactly `digits` digits from the front of `text`; -1 if there are not.
int take_number(std::string_view& text, size_t digits) {
  if (text.size() < digits) return -1;
  int value = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || (text.front() | 0x20) != (c | 0x20)) return false;
  text.remove_prefix(1);
  return true;
}

// 2026-11-20T09:28:56.123+01:00
std::optional<int64_t> rfc3339_ms(std::string_view text) {
  const int year = take_number(text, 4);
  if (year < 1 || !take(text, '-')) return std::nullopt;
  const int month = take_number(text, 2);
  if (!take(text, '-')) return std::nullopt;
  const int day = take_number(text, 2);
  const std::chrono::year_month_day date{std::chrono::year{year},
                                         std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (month < 1 || day < 1 || !date.ok() || !take(text, 'T')) return std::nullopt;
  const int hour = take_number(text, 2);
  if (!take(text, ':')) return std::nullopt;
  const int minute = take_number(text, 2);
  if (!take(text, ':')) return std::nullopt;
  const int second = take_number(text, 2);
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60) {
    return std::nullopt;
  }
  int64_t ms = 0;
  if (take(text, '.')) {
    int64_t unit = 100;
    size_t digits = 0;
    for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; ++digits) {
      ms += unit * (text.front() - '0');
      unit /= 10;
      text.remove_prefix(1);
    }
    if (digits == 0) return std::nullopt;
  }
  int64_t ahead_minutes = 0;
  if (!take(text, 'Z')) {
    const bool east = take(text, '+');
    if (!east && !take(text, '-')) return std::nullopt;
    const int hours = take_number(text, 2);
    if (!take(text, ':')) return std::nullopt;
    const int minutes = take_number(text, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return std::nullopt;
    ahead_minutes = (east ? 1 : -1) * (hours * 60 + minutes);
  }
  if (!text.empty()) return std::nullopt;
  const int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  const int64_t minutes = (days * 24 + hour) * 60 + minute - ahead_minutes;
  return (minutes * 60 + second) * 1000 + ms;
}

std::optional<double> decimal(std::string_view text) {
  double value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

Error bad_parameter(std::string_view name, std::string_view why) {
  return invalid(fmt::format("invalid parameter \"{}\": {}", name, why));
}

}  // namespace

Result<FormFields> decode_form(std::string_view text) {
  FormFields fields;
  while (!text.empty()) {
    const auto part = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(part.size() + 1, text.size()));
    if (part.empty()) continue;
    if (fields.size() == kMaxFields) return invalid("too many fields in the request");
    const auto equals = part.find('=');
    WEIR_TRY_ASSIGN(auto name, percent_decoded(part.substr(0, equals)));
    const auto raw = equals == std::string_view::npos ? "" : part.substr(equals + 1);
    WEIR_TRY_ASSIGN(auto value, percent_decoded(raw));
    fields.emplace_back(std::move(name), std::move(value));
  }
  return fields;
}

const std::string* find_field(const FormFields& fields, std::string_view name) {
  const auto found =
      std::ranges::find_if(fields, [&](const auto& field) { return field.first == name; });
  return found == fields.end() ? nullptr : &found->second;
}

std::vector<std::string> all_fields(const FormFields& fields, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [key, value] : fields) {
    if (key == name) values.push_back(value);
  }
  return values;
}

Result<int64_t> parse_time_ms(std::string_view text) {
  std::optional<int64_t> ms;
  if (const auto seconds = decimal(text)) {
    const double exact = std::round(*seconds * 1000);
    if (std::abs(exact) < 1e17) ms = static_cast<int64_t>(exact);
  } else {
    ms = rfc3339_ms(text);
  }
  if (!ms || *ms < kMinTimeMs || *ms > kMaxTimeMs) {
    return invalid(fmt::format("cannot parse \"{}\" to a valid timestamp", text));
  }
  return *ms;
}

Result<int64_t> time_field(const FormFields& fields, std::string_view name, int64_t fallback_ms) {
  const auto* text = find_field(fields, name);
  if (text == nullptr || text->empty()) return fallback_ms;
  const auto ms = parse_time_ms(*text);
  if (!ms) return bad_parameter(name, ms.error().message);
  return ms;
}

Result<int64_t> duration_field(const FormFields& fields, std::string_view name) {
  const auto* text = find_field(fields, name);
  const std::string_view value = text == nullptr ? std::string_view{} : *text;
  double ms = 0;
  if (const auto seconds = decimal(value)) {
    ms = std::round(*seconds * 1000);
  } else if (const auto duration = parse_duration_ms(value)) {
    ms = static_cast<double>(*duration);
  } else {
    return bad_parameter(name, fmt::format("cannot parse \"{}\" to a valid duration", value));
  }
  if (ms < 1) {
    return bad_parameter(
        name,
        "zero or negative query resolution step widths are not accepted. Try a positive "
        "integer");
  }
  if (ms > static_cast<double>(kMaxTimeMs)) return bad_parameter(name, "duration is too long");
  return static_cast<int64_t>(ms);
}

Result<size_t> limit_field(const FormFields& fields, size_t fallback) {
  const auto* text = find_field(fields, "limit");
  if (text == nullptr || text->empty()) return fallback;
  size_t limit = 0;
  const auto [end, fault] = std::from_chars(text->data(), text->data() + text->size(), limit);
  if (fault != std::errc{} || end != text->data() + text->size()) {
    return bad_parameter("limit", fmt::format("cannot parse \"{}\" to a count", *text));
  }
  return limit == 0 ? fallback : limit;
}

std::chrono::milliseconds timeout_of(const FormFields& fields, std::chrono::milliseconds limit) {
  const auto asked = duration_field(fields, "timeout");
  return asked.ok() ? std::min(limit, std::chrono::milliseconds(*asked)) : limit;
}

}  // namespace weir::aggregator
