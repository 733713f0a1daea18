#pragma once
// A process's own folder: made if need be, and held by one process at a time.
//
// Thread: any. Promise: the lock is held as long as the Fd lives and is gone when the process is,
// however it ends. kUnavailable: another process has it.

#include <string>

#include "common/fd.h"
#include "common/result.h"

namespace weir {

Result<Fd> lock_data_dir(const std::string& dir);

}  // namespace weir
