#include "daemon/profiler/cpu_clock.h"

#include <vector>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

TEST(ParseCpuList, ReadsSingleCpusAndRanges) {
  EXPECT_EQ(*parse_cpu_list("0\n"), std::vector<int>{0});
  EXPECT_EQ(*parse_cpu_list("0-3,8,10-11\n"), (std::vector<int>{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(*parse_cpu_list("1,0-2"), (std::vector<int>{0, 1, 2}));
}

TEST(ParseCpuList, RefusesWhatIsNoList) {
  for (const char* text : {"", "\n", "x", "0-", "3-1", "0,", ",0", "-1", "0-4096", "0 1", "0--1",
                           "99999999999999999999"}) {
    EXPECT_FALSE(parse_cpu_list(text).ok()) << text;
  }
}

TEST(SamplePeriod, IsFiveTimesAWholePeriodOfTheBoostedRate) {
  EXPECT_EQ(sample_period_ns(19), 52'631'580U);
  EXPECT_EQ(sample_period_ns(49), 5U * 4'081'633U);
  for (uint32_t hz = 1; hz <= 999; ++hz) {
    EXPECT_EQ(sample_period_ns(hz) % 5, 0U);
    EXPECT_GE(sample_period_ns(hz) * hz, 1'000'000'000U);
    EXPECT_LT((sample_period_ns(hz) - 5) * hz, 1'000'000'000U);
  }
}

TEST(RingBytes, IsAPowerOfTwoWithinItsBounds) {
  EXPECT_EQ(ring_bytes(2, 19), 256U << 10);
  EXPECT_EQ(ring_bytes(64, 99), 8U << 20);
  EXPECT_EQ(ring_bytes(4096, 999), 16U << 20);
}

}  // namespace
}  // namespace weir::daemon
