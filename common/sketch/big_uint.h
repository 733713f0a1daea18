#pragma once
// BigUint: unsigned integers of any size, just enough to prove where a bucket ends: multiply,
// shift, compare. Pure; a value type. Cost: schoolbook, one allocation a result; never on a hot
// path.

#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/bytes.h"

namespace weir {

class BigUint {
 public:
  BigUint(UInt128 value) {  // NOLINT: implicit on purpose: integers are BigUints
    for (; value != 0; value >>= 64) limbs_.push_back(static_cast<uint64_t>(value));
  }

  [[nodiscard]] size_t bit_length() const {
    if (limbs_.empty()) return 0;
    return 64 * limbs_.size() - static_cast<size_t>(std::countl_zero(limbs_.back()));
  }

  friend BigUint operator*(const BigUint& a, const BigUint& b) {
    BigUint out(0);
    out.limbs_.resize(a.limbs_.size() + b.limbs_.size());
    for (size_t i = 0; i < a.limbs_.size(); ++i) {
      UInt128 carry = 0;
      for (size_t j = 0; j < b.limbs_.size(); ++j) {
        carry += static_cast<UInt128>(a.limbs_[i]) * b.limbs_[j] + out.limbs_[i + j];
        out.limbs_[i + j] = static_cast<uint64_t>(carry);
        carry >>= 64;
      }
      out.limbs_[i + b.limbs_.size()] = static_cast<uint64_t>(carry);
    }
    out.trim();
    return out;
  }

  friend BigUint operator<<(const BigUint& a, size_t bits) {
    BigUint out(0);
    out.limbs_.resize(bits / 64);
    UInt128 carry = 0;
    for (const uint64_t limb : a.limbs_) {
      carry |= static_cast<UInt128>(limb) << (bits % 64);
      out.limbs_.push_back(static_cast<uint64_t>(carry));
      carry >>= 64;
    }
    out.limbs_.push_back(static_cast<uint64_t>(carry));
    out.trim();
    return out;
  }

  friend bool operator==(const BigUint&, const BigUint&) = default;

  friend std::strong_ordering operator<=>(const BigUint& a, const BigUint& b) {
    if (a.limbs_.size() != b.limbs_.size()) return a.limbs_.size() <=> b.limbs_.size();
    for (size_t i = a.limbs_.size(); i-- > 0;) {
      if (a.limbs_[i] != b.limbs_[i]) return a.limbs_[i] <=> b.limbs_[i];
    }
    return std::strong_ordering::equal;
  }

 private:
  void trim() {
    while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
  }

  std::vector<uint64_t> limbs_;  // least significant first, no zero on top
};

// base^exponent by squaring.
inline BigUint power(BigUint base, unsigned exponent) {
  BigUint out(1);
  for (; exponent != 0; exponent >>= 1) {
    if ((exponent & 1) != 0) out = out * base;
    if (exponent > 1) base = base * base;
  }
  return out;
}

}  // namespace weir
