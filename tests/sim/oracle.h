#pragma once
// Oracle: knows every batch that was pushed, and judges what the last tier made of them.
//
// Owner: the World; one thread. Promise: for every source and window what is merged equals, to the
// last event, what the batches amount to that the last tier's accounts name, less what is lost
// there and said to be; every batch whose disk was not lost is named exactly once; nothing else is.
// A violation is one sentence; the first kMaxViolations are kept.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/batch.h"
#include "common/outbox.h"
#include "common/sqlite.h"

namespace weir::sim {

class Oracle {
 public:
  static constexpr size_t kMaxViolations = 20;

  using Key = std::pair<SourceId, uint64_t>;  // source, epoch

  struct Push {
    int64_t window_s = 0;
    uint64_t mass = 0;        // 0: not pushed (a gap)
    bool may_vanish = false;  // it was in the outbox of a disk that was lost
  };

  void name(const SourceId& source, const std::string& edge) { names_[source] = edge; }

  [[nodiscard]] bool is_edge(const SourceId& source) const { return names_.contains(source); }

  // The batch is durable in the edge's outbox.
  void pushed(const SourceId& source, uint64_t epoch, uint64_t seq, int64_t window_s,
              uint64_t mass);
  [[nodiscard]] bool knows(const SourceId& source, uint64_t epoch, uint64_t seq) const;
  // Its disk is lost, or an older copy takes its place: nothing brings it any more, unless it is
  // under way already.
  void may_vanish(const SourceId& source, uint64_t epoch, uint64_t seq);

  // What the last tier's accounts say: it has lo..hi of (source, epoch), of that mass, some of it
  // known as lost.
  void named(const SourceId& source, uint64_t epoch, uint64_t lo, uint64_t hi, uint64_t merged,
             uint64_t lost);
  // What its windows say, summed up: events of a source that are there, or that it knows as lost.
  void merged(const std::string& edge, int64_t window_s, uint64_t mass);
  void lost(const std::string& edge, int64_t window_s, uint64_t mass);

  // After all named(), merged() and lost(). Exact per window of `width_s`, or, when clocks were
  // stepped, per source only.
  enum class Grain : uint8_t { kWindows, kSources };
  void judge(Grain grain, uint32_t width_s);

  void violation(std::string sentence);

  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }

  [[nodiscard]] uint64_t violation_count() const { return count_; }

  [[nodiscard]] uint64_t batches() const { return batches_; }

  [[nodiscard]] uint64_t mass() const { return mass_; }

  [[nodiscard]] uint64_t lost_mass() const { return lost_mass_; }

  [[nodiscard]] uint64_t vanished() const { return vanished_; }

 private:
  using Totals = std::map<std::pair<std::string, int64_t>, uint64_t>;  // edge, window: mass

  Push* find(const SourceId& source, uint64_t epoch, uint64_t seq);
  void compare(const char* what, const Totals& expected, const Totals& found);
  static Totals by_source(const Totals& totals);
  [[nodiscard]] std::string name_of(const SourceId& source) const;

  std::map<SourceId, std::string> names_;
  std::map<Key, std::vector<Push>> pushes_;  // by seq - 1

  struct Range {
    uint64_t lo = 0;
    uint64_t hi = 0;
  };

  std::map<Key, std::vector<Range>> named_;
  Totals by_accounts_[2];  // merged, lost; window 0
  Totals merged_;
  Totals lost_;
  std::vector<std::string> violations_;
  uint64_t count_ = 0;
  uint64_t batches_ = 0;
  uint64_t mass_ = 0;
  uint64_t lost_mass_ = 0;
  uint64_t vanished_ = 0;
};

}  // namespace weir::sim
