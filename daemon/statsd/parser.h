#pragma once
// StatsD and DogStatsD lines, pure and zero-copy: every view points into the packet.
//
//   name:value[:value...]|type[|@rate][|#tag:value,flag...][|T unix_seconds][|c:container]
//   type: c counter, g gauge (a sign means a change), ms timer, h histogram, d distribution, s set
//
// Thread: free functions. Promise: any bytes give a Line or one Reject; numbers are exact to 10^-9
// of their unit (integers wholly); NaN, infinity and hexadecimal are no numbers. Ignored fields:
// c: (container), e: (external data), card: (cardinality). Cost: one pass, no allocation.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weir::daemon::statsd {

enum class Type : uint8_t { kCounter, kGauge, kTimer, kHistogram, kDistribution, kSet };

// Why a line or a value was refused; each has a counter.
enum class Reject : uint8_t {
  kNoValue,       // no "name:value|type"
  kName,          // empty, or longer than kMaxName
  kType,          // missing or unknown
  kNumber,        // not a decimal number
  kRange,         // beyond what its kind can hold
  kNegative,      // a counter or timer below zero
  kRate,          // not in (0, 1]
  kTimestamp,     // not Unix seconds, or beyond the year 2255
  kField,         // a field nobody knows, or one given twice
  kTooLong,       // a line beyond kMaxLine, or a packet beyond the buffer
  kLabel,         // labels no tier would take: not UTF-8, too many, too long
  kKindClash,     // the name exists with another kind or unit
  kEvent,         // "_e{...}": unsupported
  kServiceCheck,  // "_sc|...": unsupported
};
inline constexpr size_t kRejects = 14;
[[nodiscard]] std::string_view reject_name(Reject reject);

inline constexpr size_t kMaxLine = 8192;
inline constexpr size_t kMaxName = 200;
inline constexpr uint32_t kNano = 1'000'000'000;

struct Line {
  std::string_view name;
  std::string_view values;  // "v1:v2"; for take_value(). A set's value is one, whatever it holds
  std::string_view tags;    // without '#'
  Type type = Type::kCounter;
  uint32_t rate_nano = kNano;  // 10^-9 of the sample rate
  std::optional<int64_t> unix_s;
};

// One line without its newline.
[[nodiscard]] std::optional<Reject> parse_line(std::string_view text, Line& out);

// Takes the next line off a packet, without its line end; skips empty ones. False at the end.
[[nodiscard]] bool next_line(std::string_view& packet, std::string_view& line);

// Takes the first value off "v1:v2"; true when another follows. An empty text is one (bad) value.
bool take_value(std::string_view& values, std::string_view& value);

// whole + nano * 10^-9, with a sign.
struct Number {
  enum class Sign : uint8_t { kNone, kPlus, kMinus };
  Sign sign = Sign::kNone;
  uint64_t whole = 0;
  uint32_t nano = 0;

  [[nodiscard]] bool is_zero() const { return whole == 0 && nano == 0; }
};

[[nodiscard]] std::optional<Reject> parse_number(std::string_view text, Number& out);
// The magnitude in millionths, rounded half up once; empty beyond int64. Timers arrive in
// milliseconds, so this gives nanoseconds; gauges and histograms keep 10^-6.
[[nodiscard]] std::optional<int64_t> millionths(const Number& number);

// Exact division of counts by sample rates: what an event stands for is value / rate, a fraction;
// whole events are counted at once and the rest waits, so a sum is never off by one event or more.
class Scaler {
 public:
  explicit Scaler(uint32_t rate_nano) : rate_nano_(rate_nano) {}

  // Whole events that `number` adds; empty when that is beyond uint64.
  [[nodiscard]] std::optional<uint64_t> add(const Number& number);

 private:
  uint32_t rate_nano_;
  uint64_t rest_ = 0;  // in units of 1 / rate_nano_ events
};

// Tags into labels, for the first meeting of a label set. Calls are cheap but allocate.
// A metric name: characters outside [a-zA-Z0-9_:] become '_', and a leading digit gets one before;
// names starting with "__" or "weir_" belong to Weir and get "exported_" before.
[[nodiscard]] std::string metric_name(std::string_view name);
// A label name: as a metric name, without ':'; host, region and names starting with "__" belong to
// Weir and get "exported_" before.
[[nodiscard]] std::string label_name(std::string_view name);
// Takes the next tag off "a:b,c". A flag ("c") has the value "true". False at the end.
[[nodiscard]] bool next_tag(std::string_view& tags, std::string_view& name,
                            std::string_view& value);

}  // namespace weir::daemon::statsd
