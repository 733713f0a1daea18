#include "cli/report.h"

#include <cstdio>

namespace weir::cli {

int fail(const Error& error) {
  std::fprintf(stderr, "weir: %s\n", error.message.c_str());
  return error.code == Errc::kUnavailable ? kUnreachable : kNegative;
}

int usage(const Error& error) {
  std::fprintf(stderr, "weir: %s\n", error.message.c_str());
  return kUsage;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace weir::cli
