#pragma once

// Crash points: named places where a test makes the process die as by kill -9. WEIR_CRASH=NAME
// kills at the first passage, WEIR_CRASH=NAME:N at the Nth. Its last words on standard error are
// "crash point NAME".
//
// Any thread. Promise: without WEIR_CRASH nothing ever happens. Cost: one load and a branch.

namespace weir {

void crash_point(const char* name);

}  // namespace weir
