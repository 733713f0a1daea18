#include "common/worker.h"

#include <future>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace weir {
namespace {

TEST(Worker, RunsJobsInTheOrderTheyWerePosted) {
  Worker worker("test");
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(worker.post([&order, i] { order.push_back(i); }));
  }
  ASSERT_TRUE(worker.post([&] { done.set_value(); }));
  done.get_future().wait();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(Worker, RefusesMoreThanItsCapacity) {
  std::promise<void> started;
  std::promise<void> release;
  {
    Worker worker("test", 2);
    ASSERT_TRUE(worker.post([&] {
      started.set_value();
      release.get_future().wait();
    }));
    started.get_future().wait();
    EXPECT_TRUE(worker.post([] {}));
    EXPECT_TRUE(worker.post([] {}));
    EXPECT_FALSE(worker.post([] {}));
    release.set_value();
  }
}

TEST(Worker, DestructorWaitsForTheRunningJobAndFreesTheRest) {
  std::promise<void> started;
  bool finished = false;
  const auto token = std::make_shared<int>(0);
  {
    Worker worker("a-name-longer-than-fifteen");
    ASSERT_TRUE(worker.post([&] {
      started.set_value();
      finished = true;
    }));
    started.get_future().wait();
    ASSERT_TRUE(worker.post([token] {}));
  }
  EXPECT_TRUE(finished);
  EXPECT_EQ(token.use_count(), 1);
}

}  // namespace
}  // namespace weir
