#include "common/loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <zmq.h>

#include "common/fd.h"

namespace weir {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

std::unique_ptr<Loop> make_loop() {
  auto loop = Loop::create();
  WEIR_CHECK(loop.ok());
  return *std::move(loop);
}

Fd ready_fd() { return Fd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

TEST(Loop, ReadableDescriptorIsServedOnceATurnUntilItIsRead) {
  const auto loop = make_loop();
  const Fd fd = ready_fd();
  int served = 0;
  loop->on_readable(fd.get(), [&] { ++served; });
  loop->turn(hours(1));
  loop->turn(hours(1));
  EXPECT_EQ(served, 2);
  uint64_t value = 0;
  ASSERT_EQ(::read(fd.get(), &value, sizeof value), ssize_t{sizeof value});
  loop->turn(milliseconds(0));
  EXPECT_EQ(served, 2);
}

TEST(Loop, ZeromqSocketIsServedWhileItHasInput) {
  const auto loop = make_loop();
  void* context = zmq_ctx_new();
  void* in = zmq_socket(context, ZMQ_PAIR);
  void* out = zmq_socket(context, ZMQ_PAIR);
  ASSERT_EQ(zmq_bind(in, "inproc://loop-test"), 0);
  ASSERT_EQ(zmq_connect(out, "inproc://loop-test"), 0);
  ASSERT_EQ(zmq_send(out, "a", 1, 0), 1);
  ASSERT_EQ(zmq_send(out, "b", 1, 0), 1);
  std::string got;
  const auto id = loop->on_socket(in, [&] {
    char c = 0;
    if (zmq_recv(in, &c, 1, ZMQ_DONTWAIT) == 1) got += c;
  });
  while (got.size() < 2) loop->turn(hours(1));
  EXPECT_EQ(got, "ab");
  loop->remove(id);
  zmq_close(in);
  zmq_close(out);
  loop->turn(milliseconds(0));
  zmq_ctx_term(context);
}

TEST(Loop, AfterFiresOnceAndEveryFiresUntilRemoved) {
  const auto loop = make_loop();
  int once = 0;
  int often = 0;
  loop->after(milliseconds(0), [&] { ++once; });
  Loop::EntryId id = 0;
  id = loop->every(milliseconds(1), [&] {
    if (++often == 3) loop->remove(id);
  });
  while (often < 3) loop->turn(hours(1));
  loop->turn(milliseconds(5));
  EXPECT_EQ(once, 1);
  EXPECT_EQ(often, 3);
}

TEST(Loop, CallbackMayRemoveItselfAndOthersThatAreReady) {
  const auto loop = make_loop();
  const Fd a = ready_fd();
  const Fd b = ready_fd();
  std::vector<Loop::EntryId> ids;
  std::vector<int> served;
  ids.push_back(loop->on_readable(a.get(), [&] {
    served.push_back(0);
    loop->remove(ids[0]);
    loop->remove(ids[1]);
  }));
  ids.push_back(loop->on_readable(b.get(), [&] { served.push_back(1); }));
  loop->turn(hours(1));
  loop->turn(milliseconds(0));
  EXPECT_EQ(served, std::vector<int>{0});
}

TEST(Loop, EntryAddedInACallbackIsServedFromTheNextTurn) {
  const auto loop = make_loop();
  const Fd a = ready_fd();
  const Fd b = ready_fd();
  int second = 0;
  bool added = false;
  loop->on_readable(a.get(), [&] {
    if (added) return;
    added = true;
    loop->on_readable(b.get(), [&] { ++second; });
  });
  loop->turn(hours(1));
  EXPECT_EQ(second, 0);
  loop->turn(hours(1));
  EXPECT_EQ(second, 1);
}

TEST(Loop, StopFromAnotherThreadEndsRun) {
  const auto loop = make_loop();
  std::thread stopper([&] { loop->stop(); });
  loop->run();
  stopper.join();
}

TEST(Loop, SignalArrivesAsACallback) {
  const auto loop = make_loop();
  int signals = 0;
  ASSERT_TRUE(loop->on_signal(SIGUSR1, [&] { ++signals; }));
  ASSERT_EQ(::kill(::getpid(), SIGUSR1), 0);
  loop->turn(hours(1));
  EXPECT_EQ(signals, 1);
}

TEST(LoopDeathTest, TurningALoopInsideItsOwnCallbackAborts) {
  const auto loop = make_loop();
  loop->after(milliseconds(0), [&] { loop->turn(milliseconds(0)); });
  EXPECT_DEATH(loop->turn(hours(1)), "broken invariant");
}

}  // namespace
}  // namespace weir
