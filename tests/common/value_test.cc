#include "common/value.h"

#include <gtest/gtest.h>

namespace weir {
namespace {

Metric metric_of(Kind kind) {
  return {.name = "m", .kind = kind, .unit = "seconds", .quantum = -9};
}

Gauge gauge_of(int64_t value, int64_t time_ns, uint64_t source) {
  Gauge gauge;
  EXPECT_TRUE(gauge.add(value, time_ns, source).ok());
  return gauge;
}

std::vector<Value> one_of_each() {
  Distribution distribution(-9);
  EXPECT_TRUE(distribution.add(5, 3).ok());
  Profile profile;
  const Frame frame{FrameKind::kUser, "app", "main"};
  profile.add(std::span(&frame, 1), 7, 4);
  return {Counter{11}, gauge_of(-3, 1, 1), std::move(distribution), std::move(profile)};
}

TEST(Value, EmptyIsTheIdentityOfItsKind) {
  for (const Value& value : one_of_each()) {
    Value empty = empty_value(metric_of(kind_of(value)));
    EXPECT_EQ(kind_of(empty), kind_of(value));
    EXPECT_EQ(mass(empty), 0U);
    Value left = value;
    ASSERT_TRUE(merge(left, empty).ok());
    EXPECT_TRUE(left == value);
    ASSERT_TRUE(merge(empty, value).ok());
    EXPECT_TRUE(empty == value);
  }
}

TEST(Value, MergeAddsMass) {
  const std::vector<uint64_t> expected = {11, 1, 3, 4};
  const auto values = one_of_each();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(mass(values[i]), expected[i]);
    Value twice = values[i];
    ASSERT_TRUE(merge(twice, values[i]).ok());
    EXPECT_EQ(mass(twice), 2 * expected[i]);
  }
}

TEST(Value, OtherKindsDoNotMergeAndNothingChanges) {
  const auto values = one_of_each();
  for (size_t i = 0; i < values.size(); ++i) {
    Value into = values[i];
    EXPECT_EQ(merge(into, values[(i + 1) % values.size()]).error().code, Errc::kInvalid);
    EXPECT_TRUE(into == values[i]);
  }
}

TEST(Value, CounterPastTheLimitIsRefusedNotSaturated) {
  Value into = Counter{kMaxCount};
  EXPECT_EQ(merge(into, Counter{1}).error().code, Errc::kLimit);
  EXPECT_EQ(std::get<Counter>(into).delta, kMaxCount);
}

TEST(Value, GaugeMergesInAnyOrder) {
  const Value a = gauge_of(10, 100, 1);
  const Value b = gauge_of(-20, 300, 1);
  const Value c = gauge_of(5, 300, 2);  // same time: the greater source wins
  const auto merged = [](Value x, const Value& y) {
    EXPECT_TRUE(merge(x, y).ok());
    return x;
  };
  const Value all = merged(merged(a, b), c);
  EXPECT_TRUE(all == merged(merged(c, b), a));
  EXPECT_TRUE(all == merged(a, merged(c, b)));
  const auto& gauge = std::get<Gauge>(all);
  EXPECT_EQ(gauge.n, 3U);
  EXPECT_TRUE(gauge.sum == -5);
  EXPECT_EQ(gauge.min, -20);
  EXPECT_EQ(gauge.max, 10);
  EXPECT_EQ(gauge.last.value, 5);
}

TEST(Value, GaugeSumsTheExtremesExactly) {
  Value low = gauge_of(INT64_MIN, 1, 1);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(merge(low, gauge_of(INT64_MIN, 2, 1)).ok());
  EXPECT_TRUE(std::get<Gauge>(low).sum == 4 * static_cast<Int128>(INT64_MIN));
}

}  // namespace
}  // namespace weir
