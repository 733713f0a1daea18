// Distributions in a block: what decoders refuse, column by column, and bytes that load for ever.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "common/block_codec.h"

namespace weir {
namespace {

const Metric kMetric{.name = "m", .kind = Kind::kDistribution, .unit = "seconds", .quantum = -9};

Bytes encode(const std::vector<Value>& values) {
  std::vector<const Value*> rows;
  for (const Value& value : values) rows.push_back(&value);
  return encode_block(kMetric, rows);
}

Result<std::vector<Value>> decode(ByteView payload) {
  std::vector<Value> out;
  WEIR_TRY(decode_block(kMetric, payload,
                        [&](size_t, Value&& value) { out.push_back(std::move(value)); }));
  return out;
}

// The distribution block of samples 1, 2 and 2 quanta by hand, to change one field at a time.
struct HandMade {
  uint64_t zero = 0;
  Int128 sum = 5;
  uint64_t min = 1;
  UInt128 spread = 1;
  int64_t first_group = index_table(6, -9).index(1) >> 4;
  uint64_t groups = 5;  // 1 and 2 quanta are one octave, 64 buckets, apart
  Bytes widths = {std::byte{1}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{2}};
  Bytes packed = packed_at(2);
  // Columns 11 to 16; no row of the plain one has them.
  int64_t negative_first_group = 0;
  uint64_t negative_groups = 0;
  Bytes negative_widths{};
  Bytes negative_packed{};
  ByteWriter exemplars{};
  uint64_t zero_threshold = 0;

  // -1 and twice -2 beside the others.
  static HandMade with_negatives() {
    HandMade out;
    out.sum = 0;
    out.min = 2;
    out.spread = 4;
    out.negative_first_group = out.first_group;
    out.negative_groups = out.groups;
    out.negative_widths = out.widths;
    out.negative_packed = out.packed;
    return out;
  }

  // 1 sample in a group of width 1, 2 samples in a group of width `wide`.
  static Bytes packed_at(unsigned wide) {
    const auto low = static_cast<unsigned>(index_table(6, -9).index(1) & 15);
    const auto high = wide * static_cast<unsigned>(index_table(6, -9).index(2) & 15);
    Bytes out(2, std::byte{0});
    out[low / 8] = std::byte{1} << (low % 8);
    Bytes more(size_t{2} * wide, std::byte{0});
    more[high / 8] = std::byte{2} << (high % 8);
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }

  [[nodiscard]] Bytes bytes() const {
    std::array<ByteWriter, 17> columns;
    columns[3].varint(zero);
    columns[4].zigzag(sum);
    columns[5].varint(min);
    columns[6].varint(spread);
    columns[7].zigzag(first_group);
    columns[8].varint(groups);
    columns[9].append(widths);
    columns[10].append(packed);
    columns[11].zigzag(negative_first_group);
    columns[12].varint(negative_groups);
    columns[13].append(negative_widths);
    columns[14].append(negative_packed);
    columns[15].append(exemplars.bytes());
    columns[16].varint(zero_threshold);
    const auto present = [](const ByteWriter& column) {
      return std::any_of(column.bytes().begin(), column.bytes().end(),
                         [](std::byte b) { return b != std::byte{0}; });
    };
    ByteWriter out;
    out.put(uint8_t{1});
    out.put(Kind::kDistribution);
    out.varint(1);
    out.varint(static_cast<size_t>(std::count_if(columns.begin(), columns.end(), present)));
    constexpr std::array<uint8_t, 17> kEncodings = {0, 2, 0, 1, 2, 1, 1, 2, 1,
                                                    3, 3, 2, 1, 3, 3, 3, 1};
    for (size_t i = 0; i < columns.size(); ++i) {
      if (!present(columns[i])) continue;
      out.put(static_cast<uint8_t>(i));
      out.put(kEncodings[i]);
      out.varint(columns[i].size());
    }
    for (const auto& column : columns) {
      if (present(column)) out.append(column.bytes());
    }
    return std::move(out).take();
  }

