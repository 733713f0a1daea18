#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "common/block_codec.h"
#include "common/sketch/distribution.h"

namespace weir {
namespace {

const Metric kMetric{.name = "m", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -9};

Exemplar exemplar_of(uint64_t trace, uint64_t value, int64_t time_ns = 0) {
  Exemplar out{.time_ns = time_ns, .value = value};
  std::memcpy(out.trace_id.data() + 4, &trace, sizeof trace);
  return out;
}

struct Event {
  int64_t value = 0;
  uint64_t trace = 0;  // 0: not traced
};

std::vector<Event> events(uint64_t seed, size_t n) {
  std::mt19937_64 random(seed);
  std::vector<Event> out(n);
  for (auto& event : out) {
    event.value = static_cast<int64_t>(1 + (random() >> (30 + random() % 20)));
    if (random() % 3 == 0) event.value = -event.value;
    if (random() % 2 == 0) event.trace = 1 + random() % 1000;
  }
  return out;
}

void put(Distribution& into, const Event& event) {
  ASSERT_TRUE(into.add_signed(event.value).ok());
  if (event.trace == 0) return;
  if (event.value > 0) {
    ASSERT_TRUE(
        into.add_exemplar(exemplar_of(event.trace, static_cast<uint64_t>(event.value))).ok());
  } else {
    const auto magnitude = static_cast<uint64_t>(-event.value);
    ASSERT_TRUE(into.add_negative_exemplar(exemplar_of(event.trace, magnitude)).ok());
  }
}

Distribution of(const std::vector<Event>& events, uint8_t scale = kDefaultScale) {
  Distribution out(kMetric.quantum, scale);
  for (const Event& event : events) put(out, event);
  return out;
}

Bytes bytes_of(const Distribution& distribution) {
  const Value value = distribution;
  const Value* row = &value;
  return encode_block(kMetric, {&row, 1});
}

Distribution sent(const Distribution& distribution) {
  Distribution out(kMetric.quantum);
  EXPECT_TRUE(decode_block(kMetric, bytes_of(distribution), [&](size_t, Value&& value) {
                out = std::get<Distribution>(std::move(value));
              }).ok());
  return out;
}

TEST(Exemplars, EachOctaveOfEachSignKeepsOne) {
  const auto sketch = of(events(1, 5'000));
  for (const auto& side : {sketch.exemplars(), sketch.negative_exemplars()}) {
    ASSERT_GT(side.size(), 10U);
    for (size_t i = 1; i < side.size(); ++i) {
      EXPECT_LT(sketch.octave(side[i - 1].value), sketch.octave(side[i].value));
    }
  }
  EXPECT_TRUE(sent(sketch) == sketch);
}

TEST(Exemplars, NeitherOrderNorGroupingNorWiresMatter) {
  const auto all = events(2, 600);
  const Bytes expected = bytes_of(of(all));
  std::mt19937_64 random(3);
  for (int round = 0; round < 100; ++round) {
    std::vector<Distribution> parts(1 + random() % 20, Distribution(kMetric.quantum));
    auto shuffled = all;
    std::ranges::shuffle(shuffled, random);
    for (const Event& event : shuffled) put(parts[random() % parts.size()], event);
    while (parts.size() > 1) {
      std::swap(parts[random() % parts.size()], parts.back());
      Distribution taken = std::move(parts.back());
      parts.pop_back();
      if (random() % 2 == 0 && !taken.empty()) taken = sent(taken);
      ASSERT_TRUE(parts[random() % parts.size()].merge(taken).ok());
    }
    ASSERT_EQ(bytes_of(parts[0]), expected);
  }
}

TEST(Exemplars, MergeHasAnIdentityAndKeepsItsOwn) {
  auto sketch = of(events(4, 100));
  const auto before = sketch;
  ASSERT_TRUE(sketch.merge(Distribution(kMetric.quantum)).ok());
  EXPECT_TRUE(sketch == before);
  ASSERT_TRUE(sketch.merge(sketch).ok());
  EXPECT_TRUE(std::ranges::equal(sketch.exemplars(), before.exemplars()));
  EXPECT_FALSE(sketch == before);
  Distribution empty(kMetric.quantum);
  ASSERT_TRUE(empty.merge(before).ok());
  EXPECT_TRUE(empty == before);
}

TEST(Exemplars, CoarseningKeepsThoseThatWereChosen) {
  const auto all = events(5, 2'000);
  EXPECT_TRUE(of(all, 7).coarsened(6) == of(all, 6));
  EXPECT_TRUE(of(all, 7).coarsened(5) == of(all, 5));
}

TEST(Exemplars, LaterAndGreaterDecideBetweenOnesOfTheSameTrace) {
  Distribution sketch(kMetric.quantum);
  ASSERT_TRUE(sketch.add(1000, 3).ok());
  for (const auto& each :
       {exemplar_of(7, 1000, 5), exemplar_of(7, 1001, 5), exemplar_of(7, 990, 4)}) {
    ASSERT_TRUE(sketch.add_exemplar(each).ok());
  }
  ASSERT_EQ(sketch.exemplars().size(), 1U);
  EXPECT_EQ(sketch.exemplars()[0], exemplar_of(7, 1001, 5));
}

TEST(Exemplars, OneOfNoSampleOrNoTraceIsRefused) {
  Distribution sketch(kMetric.quantum);
  const auto refused = [](const Status& status) {
    return !status.ok() && status.error().code == Errc::kInvalid;
  };
  EXPECT_TRUE(refused(sketch.add_exemplar(exemplar_of(1, 5))));
  EXPECT_TRUE(refused(sketch.add_negative_exemplar(exemplar_of(1, 5))));
  ASSERT_TRUE(sketch.add(5).ok());
  ASSERT_TRUE(sketch.add_negative(40).ok());
  EXPECT_TRUE(refused(sketch.add_exemplar(exemplar_of(1, 40))));
  EXPECT_TRUE(refused(sketch.add_negative_exemplar(exemplar_of(1, 5))));
  EXPECT_TRUE(refused(sketch.add_exemplar(exemplar_of(0, 5))));
  EXPECT_TRUE(refused(sketch.add_exemplar(exemplar_of(1, 0))));
  EXPECT_TRUE(sketch.add_exemplar(exemplar_of(1, 5)).ok());
  EXPECT_TRUE(sketch.add_negative_exemplar(exemplar_of(1, 40)).ok());
}

}  // namespace
}  // namespace weir
