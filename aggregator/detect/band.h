#pragma once
// Band: "is this value large against its own recent past?", one bit per sample of one signal.
//
// Pure: (state, x) -> verdict; no clock, no look-ahead, one fixed threshold. Thread: a value type.
// Promise: score first, learn after; the verdict on the first k samples does not depend on later
// ones; scaling x by a power of two changes no verdict. Cost: ~10 ns, 64 bytes.
// Source: the exponentially weighted z-score with refractory damping of docs/adr/0006-band.md.

#include <cstdint>

namespace weir::aggregator {

struct BandVerdict {
  bool anomalous = false;
  double score = 0;     // damped |z|, at most kMaxBandScore
  double expected = 0;  // mean before this sample
  double sigma = 0;     // scale the sample was judged by
};

inline constexpr double kBandThreshold = 3.3;
inline constexpr double kMaxBandScore = 1000.0;  // a first deviation from a constant is "infinite"

class Band {
 public:
  BandVerdict step(double x);

  [[nodiscard]] uint64_t samples() const { return n_; }

 private:
  double damp(double z);
  void learn(double delta);

  uint64_t n_ = 0;
  double mean_ = 0;
  double variance_ = 0;
  double long_variance_ = 0;
  double last_alarm_ = 0;      // score that last armed the refractory period
  uint64_t age_ = UINT64_MAX;  // samples since then
};

}  // namespace weir::aggregator
