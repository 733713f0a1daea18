#pragma once
// Adding runs of counters, 16 at a time: the inner loop of every merge.
//
// Pure. Cells are uint16_t, uint32_t or uint64_t, `to` at least as wide as `from`; the runs are as
// long as `from`, a multiple of 16, and do not overlap. With AVX2 where the processor has it.

#include <cstddef>
#include <cstdint>
#include <span>

namespace weir {

// No sum may pass the width of `to`.
template <class To, class From>
void add_cells(To* to, std::span<const From> from);
// False if some sum would: then nothing is changed.
template <class To, class From>
[[nodiscard]] bool try_add_cells(To* to, std::span<const From> from);

}  // namespace weir
