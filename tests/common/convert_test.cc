#include "common/convert.h"

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "common/value.h"
#include "tests/fakes/samples.h"

namespace weir {

namespace {

Metric metric_of(int8_t quantum) { return {"m", Kind::kDistribution, "", quantum}; }

Bytes bytes_of(const Distribution& d) { return bytes_of(metric_of(d.quantum()), Value(d)); }

OtlpHistogram otlp_of(const OtlpBuckets& positive, double sum) {
  OtlpHistogram out;
  out.scale = 6;
  out.positive = positive;
  for (const uint64_t n : positive.counts) out.count += n;
  out.sum = sum;
  return out;
}

size_t kept_exemplars = 0;  // by random_distribution(), over the whole run

// Sums stay below 2^51 quanta, which doubles hold through both conversions.
Distribution random_distribution(std::mt19937_64& random, uint8_t scale, int8_t quantum) {
  Distribution out(quantum, scale);
  const size_t samples = 1 + random() % 300;
  const bool is_signed = random() % 2 == 0;
  for (size_t i = 0; i < samples; ++i) {
    const auto magnitude = static_cast<int64_t>((random() >> 24) >> (random() % 40));
    EXPECT_TRUE(out.add_signed(is_signed && random() % 3 == 0 ? -magnitude : magnitude).ok());
  }
  if (random() % 3 == 0) out.raise_zero_threshold(2 + random() % 1000);
  for (int i = 0; i < 4; ++i) {
    Exemplar exemplar{.time_ns = static_cast<int64_t>(random() >> 2), .value = random() >> 24};
    exemplar.trace_id[3] = static_cast<std::byte>(1 + random() % 100);
    // Only where a sample is; which is for the distribution to say.
    if (out.add_exemplar(exemplar).ok() || out.add_negative_exemplar(exemplar).ok())
      ++kept_exemplars;
  }
  return out;
}

TEST(Convert, WhatWentToOtlpComesBackByteForByte) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 240; ++i) {
    const auto scale = static_cast<uint8_t>(5 + i % 3);
    const auto quantum = static_cast<int8_t>(-3 * (i % 4));
    const Distribution d = random_distribution(random, scale, quantum);
    const auto back = from_otlp(to_otlp(d), quantum);
    ASSERT_TRUE(back.ok()) << back.error().message;
    ASSERT_EQ(bytes_of(back->distribution), bytes_of(d)) << "round " << i;
    EXPECT_EQ(back->exemplars_left_out, 0U);
  }
  EXPECT_GT(kept_exemplars, 100U);
}

TEST(Convert, WhatWentToNativeComesBackButForMinAndMax) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 240; ++i) {
    const auto scale = static_cast<uint8_t>(5 + i % 3);
    const Distribution d = random_distribution(random, scale, -6);
    const NativeHistogram native = to_native(d);
    const auto back = from_native(native, -6);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_TRUE(back->sum() == d.sum());
    EXPECT_EQ(back->count(), d.count());
    EXPECT_EQ(back->zero_threshold(), d.zero_threshold());
    // The ends of the outermost buckets enclose what is no longer known.
    EXPECT_TRUE(back->min() <= d.min() && d.max() <= back->max());
    ASSERT_EQ(to_native(*back), native) << "round " << i;
  }
}

