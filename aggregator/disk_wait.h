#pragma once
// What an aggregator does while its disk cannot be used: it answers queries from what can be read,
// accepts nothing, says so, and looks again every few seconds.
//
// Owner and thread: main()'s loop thread. Promise: returns when the database can be opened for
// writing (true), or when the loop was stopped (false). An error: another process holds data_dir.
// A damaged file is no reason to wait: Store::open puts it aside.

#include "aggregator/config.h"
#include "common/clock.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir::aggregator {

Result<bool> wait_for_disk(const Config& config, const Clock& clock, Loop& loop);

}  // namespace weir::aggregator
