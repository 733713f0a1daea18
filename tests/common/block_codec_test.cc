#include "common/block_codec.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace weir {
namespace {

Metric metric_of(Kind kind) {
  return {.name = "m", .kind = kind, .unit = "seconds", .quantum = -9};
}

Bytes encode(Kind kind, const std::vector<Value>& values) {
  std::vector<const Value*> rows;
  for (const Value& value : values) rows.push_back(&value);
  return encode_block(metric_of(kind), rows);
}

Result<std::vector<Value>> decode(Kind kind, ByteView payload) {
  std::vector<Value> out;
  WEIR_TRY(decode_block(metric_of(kind), payload, [&](size_t row, Value&& value) {
    EXPECT_EQ(row, out.size());
    out.push_back(std::move(value));
  }));
  return out;
}

Distribution lognormal(uint64_t seed, int samples, uint8_t scale = kDefaultScale) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> shape(17.0, 1.0);
  Distribution out(-9, scale);
  for (int i = 0; i < samples; ++i) EXPECT_TRUE(out.add(static_cast<uint64_t>(shape(random))).ok());
  return out;
}

// Spread over many octaves; integers only, so golden bytes do not depend on a mathematics library.
Distribution octaves(uint64_t seed, int samples, uint8_t scale = kDefaultScale) {
  std::mt19937_64 random(seed);
  Distribution out(-9, scale);
  for (int i = 0; i < samples; ++i) {
    const uint64_t octave = random() % 20;
    EXPECT_TRUE(out.add(1 + random() % (uint64_t{1000} << octave)).ok());
  }
  return out;
}

Gauge gauge_of(std::initializer_list<int64_t> values) {
  Gauge gauge;
  int64_t time = 1'700'000'000'000'000'000;
  for (const int64_t value : values) EXPECT_TRUE(gauge.add(value, time++, 0x1234567890abcdef).ok());
  return gauge;
}

Profile profile_of(uint64_t weight) {
  const Frame main{FrameKind::kUser, "app", "main"};
  const Frame work{FrameKind::kUser, "app", "work"};
  const Frame system_call{FrameKind::kKernel, "kernel", "ksys_write"};
  Profile out;
  out.add(std::vector{main, work}, 20 * weight, 2);
  out.add(std::vector{main, work, system_call}, weight, 1);
  out.add(std::vector{main}, 3, 1);
  out.add_quality({.lost = 1, .truncated = 0, .unresolved = 300});
  return out;
}

Distinct distinct_of(std::initializer_list<uint64_t> hashes) {
  Distinct out;
  for (const uint64_t hash : hashes) EXPECT_TRUE(out.add(hash, 3).ok());
  return out;
}

Distinct random_distinct(uint64_t seed, int members) {
  std::mt19937_64 random(seed);
  Distinct out;
  for (int i = 0; i < members; ++i) EXPECT_TRUE(out.add(random()).ok());
  return out;
}

Topk topk_of(uint64_t keys) {
  Topk out;
  for (uint64_t i = 1; i <= keys; ++i) {
    EXPECT_TRUE(out.add("k\u00e9y=" + std::to_string(i), keys / i).ok());
  }
  return out;
}

