#pragma once
// Intake: StatsD packets into the recorder. What the sockets feed, and all there is to test of
// StatsD without one.
//
// Owner: StatsdSource; loop thread only. Promise: every value of every line is recorded or counted
// under one Reject; integers are exact; a sampled counter's total is within one event for each
// spelling of a label set (statsd::Scaler). Cost: a line whose label set was met before and has a
// series is one hash lookup. Bounded: remembered label sets by cache_bytes (then those not used
// lately are forgotten, which costs speed and the fractions of sampled counts, never a whole
// event); gauges by the recorder's series.
//
// c -> counter · s -> distinct (a sampled member counts once, its events by 1 / rate) · g -> gauge
// in millionths · ms -> distribution NAME_seconds in nanoseconds · h, d -> distribution in
// millionths. A repeated tag name keeps its first value. A change of a gauge ("+5") counts from 0
// when its series is new.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/byte_table.h"
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
  static constexpr size_t kMaxTags = kMaxSampleLabels + 1;  // more are not read: it is overflow

  explicit Intake(Recorder& recorder, size_t cache_bytes = size_t{8} << 20);

  // `now`: when it was received; the recorder's present until it is told another.
  void packet(std::string_view bytes, UnixTime now);

  void reject(Reject reject) { ++counts_.rejects[static_cast<size_t>(reject)]; }

  [[nodiscard]] const IntakeCounts& counts() const { return counts_; }

  [[nodiscard]] size_t remembered() const { return table_.size(); }

  [[nodiscard]] size_t memory_bytes() const;

 private:
  // A label set as it is spelled, with its type and rate.
  struct Entry {
    ByteTable::Key* key = nullptr;  // null: free
    SeriesHandle series{};          // ask the recorder again once it is not alive
    Scaler scaler{kNano};
    bool used = false;  // since the hand came by
  };

  struct GaugeLast {
    uint32_t generation = 0;
    int64_t quanta = 0;
  };

  // A line on its way: parsed, and what names its entry being fetched.
  struct Pending {
    Line line;
    std::string key;  // reused
    uint32_t tag = 0;
  };

  static constexpr size_t kAhead = 8;  // lines of a packet that are looked up together

  static void make_key(const Line& line, std::string& key);
  void take(Pending& pending, UnixTime now);
  Entry& entry_of(const Pending& pending);
  uint32_t free_entry();
  std::optional<Reject> resolve(const Line& line, Entry& entry);
  std::optional<Reject> record(const Line& line, Entry& entry, std::string_view text,
                               UnixTime when);
  std::optional<Reject> record_gauge(const SeriesHandle& series, const Number& number,
                                     UnixTime when);

  Recorder& recorder_;
  size_t cache_limit_;
  std::array<Pending, kAhead> pending_;
  ByteTable table_;  // to positions in entries_
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  size_t hand_ = 0;                // of the clock that decides who is forgotten
  std::vector<GaugeLast> gauges_;  // by series: last values, for "+5" and "-5"
  IntakeCounts counts_;
};

}  // namespace weir::daemon::statsd
