#include "daemon/listen_fds.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string_view>

namespace weir::daemon {
namespace {

constexpr int kFirst = 3;
constexpr int kMost = 16;

// 0 when unset or no number.
int number_from(const char* variable) {
  const char* text = std::getenv(variable);  // NOLINT: before any thread
  if (text == nullptr) return 0;
  const std::string_view view(text);
  int value = 0;
  const auto [end, ec] = std::from_chars(view.data(), view.data() + view.size(), value);
  return ec == std::errc{} && end == view.data() + view.size() ? value : 0;
}

}  // namespace

std::vector<Fd> take_listen_fds() {
  std::vector<Fd> fds;
  const int count = number_from("LISTEN_FDS");
  if (number_from("LISTEN_PID") == ::getpid() && count > 0 && count <= kMost) {
    for (int fd = kFirst; fd < kFirst + count; ++fd) {
      if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) fds.emplace_back(fd);
    }
  }
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
    ::unsetenv(name);  // NOLINT
  return fds;
}

}  // namespace weir::daemon
