#pragma once
// What a number is (Metric), whose it is (labels), and when (Window). Plain values, any thread.
// The rules are docs/architecture.md "Data model" and docs/wire.md.

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {

// Wire values: never renumber.
enum class Kind : uint8_t {
  kCounter = 1,
  kGauge = 2,
  kDistribution = 3,
  kDistinct = 4,
  kTopk = 5,
  kProfile = 6,
};

std::string_view kind_name(Kind kind);

// One quantum is 10^quantum units: -9 for seconds kept in nanoseconds, 0 for counts and bytes.
// Two metrics are the same only if every field is; another kind or unit under one name is refused
// at the edge and kept apart above.
struct Metric {
  std::string name;
  Kind kind = Kind::kCounter;
  std::string unit;  // "seconds", "bytes", "" ...
  int8_t quantum = 0;

  friend auto operator<=>(const Metric&, const Metric&) = default;
};

// Labels are sorted by name, names unique, values never empty.
using Label = std::pair<std::string, std::string>;
using Labels = std::vector<Label>;

struct LabelView {
  std::string_view name;
  std::string_view value;
};

// [start, start + width) in Unix seconds; start is a multiple of width. An event belongs to the
// window in which it ends.
struct Window {
  int64_t start_s = 0;
  uint32_t width_s = 60;

  [[nodiscard]] int64_t end_s() const { return start_s + width_s; }

  friend auto operator<=>(const Window&, const Window&) = default;
};

// Floors towards minus infinity, so times before 1970 stay aligned too.
constexpr Window window_at(int64_t unix_s, uint32_t width_s) {
  const int64_t width = width_s;
  int64_t index = unix_s / width;
  if (unix_s % width < 0) --index;
  return {index * width, width_s};
}

}  // namespace weir
