#include "common/sketch/cell_sums.h"

#include "common/sketch/packed_counts.h"

namespace weir {

namespace {

enum class Sums : uint8_t { kFit, kMayPass };

// Fixed inner loops over arrays that do not overlap become vector code, of the kind of the function
// they are inlined into. False if a sum passed; all are taken modulo the width then.
template <Sums kSums, class To, class From>
inline __attribute__((always_inline)) bool add_run(To* __restrict to, const From* __restrict from,
                                                   size_t cells) {
  To passed[kGroupCounts] = {};
  for (size_t group = 0; group < cells; group += kGroupCounts) {
    for (size_t i = 0; i < kGroupCounts; ++i) {
      const auto more = static_cast<To>(from[group + i]);
      const auto sum = static_cast<To>(to[group + i] + more);
      if constexpr (kSums == Sums::kMayPass) passed[i] |= static_cast<To>(sum < more ? 1 : 0);
      to[group + i] = sum;
    }
  }
  To any = 0;
  for (const To each : passed) any |= each;
  return any == 0;
}

#if defined(__x86_64__)

template <Sums kSums, class To, class From>
__attribute__((target("avx2"))) bool add_avx2(To* to, const From* from, size_t cells) {
  return add_run<kSums>(to, from, cells);
}

template <Sums kSums, class To, class From>
bool add(To* to, std::span<const From> from) {
  static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  return avx2 ? add_avx2<kSums>(to, from.data(), from.size())
              : add_run<kSums>(to, from.data(), from.size());
}

#else

template <Sums kSums, class To, class From>
bool add(To* to, std::span<const From> from) {
  return add_run<kSums>(to, from.data(), from.size());
}

#endif

}  // namespace

template <class To, class From>
void add_cells(To* to, std::span<const From> from) {
  add<Sums::kFit>(to, from);
}

template <class To, class From>
bool try_add_cells(To* to, std::span<const From> from) {
  if (add<Sums::kMayPass>(to, from)) return true;
  for (size_t i = 0; i < from.size(); ++i) to[i] = static_cast<To>(to[i] - from[i]);
  return false;
}

template void add_cells(uint16_t*, std::span<const uint16_t>);
template void add_cells(uint32_t*, std::span<const uint16_t>);
template void add_cells(uint32_t*, std::span<const uint32_t>);
template void add_cells(uint64_t*, std::span<const uint16_t>);
template void add_cells(uint64_t*, std::span<const uint32_t>);
template void add_cells(uint64_t*, std::span<const uint64_t>);
template bool try_add_cells(uint16_t*, std::span<const uint16_t>);
template bool try_add_cells(uint32_t*, std::span<const uint16_t>);
template bool try_add_cells(uint32_t*, std::span<const uint32_t>);

}  // namespace weir
