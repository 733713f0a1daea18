#pragma once
// WindowMarks: which windows this host may call complete, each once.
//
// Owner: the edge; loop thread. Promise: due() gives a window when it ended while the process was
// there (by the wall clock), and never again: what was given is durable with the flush that carries
// the marks, and remembered across restarts and clock steps for the last kRemembered windows. A
// window whose end the process did not live through (it was down, the machine slept, the clock
// jumped over it) is never given: nobody can say what happened in it. Cost: nothing until a window
// ends, then one row; 80 KB.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/clock.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::daemon {

class WindowMarks {
 public:
  static constexpr size_t kRemembered = 10'000;  // a week of minutes

  static Result<WindowMarks> open(Database& db, uint32_t width_s);

  // From here on windows are lived through: the first one is that of `now`.
  void begin(UnixTime now, MonoTime mono);
  // Windows that ended at or before ended_by_s. They are saved with the next save().
  std::vector<Window> due(int64_t ended_by_s, UnixTime now, MonoTime mono);
  // Inside the transaction that makes the marks durable; saved() after its commit.
  Status save();
  void saved();

 private:
  WindowMarks(Database& db, uint32_t width_s) : db_(&db), width_s_(width_s) {}

  Database* db_;
  uint32_t width_s_;
  std::vector<int64_t> given_;    // window starts, ascending
  std::vector<int64_t> unsaved_;  // of these, not durable yet
  int64_t next_s_ = 0;            // start of the first window not given
  UnixTime seen_now_{};
  MonoTime seen_mono_{};
};

}  // namespace weir::daemon
