#include "daemon/listen_fds.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

TEST(ListenFds, WhatIsMeantForAnotherProcessIsNotTaken) {
  set("LISTEN_PID", "1");
  set("LISTEN_FDS", "1");
  EXPECT_TRUE(take_listen_fds().empty());
  EXPECT_EQ(std::getenv("LISTEN_FDS"), nullptr);
}

TEST(ListenFds, NonsenseIsNotTaken) {
  for (const char* count : {"", "0", "-1", "x", "1000000"}) {
    set("LISTEN_PID", std::to_string(::getpid()));
    set("LISTEN_FDS", count);
    EXPECT_TRUE(take_listen_fds().empty()) << count;
  }
}

// In a process of its own: descriptor 3 is whoever's it is here.
TEST(ListenFdsDeathTest, DescriptorThreeIsTakenAndClosedOnExec) {
  EXPECT_EXIT(
      {
        const Fd socket(::socket(AF_UNIX, SOCK_DGRAM, 0));
        ::dup2(socket.get(), 3);
        set("LISTEN_PID", std::to_string(::getpid()));
        set("LISTEN_FDS", "1");
        const auto fds = take_listen_fds();
        const bool good = fds.size() == 1 && fds[0].get() == 3 &&
                          (::fcntl(3, F_GETFD) & FD_CLOEXEC) != 0 &&
                          std::getenv("LISTEN_PID") == nullptr;
        std::exit(good ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace weir::daemon
