#pragma once
// A start never fails because of what is in a database file: one that is no database, malformed or
// cannot be read is put aside and a new one begins. To the rest of the system that is a lost disk.
//
// Thread: any, before the database is used. Promise: nothing is deleted but the oldest of files put
// aside (the newest 3 stay, PATH.bad-N with its -wal and -shm), and only a file that failed to open
// or to be read is; a read-only, forbidden or full disk leaves it alone. Cost: an open; after
// mark_suspect(), one reading of the whole file.

#include <functional>
#include <string>

#include "common/result.h"
#include "common/sqlite.h"

namespace weir {

// `open` opens the database and reads all that a start reads; its kIo means a damaged file, and
// then it is called once more for the new one. After an error it holds nothing open. Says in the
// log what was put aside. Errors: those of `open`; kUnavailable also: the file cannot be renamed.
Status open_or_replace(const std::string& path, const DatabaseOptions& options,
                       const std::function<Status()>& open);

// After kIo while running: the next open_or_replace() checks every page before it trusts the file.
// Not being able to say so is no error: the disk may be gone.
void mark_suspect(const std::string& path);

}  // namespace weir
