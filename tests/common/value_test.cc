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
  Distinct distinct;
  EXPECT_TRUE(distinct.add(Distinct::hash_of("ada"), 6).ok());
  Topk topk;
  EXPECT_TRUE(topk.add("ada", 5).ok());
  return {Counter{11},        gauge_of(-3, 1, 1),  std::move(distribution),
          std::move(profile), std::move(distinct), std::move(topk)};
}

TEST(Value, EmptyIsTheIdentityOfItsKind) {
  for (const Value& value : one_of_each()) {
    Value empty = empty_value(metric_of(kind_of(value)));
    EXPECT_EQ(kind_of(empty), kind_of(value));
    EXPECT_EQ(mass(empty), 0U);
    EXPECT_TRUE(holds_something(value));
    EXPECT_EQ(holds_something(empty), kind_of(value) == Kind::kCounter);
    Value left = value;
    ASSERT_TRUE(merge(left, empty).ok());
    EXPECT_TRUE(left == value);
    ASSERT_TRUE(merge(empty, value).ok());
    EXPECT_TRUE(empty == value);
  }
}

TEST(Value, MergeAddsMass) {
  const std::vector<uint64_t> expected = {11, 1, 3, 4, 6, 5};
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

TEST(Value, EventsOfSetsPastTheLimitAreRefusedAndNothingChanges) {
  for (const Kind kind : {Kind::kDistinct, Kind::kTopk}) {
    Value most = empty_value(metric_of(kind));
    Value one = most;
    if (auto* distinct = std::get_if<Distinct>(&most)) {
      ASSERT_TRUE(distinct->add(1, kMaxCount).ok());
      ASSERT_TRUE(std::get<Distinct>(one).add(2).ok());
      EXPECT_EQ(distinct->add(3).error().code, Errc::kLimit);
    } else {
      ASSERT_TRUE(std::get<Topk>(most).add("a", kMaxCount).ok());
      ASSERT_TRUE(std::get<Topk>(one).add("b").ok());
      EXPECT_EQ(std::get<Topk>(most).add("c").error().code, Errc::kLimit);
    }
    const Value before = most;
    EXPECT_EQ(merge(most, one).error().code, Errc::kLimit);
    EXPECT_TRUE(most == before);
    EXPECT_EQ(mass(most), kMaxCount);
  }
}

TEST(Value, PruneChangesOnlyTopksBeyondTheirCapacity) {
  for (const Value& value : one_of_each()) {
    Value pruned = value;
    prune(pruned);
    EXPECT_TRUE(pruned == value);
  }
  Topk topk;
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(topk.add("k" + std::to_string(i)).ok());
  Value value = topk;
  prune(value);
  EXPECT_EQ(mass(value), 2000U);
  EXPECT_EQ(std::get<Topk>(value).err(), 1U);
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