  [[nodiscard]] bool accepted() const { return decode(bytes()).ok(); }
};

TEST(DistributionBlock, HandMadeDistributionIsTheEncodersOwn) {
  Distribution expected(-9);
  ASSERT_TRUE(expected.add(1).ok());
  ASSERT_TRUE(expected.add(2, 2).ok());
  EXPECT_EQ(HandMade{}.bytes(), encode({expected}));
  EXPECT_TRUE(HandMade{}.accepted());
}

TEST(DistributionBlock, EveryImpossibleDistributionIsRefused) {
  const auto refused = [](auto&& change) {
    HandMade block;
    change(block);
    return !block.accepted();
  };
  for (unsigned width = 65; width < 256; ++width) {
    EXPECT_TRUE(refused([&](HandMade& b) {
      b.widths[4] = static_cast<std::byte>(width);
      b.packed.resize(2 + 2 * width, std::byte{0xff});
    })) << width;
  }
  EXPECT_TRUE(refused([](HandMade& b) { b.widths[4] = std::byte{3}; })) << "bit sum too long";
  EXPECT_TRUE(refused([](HandMade& b) { b.widths[4] = std::byte{1}; })) << "bit sum too short";
  EXPECT_TRUE(refused([](HandMade& b) {
    b.widths[4] = std::byte{3};
    b.packed = HandMade::packed_at(3);
  })) << "width not minimal";
  EXPECT_TRUE(refused([](HandMade& b) {
    b.groups = 6;
    b.widths.push_back(std::byte{0});
  })) << "last group empty";
  EXPECT_TRUE(refused([](HandMade& b) { b.groups = 4; })) << "an entry too many";
  EXPECT_TRUE(refused([](HandMade& b) { b.groups = 6; })) << "an entry too few";
  EXPECT_TRUE(refused([](HandMade& b) { b.groups = uint64_t{1} << 32; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.groups = UINT64_MAX; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.first_group -= 1; })) << "below the range";
  EXPECT_TRUE(refused([](HandMade& b) { b.first_group = 2182 >> 4; })) << "above the range";
  EXPECT_TRUE(refused([](HandMade& b) { b.first_group = INT64_MIN; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.first_group += 1; })) << "min outside its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.min = 0; })) << "min of zero without a zero sample";
  EXPECT_TRUE(refused([](HandMade& b) { b.min = 2, b.spread = 0; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = 2; })) << "max outside its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = 0; })) << "max below its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = UINT64_MAX; })) << "max wraps below min";
  EXPECT_TRUE(refused([](HandMade& b) { b.sum = 2; })) << "sum below count * min";
  EXPECT_TRUE(refused([](HandMade& b) { b.sum = 7; })) << "sum above count * max";
  EXPECT_TRUE(refused([](HandMade& b) { b.sum = -5; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.zero = 1; })) << "zero sample but min 1";
  EXPECT_TRUE(refused([](HandMade& b) {
    b.zero = kMaxCount;
    b.min = 0;
    b.spread = 2;
  })) << "count past 2^63-1";
  EXPECT_TRUE(refused([](HandMade& b) { b.zero = UINT64_MAX, b.min = 0, b.spread = 2; }));
  EXPECT_TRUE(refused([](HandMade& b) {
    b = {.zero = 0, .sum = 0, .min = 0, .spread = 0, .first_group = 0, .groups = 0};
    b.widths.clear();
    b.packed.clear();
  })) << "no samples";
  EXPECT_FALSE(refused([](HandMade& b) { b.sum = 3; }));
  EXPECT_FALSE(refused([](HandMade& b) { b.zero = 9, b.min = 0, b.spread = 2; }));
}

