#pragma once
// Columns of 64-bit numbers in a verified FlatBuffer, read by copy: the verifier checks the
// alignment of a vector's length, which is four bytes wide, and not that of its entries.
//
// Pure; for decoders only (it includes flatbuffers). An absent column is an empty one.

#include <cstdint>
#include <cstring>

#include <flatbuffers/flatbuffers.h>

namespace weir {

using FlatNumbers = flatbuffers::Vector<uint64_t>;

inline size_t size_of(const FlatNumbers* numbers) {
  return numbers == nullptr ? 0 : numbers->size();
}

inline uint64_t number_at(const FlatNumbers* numbers, size_t index) {
  uint64_t number = 0;
  std::memcpy(&number, numbers->Data() + index * sizeof number, sizeof number);
  return number;
}

}  // namespace weir
