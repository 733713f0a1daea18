#pragma once
// Intake: StatsD packets into the recorder. What the sockets feed, and all there is to test of
// StatsD without one.
//
// Owner: StatsdSource; loop thread only. Promise: every value of every line is recorded or counted
// under one Reject; integers are exact; a sampled counter's total is within one event for each
// spelling of a label set (statsd::Scaler). Cost: a line whose label set was met before is one hash
// lookup here and one in the recorder. Bounded: remembered label sets by cache_bytes (then they are
// forgotten, which costs speed and the fractions of sampled counts, never a whole event); gauges by
// the recorder's series.
//
// c, s -> counter (a set counts its events) · g -> gauge in millionths · ms -> distribution
// NAME_seconds in nanoseconds · h, d -> distribution in millionths. A repeated tag name keeps its
// first value.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/hash.h"
#include "daemon/recorder.h"
#include "daemon/statsd/parser.h"

namespace weir::daemon::statsd {

struct IntakeCounts {
  uint64_t packets = 0;
  uint64_t values = 0;  // recorded; the recorder itself may still refuse one as too late
  std::array<uint64_t, kRejects> rejects{};

  [[nodiscard]] uint64_t rejected(Reject reject) const {
    return rejects[static_cast<size_t>(reject)];
  }
};

class Intake {
 public:
  static constexpr size_t kMaxTags = 32;
  static constexpr size_t kMaxTagText = 512;

  explicit Intake(Recorder& recorder, size_t cache_bytes = size_t{8} << 20);

  // `now`: when it was received; the recorder's present until it is told another.
  void packet(std::string_view bytes, UnixTime now);

  void reject(Reject reject) { ++counts_.rejects[static_cast<size_t>(reject)]; }

  [[nodiscard]] const IntakeCounts& counts() const { return counts_; }

  [[nodiscard]] size_t remembered() const { return cache_.size(); }

 private:
  struct Entry {
    SeriesId series = 0;
    std::optional<Reject> refused;  // a label set that cannot be a series stays refused
    Scaler scaler{kNano};
  };

  void line(std::string_view text, UnixTime now);
  Entry& entry_of(const Line& line);
  Entry resolve(const Line& line);
  std::optional<Reject> record(const Line& line, Entry& entry, std::string_view text,
                               UnixTime when);
  std::optional<Reject> record_gauge(SeriesId series, const Number& number, UnixTime when);

  Recorder& recorder_;
  size_t cache_limit_;
  size_t cache_bytes_ = 0;
  std::string key_;  // reused
  std::unordered_map<std::string, Entry, TextHash, std::equal_to<>> cache_;
  std::unordered_map<SeriesId, int64_t> gauges_;  // last values, for "+5" and "-5"
  IntakeCounts counts_;
};

}  // namespace weir::daemon::statsd