TEST(DistributionBlock, EveryImpossibleNegativeSideIsRefused) {
  Distribution expected(kMetric.quantum);
  for (const int64_t sample : {1, 2, 2, -1, -2, -2}) ASSERT_TRUE(expected.add_signed(sample).ok());
  EXPECT_EQ(HandMade::with_negatives().bytes(), encode({expected}));
  const auto refused = [](auto&& change) {
    HandMade block = HandMade::with_negatives();
    change(block);
    return !block.accepted();
  };
  for (unsigned width = 65; width < 256; ++width) {
    EXPECT_TRUE(refused([&](HandMade& b) {
      b.negative_widths[4] = static_cast<std::byte>(width);
      b.negative_packed.resize(2 + 2 * width, std::byte{0xff});
    })) << width;
  }
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_widths[4] = std::byte{3}; })) << "too long";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_widths[4] = std::byte{1}; })) << "too short";
  EXPECT_TRUE(refused([](HandMade& b) {
    b.negative_widths[4] = std::byte{3};
    b.negative_packed = HandMade::packed_at(3);
  })) << "width not minimal";
  EXPECT_TRUE(refused([](HandMade& b) {
    b.negative_groups = 6;
    b.negative_widths.push_back(std::byte{0});
  })) << "last group empty";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_groups = 4; })) << "an entry too many";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_groups = 6; })) << "an entry too few";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_groups = UINT64_MAX; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_first_group -= 1; })) << "below the range";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_first_group += 1; })) << "min not in its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.negative_first_group = INT64_MAX; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.min = 3, b.spread = 5; })) << "min below its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.min = 0, b.spread = 2; })) << "min is no negative";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = 3; })) << "max below its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = 1; })) << "max negative beside positives";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = 5; })) << "max above its bucket";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = (UInt128{1} << 65) - 1; })) << "max too great";
  EXPECT_TRUE(refused([](HandMade& b) { b.spread = ~UInt128{0}; }));
  EXPECT_TRUE(refused([](HandMade& b) { b.sum = -13; })) << "sum below count * min";
  EXPECT_TRUE(refused([](HandMade& b) { b.sum = 13; })) << "sum above count * max";
  EXPECT_TRUE(refused([](HandMade& b) { b.zero = kMaxCount - 5; })) << "count past 2^63-1";
  EXPECT_TRUE(refused([](HandMade& b) { b.zero = UINT64_MAX; }));
  EXPECT_TRUE(refused([](HandMade& b) {
    b.negative_groups = 0;
    b.negative_widths.clear();
    b.negative_packed.clear();
  })) << "a first group without groups";
  EXPECT_FALSE(refused([](HandMade& b) { b.sum = -12; }));
  EXPECT_FALSE(refused([](HandMade& b) { b.zero = kMaxCount - 6; }));
  EXPECT_FALSE(refused([](HandMade& b) { b.zero_threshold = UINT64_MAX; }));
}

TEST(DistributionBlock, NegativeSamplesAloneHaveANegativeMaximum) {
  HandMade block = HandMade::with_negatives();
  block.first_group = 0;
  block.groups = 0;
  block.widths.clear();
  block.packed.clear();
  block.sum = -5;
  block.spread = 1;
  EXPECT_TRUE(block.accepted());
  block.spread = 2;
  EXPECT_FALSE(block.accepted()) << "a maximum of zero without a zero sample";
  block.zero = 1;
  EXPECT_TRUE(block.accepted());
  block.spread = 3;
  EXPECT_FALSE(block.accepted()) << "a positive maximum without a positive sample";
}

void put_exemplar(ByteWriter& out, uint8_t trace, int64_t time_ns, UInt128 value) {
  Bytes trace_id(16, std::byte{0});
  trace_id[15] = std::byte{trace};
  out.append(trace_id);
  out.zigzag(time_ns);
  out.varint(value);
}

TEST(DistributionBlock, EveryImpossibleExemplarIsRefused) {
  struct Given {
    uint8_t trace;
    UInt128 value;
  };

  const auto accepted = [](uint64_t positive, uint64_t negative, const std::vector<Given>& given) {
    HandMade block = HandMade::with_negatives();
    block.exemplars.varint(positive);
    block.exemplars.varint(negative);
    for (const auto& each : given) put_exemplar(block.exemplars, each.trace, -3, each.value);
    return block.accepted();
  };
  EXPECT_TRUE(accepted(2, 2, {{1, 1}, {1, 2}, {2, 1}, {2, 2}}));
  EXPECT_TRUE(accepted(0, 1, {{1, 2}}));
  EXPECT_FALSE(accepted(1, 0, {})) << "an exemplar too few";
  EXPECT_FALSE(accepted(0, 1, {}));
  EXPECT_FALSE(accepted(UINT64_MAX, 0, {{1, 1}})) << "no declared number is believed";
  EXPECT_FALSE(accepted(1, 0, {{1, 1}, {1, 2}})) << "an exemplar too many";
  EXPECT_FALSE(accepted(2, 0, {{1, 2}, {1, 1}})) << "octaves descend";
  EXPECT_FALSE(accepted(2, 0, {{1, 2}, {2, 2}})) << "an octave twice";
  EXPECT_FALSE(accepted(1, 0, {{1, 4}})) << "an octave without a sample";
  EXPECT_FALSE(accepted(1, 0, {{1, 0}})) << "no value";
  EXPECT_FALSE(accepted(1, 0, {{1, UInt128{1} << 64}})) << "a value beyond 64 bits";
  EXPECT_FALSE(accepted(1, 0, {{0, 1}})) << "no trace";
  HandMade alone;
  alone.exemplars.varint(0);
  alone.exemplars.varint(1);
  put_exemplar(alone.exemplars, 1, 0, 1);
  EXPECT_FALSE(alone.accepted()) << "of negative samples, which there are not";
}