std::vector<Value> rows_of(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return {Counter{0}, Counter{1}, Counter{300}, Counter{kMaxCount}};
    case Kind::kGauge:
      return {gauge_of({5}), gauge_of({-7, 0, 9}), gauge_of({INT64_MIN, INT64_MAX}),
              gauge_of({0, 0})};
    case Kind::kDistribution: {
      Distribution zeros(-9);
      EXPECT_TRUE(zeros.add(0, 12).ok());
      Distribution extremes(-9);
      for (const uint64_t v : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
        EXPECT_TRUE(extremes.add(v, uint64_t{1} << 40).ok());
      }
      return {octaves(1, 300), std::move(zeros), std::move(extremes), octaves(2, 50, 5),
              octaves(3, 3000, 7)};
    }
    case Kind::kProfile:
      return {profile_of(1'000'000), Profile(), profile_of(7)};
    case Kind::kDistinct:
      return {distinct_of({0}), distinct_of({0, 1, UINT64_MAX}), random_distinct(1, 20),
              random_distinct(2, 257), random_distinct(3, 100'000)};
    case Kind::kTopk: {
      Topk extremes;
      EXPECT_TRUE(extremes.add("all", kMaxCount).ok());
      return {topk_of(1), topk_of(50), *Topk::rebuild({{"a", 3}, {"b", 300}}, 2000, 1, true),
              std::move(extremes)};
    }
  }
  return {};
}

constexpr std::array<Kind, 6> kKinds = {Kind::kCounter, Kind::kGauge,    Kind::kDistribution,
                                        Kind::kProfile, Kind::kDistinct, Kind::kTopk};

TEST(BlockCodec, WhatWasEncodedComesBackAndEncodesToTheSameBytes) {
  for (const Kind kind : kKinds) {
    const auto values = rows_of(kind);
    const Bytes bytes = encode(kind, values);
    const auto back = decode(kind, bytes);
    ASSERT_TRUE(back.ok()) << kind_name(kind) << ": " << back.error().message;
    EXPECT_TRUE(*back == values) << kind_name(kind);
    EXPECT_EQ(encode(kind, *back), bytes) << kind_name(kind);
    EXPECT_EQ(*block_rows(bytes), values.size());
  }
}

TEST(BlockCodec, ColumnOfDefaultsIsAbsent) {
  const Bytes zeros = encode(Kind::kCounter, {Counter{0}, Counter{0}});
  EXPECT_EQ(zeros, (Bytes{std::byte{1}, std::byte{1}, std::byte{2}, std::byte{0}}));
}

TEST(BlockCodec, FullBlockOf256RowsComesBack) {
  std::vector<Value> values;
  for (uint64_t i = 0; i < kMaxBlockRows; ++i) values.emplace_back(lognormal(i, 20));
  const auto back = decode(Kind::kDistribution, encode(Kind::kDistribution, values));
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(*back == values);
}

TEST(BlockCodec, EqualValuesGiveEqualBytesHoweverTheyWereMerged) {
  std::mt19937_64 random(6);
  std::vector<Value> parts;
  for (uint64_t i = 0; i < 24; ++i) parts.emplace_back(lognormal(i, 300));
  ASSERT_TRUE(std::get<Distribution>(parts[5]).add(0, 70'000).ok());
  std::set<Bytes> encodings;
  for (int tree = 0; tree < 1000; ++tree) {
    auto forest = parts;
    while (forest.size() > 1) {
      std::swap(forest[random() % forest.size()], forest.back());
      const Value taken = std::move(forest.back());
      forest.pop_back();
      // Some merges cross a wire.
      auto received =
          random() % 8 == 0
              ? std::move((*decode(Kind::kDistribution, encode(Kind::kDistribution, {taken})))[0])
              : taken;
      ASSERT_TRUE(merge(forest[random() % forest.size()], received).ok());
    }
    encodings.insert(encode(Kind::kDistribution, forest));
  }
  EXPECT_EQ(encodings.size(), 1U);
}

TEST(BlockCodec, OneSketchOfTenThousandSamplesStaysSmall) {
  EXPECT_LE(encode(Kind::kDistribution, {lognormal(7, 10'000)}).size(), 440U);
}

TEST(BlockCodec, TruncationAtEveryByteIsRefusedBeforeTheSink) {
  for (const Kind kind : kKinds) {
    const Bytes bytes = encode(kind, rows_of(kind));
    for (size_t size = 0; size < bytes.size(); ++size) {
      const Bytes cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
      const auto status = decode_block(metric_of(kind), cut, [](size_t, Value&&) { FAIL(); });
      EXPECT_FALSE(status.ok()) << kind_name(kind) << " cut at " << size;
    }
    Bytes longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decode(kind, longer).ok());
  }
}

TEST(BlockCodec, FlippedBitsAreRefusedOrStillCanonical) {
  for (const Kind kind : kKinds) {
    const Bytes bytes = encode(kind, rows_of(kind));
    const size_t step = kind == Kind::kDistinct ? 37 : 1;  // thousands of registers are alike
    for (size_t bit = 0; bit < 8 * bytes.size(); bit += step) {
      Bytes flipped = bytes;
      flipped[bit / 8] ^= std::byte{1} << (bit % 8);
      const auto back = decode(kind, flipped);
      if (back.ok()) {
        EXPECT_EQ(encode(kind, *back), flipped) << kind_name(kind) << " bit " << bit;
      }
    }
  }
}

TEST(BlockCodec, OtherKindVersionOrRowCountIsRefused) {
  const Bytes bytes = encode(Kind::kCounter, {Counter{5}});
  EXPECT_FALSE(decode(Kind::kGauge, bytes).ok());
  for (const auto& [at, value] :
       std::vector<std::pair<size_t, unsigned>>{{0, 0}, {0, 2}, {1, 0}, {1, 4}, {1, 255}, {2, 0}}) {
    Bytes other = bytes;
    other[at] = static_cast<std::byte>(value);
    EXPECT_FALSE(decode(Kind::kCounter, other).ok()) << at << " " << value;
  }
  EXPECT_FALSE(block_rows(Bytes{std::byte{1}, std::byte{1}, std::byte{0x81}, std::byte{2}}).ok());
  EXPECT_FALSE(decode(Kind::kTopk, bytes).ok());
}

TEST(BlockCodec, DistributionOfAnUnknownQuantumIsRefused) {
  const Bytes bytes = encode(Kind::kDistribution, {lognormal(1, 10)});
  Metric metric = metric_of(Kind::kDistribution);
  metric.quantum = -5;
  EXPECT_FALSE(decode_block(metric, bytes, [](size_t, Value&&) { FAIL(); }).ok());
}

TEST(BlockCodec, ImpossibleGaugesAndCountersAreRefused) {
  const auto gauge_refused = [](uint64_t n, int64_t sum, int64_t min, uint64_t spread) {
    ByteWriter out;
    ByteWriter columns[5];
    columns[1].varint(n);
    columns[2].zigzag(sum);
    columns[3].zigzag(min);
    columns[4].varint(spread);
    out.put(uint8_t{1});
    out.put(Kind::kGauge);
    out.varint(1);
    size_t present = 0;
    for (size_t i = 1; i <= 4; ++i) present += columns[i].bytes() != Bytes{std::byte{0}} ? 1U : 0U;
    out.varint(present);
    constexpr std::array<uint8_t, 5> kEncodings = {0, 1, 2, 2, 1};
    for (size_t i = 1; i <= 4; ++i) {
      if (columns[i].bytes() == Bytes{std::byte{0}}) continue;
      out.put(static_cast<uint8_t>(i));
      out.put(kEncodings[i]);
      out.varint(columns[i].size());
    }
    for (size_t i = 1; i <= 4; ++i) {
      if (columns[i].bytes() != Bytes{std::byte{0}}) out.append(columns[i].bytes());
    }
    return !decode(Kind::kGauge, out.bytes()).ok();
  };
  EXPECT_FALSE(gauge_refused(2, 7, 3, 1));
  EXPECT_TRUE(gauge_refused(2, 9, 3, 1)) << "sum above n * max";
  EXPECT_TRUE(gauge_refused(2, 5, 3, 1)) << "sum below n * min";
  EXPECT_TRUE(gauge_refused(0, 0, 0, 0)) << "no values";
  EXPECT_TRUE(gauge_refused(uint64_t{1} << 63, 0, 0, 0)) << "count past 2^63-1";
  EXPECT_TRUE(gauge_refused(1, 5, 5, UINT64_MAX)) << "max past 2^63-1";

  ByteWriter counter;
  counter.append(Bytes{std::byte{1}, std::byte{1}, std::byte{1}, std::byte{1}, std::byte{1},
                       std::byte{1}, std::byte{10}});
  counter.varint(uint64_t{1} << 63);
  EXPECT_FALSE(decode(Kind::kCounter, counter.bytes()).ok());
}

TEST(BlockCodec, LaterBadRowLeavesTheSinkUntouched) {
  Bytes bytes = encode(Kind::kCounter, {Counter{1}, Counter{2}, Counter{3}});
  bytes.back() = std::byte{0x80};  // the third row is cut short
  int rows = 0;
  EXPECT_FALSE(
      decode_block(metric_of(Kind::kCounter), bytes, [&](size_t, Value&&) { ++rows; }).ok());
  EXPECT_EQ(rows, 0);
}

// Bytes of released versions load for ever. To write those of a new version once:
//   WEIR_WRITE_GOLDEN=1 common_tests --gtest_filter='BlockCodec.Golden*'   (from the repository)
TEST(BlockCodec, GoldenBytesOfVersionOneLoadForEver) {
  for (const Kind kind : kKinds) {
    const std::string path = "tests/golden/block_v1_" + std::string(kind_name(kind)) + ".bin";
    const auto values = rows_of(kind);
    const Bytes bytes = encode(kind, values);
    if (std::getenv("WEIR_WRITE_GOLDEN") != nullptr) {
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
    std::ifstream in(path, std::ios::binary);
    const std::string golden{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(golden.empty()) << path;
    const auto back = decode(kind, as_bytes(golden));
    ASSERT_TRUE(back.ok()) << path << ": " << back.error().message;
    EXPECT_TRUE(*back == values) << path;
    EXPECT_TRUE(std::ranges::equal(bytes, as_bytes(golden))) << path;
  }
}

}  // namespace
}  // namespace weir
