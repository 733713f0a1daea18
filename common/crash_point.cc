#include "common/crash_point.h"

#include <unistd.h>

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>

namespace weir {
namespace {

struct Wanted {
  std::string name;
  long passages = 1;
};

Wanted wanted_by_environment() {
  const char* text = std::getenv("WEIR_CRASH");
  if (text == nullptr) return {};
  const std::string_view all = text;
  const size_t colon = all.find(':');
  Wanted out{std::string(all.substr(0, colon)), 1};
  if (colon != std::string_view::npos) {
    std::from_chars(text + colon + 1, text + all.size(), out.passages);
  }
  return out;
}

}  // namespace

void crash_point(const char* name) {
  static const Wanted wanted = wanted_by_environment();
  if (wanted.name.empty() || wanted.name != name) return;
  static std::atomic<long> passed{0};
  if (++passed != wanted.passages) return;
  // Last words, so that nobody takes another death for this one.
  const std::string words = "crash point " + wanted.name + "\n";
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, words.data(), words.size());
  std::raise(SIGKILL);
}

}  // namespace weir
