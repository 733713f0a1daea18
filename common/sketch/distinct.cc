#include "common/sketch/distinct.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

#include "common/check.h"

namespace weir {

namespace {

constexpr auto kRegisterCount = static_cast<double>(Distinct::kRegisters);

// Sixteen registers at once: one instruction where there is one for it.
typedef uint8_t Lanes __attribute__((vector_size(16)));  // NOLINT: an alias loses the attribute

// Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6, the
// improved raw estimator: one formula for every cardinality, without tables or switches.
// sigma and tau correct for registers that are 0 and that are full; x is their share.
double sigma(double x) {
  if (x == 1) return std::numeric_limits<double>::infinity();
  double y = 1;
  double z = x;
  for (double before = -1; z != before;) {
    before = z;
    x *= x;
    z += x * y;
    y += y;
  }
  return z;
}

double tau(double x) {
  if (x == 0 || x == 1) return 0;
  double y = 1;
  double z = 1 - x;
  for (double before = -1; z != before;) {
    before = z;
    x = std::sqrt(x);
    y *= 0.5;
    z -= (1 - x) * (1 - x) * y;
  }
  return z / 3;
}

double raw_estimate(std::span<const uint8_t> registers) {
  std::array<uint32_t, Distinct::kMaxRegister + 1> shares{};
  for (const uint8_t at : registers) ++shares[at];
  const auto share = [&](size_t value) { return static_cast<double>(shares[value]); };
  double z = kRegisterCount * tau(1 - share(Distinct::kMaxRegister) / kRegisterCount);
  for (size_t value = Distinct::kMaxRegister - 1; value >= 1; --value) z = 0.5 * (z + share(value));
  z += kRegisterCount * sigma(share(0) / kRegisterCount);
  return kRegisterCount * kRegisterCount / (2 * std::log(2.0) * z);
}

}  // namespace

Error Distinct::too_many() { return {Errc::kLimit, "a count would pass 2^63-1"}; }

void Distinct::list(uint64_t hash) {
  const auto at = std::ranges::lower_bound(hashes_, hash);
  if (at != hashes_.end() && *at == hash) return;
  if (hashes_.size() < kMaxList) {
    hashes_.insert(at, hash);
    return;
  }
  to_registers();
  raise(hash);
}

void Distinct::list_all(std::span<const uint64_t> hashes) {
  std::vector<uint64_t> both;
  both.reserve(hashes_.size() + hashes.size());
  std::ranges::set_union(hashes_, hashes, std::back_inserter(both));
  hashes_ = std::move(both);
  if (hashes_.size() > kMaxList) to_registers();
}

void Distinct::to_registers() {
  registers_.assign(kRegisters, 0);
  for (const uint64_t hash : hashes_) raise(hash);
  hashes_ = {};
}

Status Distinct::merge(const Distinct& other) {
  if (other.n_ > kMaxCount - n_) return too_many();
  n_ += other.n_;
  if (exact() && other.exact()) {
    list_all(other.hashes_);
    return {};
  }
  if (exact()) to_registers();
  if (other.exact()) {
    for (const uint64_t hash : other.hashes_) raise(hash);
    return {};
  }
  for (size_t at = 0; at < kRegisters; at += sizeof(Lanes)) {
    Lanes into;
    Lanes from;
    std::memcpy(&into, &registers_[at], sizeof into);
    std::memcpy(&from, &other.registers_[at], sizeof from);
    into = from > into ? from : into;
    std::memcpy(&registers_[at], &into, sizeof into);
  }
  return {};
}

Estimate Distinct::estimate() const {
  if (exact()) {
    const auto count = static_cast<double>(hashes_.size());
    return {.value = count, .lo = count, .hi = count};
  }
  const double least = static_cast<double>(kMaxList) + 1;
  const double most = std::max(least, static_cast<double>(n_));
  const double value = raw_estimate(registers_);
  const auto certain = [&](double x) { return std::clamp(x, least, most); };
  return {.value = certain(value),
          .lo = certain(value * (1 - 3 * kStandardError)),
          .hi = certain(value * (1 + 3 * kStandardError))};
}

size_t Distinct::memory_bytes() const {
  return hashes_.capacity() * sizeof(uint64_t) + registers_.capacity();
}

Result<Distinct> Distinct::from_hashes(uint64_t n, std::vector<uint64_t> hashes) {
  if (hashes.size() > kMaxList) return invalid("distinct: a list of too many members");
  if (n > kMaxCount || n < hashes.size() || (n == 0) != hashes.empty()) {
    return invalid("distinct: n contradicts the members");
  }
  if (std::ranges::adjacent_find(hashes, std::greater_equal{}) != hashes.end()) {
    return invalid("distinct: hashes not ascending");
  }
  Distinct out;
  out.n_ = n;
  out.hashes_ = std::move(hashes);
  return out;
}

Result<Distinct> Distinct::from_registers(uint64_t n, std::vector<uint8_t> registers) {
  if (registers.size() != kRegisters) return invalid("distinct: another number of registers");
  const auto above = [](uint8_t limit) { return [limit](uint8_t at) { return at > limit; }; };
  if (std::ranges::any_of(registers, above(kMaxRegister))) {
    return invalid("distinct: a register beyond 53");
  }
  const auto filled = static_cast<uint64_t>(std::ranges::count_if(registers, above(0)));
  if (filled == 0 || n > kMaxCount || n <= kMaxList || n < filled) {
    return invalid("distinct: n contradicts the registers");
  }
  Distinct out;
  out.n_ = n;
  out.registers_ = std::move(registers);
  return out;
}

}  // namespace weir
