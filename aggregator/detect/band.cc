#include "aggregator/detect/band.h"

#include <algorithm>
#include <cmath>

namespace weir::aggregator {
namespace {

constexpr uint64_t kColdSamples = 40;   // no score until more than these were seen
constexpr double kRefractoryMax = 400;  // samples
constexpr double kArmingLevel = 1.9;
constexpr double kRearmFactor = 1.25;
constexpr double kShortMemory = 1.0 / 100;  // learning rate floors
constexpr double kLongMemory = 1.0 / 2000;
constexpr double kRelativeFloor = 0.01;  // of the mean: no absolute epsilon, scale-free

}  // namespace

BandVerdict Band::step(double x) {
  ++n_;
  if (n_ == 1) {
    mean_ = x;  // the first sample only sets the level
    return {false, 0, x, 0};
  }
  const double delta = x - mean_;
  BandVerdict verdict{false, 0, mean_, 0};
  verdict.sigma =
      std::sqrt(std::max(variance_, long_variance_ / 4)) + kRelativeFloor * std::abs(mean_);
  if (n_ > kColdSamples && delta != 0) {
    const double z = verdict.sigma > 0 ? std::abs(delta) / verdict.sigma : kMaxBandScore;
    verdict.score = damp(std::min(z, kMaxBandScore));
    verdict.anomalous = verdict.score >= kBandThreshold;
  } else {
    damp(0);
  }
  learn(delta);
  return verdict;
}

// After an alarm, scores that are not clearly greater are damped for a while: one event, one alarm.
double Band::damp(double z) {
  if (age_ != UINT64_MAX) ++age_;
  const double refractory = std::min(0.1 * static_cast<double>(n_), kRefractoryMax);
  const double age = age_ == UINT64_MAX ? refractory : static_cast<double>(age_);
  const bool resting = age < refractory;
  if (resting && z < kRearmFactor * last_alarm_) z *= 1 - 0.9 * (1 - age / refractory);
  if (z > kArmingLevel && (!resting || z >= kRearmFactor * last_alarm_)) {
    last_alarm_ = z;
    age_ = 0;
  }
  return z;
}

void Band::learn(double delta) {
  const double n = static_cast<double>(n_);
  const double alpha = std::max(1 / n, kShortMemory);
  mean_ += alpha * delta;
  variance_ = (1 - alpha) * (variance_ + alpha * delta * delta);
  long_variance_ += std::max(1 / n, kLongMemory) * (delta * delta - long_variance_);
}

}  // namespace weir::aggregator
