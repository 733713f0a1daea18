#pragma once
// IndexTable: from an integer sample to its base-2 exponential bucket, exactly.
//
// Thread: immutable after the first use of a (scale, quantum), which builds it (thread-safe).
// Promise: bucket i holds 2^(i/N) < x <= 2^((i+1)/N), N = 2^scale, x = quanta * 10^quantum, for
// every v in 1..2^64-1; boundaries come from big integers, so no host ever disagrees. Cost of
// index(): a clz, two shifts, one 16-byte load, one compare; 2 KB a table at scale 6.
//
// Why it is so simple: boundaries repeat in every power of two, are further apart than the
// 2^(scale+1) equal slots of an octave are wide, and so fall at most one to a slot. The kernel
// programs use the same slots (bpf/), so a bucket counted there is the bucket counted here.

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace weir {

// 16 bytes, shared with the kernel programs as raw memory.
struct IndexSlot {
  uint64_t bound = UINT64_MAX;  // floor((boundary / 2^e - 1) * 2^64); all ones: no boundary here
  int32_t sub = 0;              // index of the slot's first value, less e * N
  uint32_t unused = 0;
};

static_assert(sizeof(IndexSlot) == 16);

// 63 - clz(v), v > 0. Plain x86-64 has only bsr, which keeps its target when v is 0 and so waits
// for whatever was there before: in a loop that serialised whole samples (4.6 ns instead of 1.9). A
// target zeroed in sight of the processor waits for nothing.
inline unsigned octave_of(uint64_t v) {
#if defined(__x86_64__) && !defined(__LZCNT__)
  uint64_t octave = 0;
  asm("bsrq %1, %0" : "+r"(octave) : "rm"(v) : "cc");
  return static_cast<unsigned>(octave);
#else
  return 63U - static_cast<unsigned>(std::countl_zero(v));
#endif
}

// Octave e = 63 - clz(v); slots are those of index_table(scale, quantum). v > 0.
inline int32_t index_of(const IndexSlot* slots, uint8_t scale, uint64_t v) {
  const unsigned e = octave_of(v);
  // (v / 2^e - 1) * 2^64, but for the leading one, which comes round into bit 0.
  const uint64_t turned = std::rotr(v, static_cast<int>(e));
  const IndexSlot& slot = slots[turned >> (63 - scale)];
  return static_cast<int32_t>(e << scale) + slot.sub +
         static_cast<int32_t>((turned ^ 1) > slot.bound);
}

class IndexTable {
 public:
  IndexTable(uint8_t scale, int8_t quantum);  // for index_table(); builds, about 1 ms at scale 6

  [[nodiscard]] std::span<const IndexSlot> slots() const { return slots_; }

  [[nodiscard]] uint8_t scale() const { return scale_; }

  [[nodiscard]] int8_t quantum() const { return quantum_; }

  [[nodiscard]] int32_t index(uint64_t v) const { return index_of(slots_.data(), scale_, v); }

  // Indices of 1 and of 2^64 - 1 quanta: -1914 and 2182 at scale 6, quantum -9.
  [[nodiscard]] int32_t lowest() const { return lowest_; }

  [[nodiscard]] int32_t highest() const { return highest_; }

  // Bucket i holds lower_edge(i) < x <= lower_edge(i + 1), in the metric's unit.
  [[nodiscard]] double lower_edge(int32_t index) const;
  // Quanta in the metric's unit.
  [[nodiscard]] double to_unit(double quanta) const;

 private:
  uint8_t scale_;
  int8_t quantum_;
  std::vector<IndexSlot> slots_;
  int32_t lowest_ = 0;
  int32_t highest_ = 0;
};

// Scales 5, 6, 7, coarser ones down to 0 for what is imported; quanta 0, -3, -6, -9. Nothing else
// has a table.
[[nodiscard]] bool index_supported(uint8_t scale, int8_t quantum);
[[nodiscard]] const IndexTable& index_table(uint8_t scale, int8_t quantum);

}  // namespace weir
