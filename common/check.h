#pragma once
// WEIR_CHECK(condition): our own broken invariants abort, in release too, with file, line and
// text on standard error. Never for the world's faults: those are values (common/result.h).

#include <cstdio>
#include <cstdlib>

namespace weir {

[[noreturn]] inline void check_failed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, what);
  std::abort();
}

}  // namespace weir

#define WEIR_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::weir::check_failed(__FILE__, __LINE__, #condition))
