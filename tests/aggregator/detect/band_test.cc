#include "aggregator/detect/band.h"

#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace weir::aggregator {
namespace {

std::vector<double> quiet(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<double> values;
  for (size_t i = 0; i < n; ++i) values.push_back(100 + static_cast<double>(random() % 11) - 5);
  return values;
}

std::vector<bool> verdicts(const std::vector<double>& values) {
  Band band;
  std::vector<bool> bits;
  for (const double x : values) bits.push_back(band.step(x).anomalous);
  return bits;
}

}  // namespace

TEST(Band, StaysQuietOnAQuietSignal) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    for (const bool bit : verdicts(quiet(500, seed))) EXPECT_FALSE(bit) << "seed " << seed;
  }
}

TEST(Band, SaysNothingWhileCold) {
  std::vector<double> values = quiet(39, 1);
  values.push_back(1e9);
  for (const bool bit : verdicts(values)) EXPECT_FALSE(bit);
}

TEST(Band, FlagsTheFirstSampleOfATripledSignal) {
  std::vector<double> values = quiet(60, 2);
  for (int i = 0; i < 10; ++i) values.push_back(300);
  EXPECT_TRUE(verdicts(values)[60]);
}

TEST(Band, ALevelShiftAlertsOnceNotForEver) {
  std::vector<double> values = quiet(100, 3);
  for (int i = 0; i < 300; ++i) values.push_back(300);
  const std::vector<bool> bits = verdicts(values);
  EXPECT_TRUE(bits[100]);
  for (size_t i = 130; i < bits.size(); ++i) EXPECT_FALSE(bits[i]) << i;
}

TEST(Band, ADeviationFromAConstantZeroIsFlaggedWithAFiniteScore) {
  Band band;
  for (int i = 0; i < 60; ++i) EXPECT_FALSE(band.step(0).anomalous);
  const BandVerdict verdict = band.step(0.01);
  EXPECT_TRUE(verdict.anomalous);
  EXPECT_EQ(verdict.score, kMaxBandScore);
}

TEST(Band, VerdictsDoNotDependOnScale) {
  std::vector<double> values = quiet(200, 4);
  values[150] = 170;
  std::vector<double> scaled = values;
  for (double& x : scaled) x *= 1024;
  EXPECT_EQ(verdicts(values), verdicts(scaled));
}

TEST(Band, VerdictsDoNotDependOnTheFuture) {
  std::vector<double> values = quiet(200, 5);
  values[150] = 170;
  const std::vector<bool> whole = verdicts(values);
  const std::vector<bool> prefix = verdicts({values.begin(), values.begin() + 160});
  EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), whole.begin()));
}

}  // namespace weir::aggregator
