#pragma once
// How a command ends with an error: one clear sentence on standard error and the exit code.

#include "common/result.h"

namespace weir::cli {

inline constexpr int kAnswered = 0;
inline constexpr int kNegative = 1;
inline constexpr int kUsage = 2;
inline constexpr int kUnreachable = 3;

// Prints "weir: SENTENCE"; kUnavailable -> 3, the rest -> 1.
int fail(const Error& error);
int usage(const Error& error);  // the same, exit code 2

// Writes all of `text` to standard output; a closed pipe is not an error worth a message.
void print(const std::string& text);

}  // namespace weir::cli
