#pragma once
// Distinct: how many different members were seen, exact up to 256 and by HyperLogLog (4,096
// registers) beyond.
//
// Owner and thread: one owner, one thread; a value type. Promise: merging is the union, so any
// merge tree gives the same bytes; the form depends only on the set: a sorted list of hashes up to
// kMaxList, registers beyond, and never back. `n` is the exact number of events added. Cost: a
// register is one load and compare, a list member a binary search; at most 4 KiB. Members come as
// hash_of(), whose seed every host shares; so who chooses members can also bend the estimate, but
// never past n.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/hash.h"
#include "common/result.h"
#include "common/sketch/distribution.h"

namespace weir {

class Distinct {
 public:
  static constexpr unsigned kBits = 12;  // of a hash, to choose the register
  static constexpr size_t kRegisters = size_t{1} << kBits;
  static constexpr size_t kMaxList = 256;
  static constexpr uint8_t kMaxRegister = 64 - kBits + 1;
  static constexpr double kStandardError = 0.0163;  // 1.04 / sqrt(4096), rounded up

  // For ever the same, on every host: what it gives is stored.
  [[nodiscard]] static uint64_t hash_of(std::string_view member) {
    return hash64(as_bytes(member), 0x7765697264697374);
  }

  // Adds a member that n events named; no events change nothing. kLimit, and nothing changed, if
  // n() would pass kMaxCount.
  Status add(uint64_t hash, uint64_t n = 1) {
    if (n > kMaxCount - n_) [[unlikely]] {
      return too_many();
    }
    n_ += n;
    if (registers_.empty()) [[unlikely]] {
      if (n > 0) list(hash);
    } else if (n > 0) {
      raise(hash);
    }
    return {};
  }

  // On failure (kLimit) nothing is changed.
  Status merge(const Distinct& other);

  // A list is exact: lo == value == hi. Registers: three standard errors (99.7 % of sets chosen
  // without regard to the hash), within the certain (kMaxList, n].
  [[nodiscard]] Estimate estimate() const;

  [[nodiscard]] uint64_t n() const { return n_; }

  [[nodiscard]] bool exact() const { return registers_.empty(); }

  [[nodiscard]] std::span<const uint64_t> hashes() const { return hashes_; }  // ascending

  [[nodiscard]] std::span<const uint8_t> registers() const { return registers_; }  // none: a list

  [[nodiscard]] size_t memory_bytes() const;

  // The inverses of the accessors; refuse (kInvalid) what those cannot have given.
  static Result<Distinct> from_hashes(uint64_t n, std::vector<uint64_t> hashes);
  static Result<Distinct> from_registers(uint64_t n, std::vector<uint8_t> registers);

  friend bool operator==(const Distinct&, const Distinct&) = default;

 private:
  static Error too_many();
  void list(uint64_t hash);  // registers_ are not in use before
  void list_all(std::span<const uint64_t> hashes);
  void to_registers();

  void raise(uint64_t hash) {
    uint8_t& at = registers_[hash >> (64 - kBits)];
    // Leading zeros of the other bits, and 1; the bit set below them stops the count.
    const uint64_t rest = (hash << kBits) | (uint64_t{1} << (kBits - 1));
    const auto rank = static_cast<uint8_t>(__builtin_clzll(rest) + 1);
    if (rank > at) at = rank;
  }

  uint64_t n_ = 0;
  std::vector<uint64_t> hashes_;
  std::vector<uint8_t> registers_;
};

}  // namespace weir