TEST(DistributionBlock, TruncationAtEveryByteIsRefused) {
  const Bytes bytes = HandMade::with_negatives().bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(decode(ByteView(bytes).first(size)).ok()) << size;
  }
}

// Integers only, so that golden bytes do not depend on a mathematics library.
Distribution octaves(uint64_t seed, int samples, uint8_t scale) {
  std::mt19937_64 random(seed);
  Distribution out(kMetric.quantum, scale);
  for (int i = 0; i < samples; ++i) {
    const uint64_t octave = random() % 20;
    EXPECT_TRUE(out.add(1 + random() % (uint64_t{1000} << octave)).ok());
  }
  return out;
}

std::vector<Value> golden_rows(std::string_view name) {
  if (name == "scales") return {octaves(1, 300, 5), octaves(2, 300, 7), octaves(3, 40'000, 5)};
  Distribution mixed = octaves(4, 200, kDefaultScale);
  for (int64_t i = 1; i < 100; ++i)
    EXPECT_TRUE(mixed.add_signed(-i * i * i, i % 2 == 0 ? 1 : 70).ok());
  Distribution negative(kMetric.quantum, 7);
  EXPECT_TRUE(negative.add_negative(1, kMaxCount - 1).ok());
  EXPECT_TRUE(negative.add_negative(UINT64_MAX).ok());
  Distribution both(kMetric.quantum, 5);
  EXPECT_TRUE(both.add(UINT64_MAX, 3).ok());
  EXPECT_TRUE(both.add_zero(5).ok());
  EXPECT_TRUE(both.add_negative(UINT64_MAX, 70'000).ok());
  if (name == "signed")
    return {std::move(mixed), octaves(5, 9, 6), std::move(negative), std::move(both)};
  if (name == "exemplars") {
    for (uint64_t i = 1; i <= 400; ++i) {
      Exemplar exemplar{.time_ns = 1'700'000'000'000'000'000, .value = i * i * i};
      exemplar.trace_id.fill(static_cast<std::byte>(i & 0xff) | std::byte{1});
      EXPECT_EQ(mixed.add_negative_exemplar(exemplar).ok(), i < 100);
      exemplar.time_ns = -static_cast<int64_t>(i);
      const bool named = mixed.add_exemplar(exemplar).ok();
      EXPECT_TRUE(!named || !mixed.exemplars().empty());
    }
    return {octaves(7, 9, 6), std::move(mixed), std::move(both)};
  }
  EXPECT_EQ(name, "zero_threshold");
  both.raise_zero_threshold(1);
  mixed.raise_zero_threshold(UINT64_MAX);
  return {std::move(both), std::move(mixed), octaves(6, 9, 6)};
}

// Bytes of released versions load for ever. To write those of a new set once:
//   WEIR_WRITE_GOLDEN=1 common_tests --gtest_filter='DistributionBlock.Golden*'   (from the root)
TEST(DistributionBlock, GoldenBytesOfVersionOneLoadForEver) {
  for (const char* name : {"scales", "signed", "zero_threshold", "exemplars"}) {
    const std::string path = std::string("tests/golden/block_v1_distribution_") + name + ".bin";
    const auto values = golden_rows(name);
    const Bytes bytes = encode(values);
    if (std::getenv("WEIR_WRITE_GOLDEN") != nullptr && !std::ifstream(path)) {
      std::ofstream(path, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
    std::ifstream in(path, std::ios::binary);
    const std::string golden{std::istreambuf_iterator<char>(in), {}};
    ASSERT_FALSE(golden.empty()) << path;
    const auto back = decode(as_bytes(golden));
    ASSERT_TRUE(back.ok()) << path << ": " << back.error().message;
    EXPECT_TRUE(*back == values) << path;
    EXPECT_TRUE(std::ranges::equal(encode(*back), as_bytes(golden))) << path;
    EXPECT_TRUE(std::ranges::equal(bytes, as_bytes(golden))) << path;
  }
}

}  // namespace
}  // namespace weir