TEST(Convert, NativeSpansAreThoseOfTheFormat) {
  Distribution d(0, 6);
  ASSERT_TRUE(d.add(1, 3).ok());  // index -1: (2^(-1/64), 1], theirs 0
  ASSERT_TRUE(d.add(2, 5).ok());  // index 63, theirs 64
  const NativeHistogram native = to_native(d);
  EXPECT_EQ(native.schema, 6);
  EXPECT_EQ(native.positive.spans, (std::vector<NativeSpan>{{0, 1}, {63, 1}}));
  EXPECT_EQ(native.positive.deltas, (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(native.sum, 13.0);
}

TEST(Convert, OtlpBucketsAreThoseOfTheFormat) {
  Distribution d(0, 6);
  ASSERT_TRUE(d.add(1, 3).ok());
  ASSERT_TRUE(d.add_negative(1, 2).ok());
  const OtlpHistogram otlp = to_otlp(d);
  EXPECT_EQ(otlp.scale, 6);
  EXPECT_EQ(otlp.positive, (OtlpBuckets{-1, {3}}));
  EXPECT_EQ(otlp.negative, (OtlpBuckets{-1, {2}}));
  EXPECT_EQ(otlp.min, -1.0);
  EXPECT_EQ(otlp.max, 1.0);
}

// Finer buckets nest in ours, so shifting their indices is what counting at our scale would give.
TEST(Convert, FinerScalesComeInAsIfTheyHadBeenCountedAtOurs) {
  for (const int32_t scale : {8, 11, 20}) {
    OtlpHistogram in;
    in.scale = scale;
    Distribution expected(0, 7);
    for (const uint64_t v : {1ULL, 7ULL, 1000ULL, 1025ULL}) {  // powers of two lie on boundaries
      const auto index = static_cast<int32_t>(
          std::ceil(std::log2(static_cast<long double>(v)) * std::exp2(scale)) - 1);
      if (in.positive.counts.empty()) in.positive.offset = index;
      const auto at = static_cast<size_t>(index - in.positive.offset);
      if (at >= kMaxImportBuckets) continue;
      in.positive.counts.resize(std::max(in.positive.counts.size(), at + 1));
      ++in.positive.counts[at];
      ++in.count;
      in.sum += static_cast<double>(v);
      ASSERT_TRUE(expected.add(v).ok());
    }
    in.min = 1;
    in.max = static_cast<double>(expected.max());
    const auto out = from_otlp(in, 0);
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(bytes_of(out->distribution), bytes_of(expected)) << "scale " << scale;
  }
}

TEST(Convert, CoarserScalesKeepARowOfTheirOwn) {
  for (int32_t scale = 0; scale <= 4; ++scale) {
    OtlpHistogram in = otlp_of({3, {1, 0, 2}}, 21);
    in.scale = scale;
    const auto out = from_otlp(in, -9);
    ASSERT_TRUE(out.ok()) << out.error().message;
    EXPECT_EQ(out->distribution.scale(), scale);
    EXPECT_EQ(out->distribution.count(), 3U);
    EXPECT_EQ(to_otlp(out->distribution).positive, in.positive);
  }
  OtlpHistogram coarse = otlp_of({0, {1}}, 1);
  coarse.scale = -1;
  EXPECT_FALSE(from_otlp(coarse, 0).ok());
}

TEST(Convert, SamplesBelowOneQuantumAreZeroAndTheAnswerSaysSo) {
  // A nanosecond clock cannot tell 2^-40 s from nothing: the bucket becomes the zero bucket, whose
  // width is stated.
  const OtlpHistogram in = otlp_of({-40 * 64, {4}}, 0);
  const auto out = from_otlp(in, -9);
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_EQ(out->distribution.zero_count(), 4U);
  EXPECT_EQ(out->distribution.zero_threshold(), 1U);
  EXPECT_EQ(out->distribution.quantile(500'000'000)->hi, 1e-9);
}

// At quantum 0 nothing lies between 1 and 2: such a bucket is that of the nearest whole number.
TEST(Convert, BucketWithoutWholeQuantaCountsWhereItsSamplesRoundTo) {
  const auto out = from_otlp(otlp_of({10, {1}}, 1.1), 0);  // (1.114, 1.126]
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_TRUE(out->distribution.min() == 1 && out->distribution.max() == 1 &&
              out->distribution.sum() == 1);
  const auto up = from_otlp(otlp_of({50, {1}}, 1.7), 0);  // (1.719, 1.737]
  EXPECT_TRUE(up->distribution.min() == 2 && up->distribution.sum() == 2);
}

TEST(Convert, RandomBucketsOfAnyQuantumAndScaleComeInWhole) {
  std::mt19937_64 random(4);
  for (int i = 0; i < 600; ++i) {
    OtlpHistogram in;
    in.scale = static_cast<int32_t>(random() % 21);
    const auto octave = static_cast<int32_t>(random() % 40) - 20;
    for (OtlpBuckets* side : {&in.positive, &in.negative}) {
      side->offset = octave * (1 << in.scale) + static_cast<int32_t>(random() % 100);
      side->counts.resize(random() % 300 % (in.scale == 0 ? 8 : 300));
      for (uint64_t& n : side->counts) in.count += n = random() % 4;
    }
    in.sum = static_cast<double>(random() % 1000);
    const auto out = from_otlp(in, static_cast<int8_t>(-3 * static_cast<int>(random() % 4)));
    if (!out.ok()) {  // only coarse ones reach beyond 2^64 quanta
      EXPECT_LE(in.scale, 4) << out.error().message;
      continue;
    }
    EXPECT_EQ(out->distribution.count(), in.count);
    if (!out->distribution.empty()) {
      EXPECT_FALSE(bytes_of(out->distribution).empty());  // whole and consistent, or this aborts
    }
  }
}

TEST(Convert, WiderZeroBucketWinsAndWidensTheStatedError) {
  OtlpHistogram wide;
  wide.scale = 6;
  wide.count = wide.zero_count = 10;
  wide.zero_threshold = 0.001;
  Distribution ours(-9);
  ASSERT_TRUE(ours.add_zero(1).ok());
  const auto in = from_otlp(wide, -9);
  ASSERT_TRUE(in.ok()) << in.error().message;
  ASSERT_TRUE(ours.merge(in->distribution).ok());
  EXPECT_EQ(ours.zero_threshold(), 1'000'000U);
  EXPECT_DOUBLE_EQ(ours.quantile(500'000'000)->hi, 0.001);
  EXPECT_EQ(to_otlp(ours).zero_threshold, 0.001);
}

TEST(Convert, RoundedSumIsClampedToWhatTheBucketsAllow) {
  OtlpHistogram in = to_otlp([] {
    Distribution d(0);
    EXPECT_TRUE(d.add(1000, 10).ok());
    return d;
  }());
  in.sum = 10'000.4;  // rounds to the exact sum
  EXPECT_TRUE(from_otlp(in, 0)->distribution.sum() == 10'000);
  in.sum = 9.9e9;  // impossible: ten samples of 1,000
  EXPECT_TRUE(from_otlp(in, 0)->distribution.sum() == 10'000);
}

TEST(Convert, ExemplarsOfNoSampleAreLeftOutAndCounted) {
  OtlpHistogram in = otlp_of({63, {1, 2}}, 9);
  std::array<std::byte, 16> trace{};
  in.exemplars.push_back({trace, 5, 2.0});  // no trace
  trace[0] = std::byte{9};
  in.exemplars.push_back({trace, 5, 1e6});   // no such sample
  in.exemplars.push_back({trace, 5, -2.0});  // nor a negative one
  in.exemplars.push_back({trace, 5, std::nan("")});
  in.exemplars.push_back({trace, 5, 2.0});
  const auto out = from_otlp(in, 0);
  ASSERT_TRUE(out.ok()) << out.error().message;
  EXPECT_EQ(out->exemplars_left_out, 4U);
  ASSERT_EQ(out->distribution.exemplars().size(), 1U);
  EXPECT_EQ(out->distribution.exemplars()[0].value, 2U);
}

TEST(Convert, HostileHistogramsAreRefusedWithAReason) {
  const double nan = std::nan("");
  const auto otlp = [](const std::function<void(OtlpHistogram&)>& spoil) {
    OtlpHistogram h = otlp_of({63, {1, 2}}, 9);
    spoil(h);
    return from_otlp(h, 0);
  };
  EXPECT_TRUE(otlp([](auto&) {}).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.count = 4; }).ok());
  EXPECT_FALSE(otlp([&](auto& h) { h.sum = nan; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.sum = 1e300; }).ok());
  EXPECT_FALSE(otlp([&](auto& h) { h.zero_threshold = nan; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.zero_threshold = -1; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.zero_threshold = 1e300; }).ok());
  EXPECT_FALSE(otlp([&](auto& h) { h.min = nan; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.max = INFINITY; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.scale = 21; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.scale = std::numeric_limits<int32_t>::max(); }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.scale = std::numeric_limits<int32_t>::min(); }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.positive.offset = 100'000; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.positive.offset = std::numeric_limits<int32_t>::max(); }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.positive.counts = {UINT64_MAX, 4}; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.positive.counts.resize(kMaxImportBuckets + 1); }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.zero_count = UINT64_MAX; }).ok());
  EXPECT_FALSE(otlp([](auto& h) { h.exemplars.resize(kMaxImportExemplars + 1); }).ok());

  const auto native = [](const std::function<void(NativeHistogram&)>& spoil) {
    NativeHistogram h;
    h.schema = 6;
    h.count = 3;
    h.sum = 9;
    h.positive = {.spans = {{64, 2}}, .deltas = {1, 1}};
    spoil(h);
    return from_native(h, 0);
  };
  EXPECT_TRUE(native([](auto&) {}).ok());
  EXPECT_FALSE(native([](auto& h) { h.positive.deltas = {1, -2}; }).ok());
  EXPECT_FALSE(native([](auto& h) { h.positive.deltas = {1}; }).ok());
  EXPECT_FALSE(native([](auto& h) { h.positive.deltas = {1, 1, 1}; }).ok());
  EXPECT_FALSE(native([](auto& h) {
                 h.positive.deltas = {std::numeric_limits<int64_t>::max(), 1};
               }).ok());
  EXPECT_FALSE(native([](auto& h) { h.positive.spans = {{64, 1}, {-5, 1}}; }).ok());
  EXPECT_FALSE(native([](auto& h) { h.positive.spans = {{64, UINT32_MAX}}; }).ok());
  EXPECT_FALSE(native([](auto& h) { h.schema = -4; }).ok());
}

}  // namespace

}  // namespace weir
