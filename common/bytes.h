#pragma once
// Bytes in and out: little-endian integers and minimal varints, bounds-checked.
//
// Thread: plain values. Promise: a reader never reads past its end and never allocates; varints
// must be minimal (one value, one encoding). Cost: inline.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace weir {

static_assert(std::endian::native == std::endian::little, "Weir's encodings assume little-endian");

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;
__extension__ typedef __int128 Int128;            // NOLINT: exact sums need 128 bits
__extension__ typedef unsigned __int128 UInt128;  // NOLINT

inline ByteView as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class ByteWriter {
 public:
  template <class T>
  requires std::is_trivially_copyable_v<T>

  void put(T value) {
    const auto at = bytes_.size();
    bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }

  void append(ByteView more) { bytes_.insert(bytes_.end(), more.begin(), more.end()); }

  void varint(UInt128 value) {
    while (value >= 0x80) {
      bytes_.push_back(static_cast<std::byte>((static_cast<unsigned>(value) & 0x7f) | 0x80));
      value >>= 7;
    }
    bytes_.push_back(static_cast<std::byte>(value));
  }

  void zigzag(Int128 value) {
    varint((static_cast<UInt128>(value) << 1) ^ static_cast<UInt128>(value >> 127));
  }

  void text(std::string_view value) {  // length, then bytes
    varint(value.size());
    append(as_bytes(value));
  }

  [[nodiscard]] size_t size() const { return bytes_.size(); }

  [[nodiscard]] const Bytes& bytes() const& { return bytes_; }

  [[nodiscard]] Bytes take() && { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

// Every get returns false, and the reader stays failed, when the input is short or not minimal.
class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}
  template <class T>
  requires std::is_trivially_copyable_v<T>

  [[nodiscard]] bool get(T& value) {
    if (failed_ || rest_.size() < sizeof value) return fail();
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return true;
  }

  [[nodiscard]] bool varint(uint64_t& value) {
    if (short_varint(value)) return true;
    UInt128 wide = 0;
    if (!long_varint(wide) || wide > UINT64_MAX) return fail();
    value = static_cast<uint64_t>(wide);
    return true;
  }

  [[nodiscard]] bool varint128(UInt128& value) {
    uint64_t narrow = 0;
    if (!short_varint(narrow)) return long_varint(value);
    value = narrow;
    return true;
  }

  [[nodiscard]] bool zigzag(Int128& value) {
    UInt128 raw = 0;
    if (!varint128(raw)) return false;
    value = static_cast<Int128>(raw >> 1) ^ -static_cast<Int128>(raw & 1);
    return true;
  }

  [[nodiscard]] bool view(size_t size, ByteView& out) {
    if (failed_ || rest_.size() < size) return fail();
    out = rest_.first(size);
    rest_ = rest_.subspan(size);
    return true;
  }

  [[nodiscard]] bool text(std::string_view& out, size_t max) {
    uint64_t size = 0;
    ByteView raw;
    if (!varint(size) || size > max || !view(size, raw)) return fail();
    out = {reinterpret_cast<const char*>(raw.data()), raw.size()};
    return true;
  }

  [[nodiscard]] ByteView rest() const { return rest_; }

  [[nodiscard]] size_t remaining() const { return rest_.size(); }

  [[nodiscard]] bool failed() const { return failed_; }

 private:
  // Up to eight bytes, from eight that can be read at once: nearly all. Else takes nothing.
  [[nodiscard]] bool short_varint(uint64_t& value) {
    constexpr uint64_t kEachByte = 0x0101010101010101;
    if (failed_ || rest_.size() < sizeof value) return false;
    uint64_t word = 0;
    std::memcpy(&word, rest_.data(), sizeof word);
    const uint64_t ends = ~word & kEachByte << 7;
    if (ends == 0) return false;
    const auto bytes = static_cast<unsigned>(std::countr_zero(ends)) / 8 + 1;
    word &= UINT64_MAX >> (64 - 8 * bytes);
    if (bytes > 1 && word >> (8 * bytes - 8) == 0) return false;  // not minimal
    // Seven bits of each byte, brought together pairwise.
    word = (word & 0x007f007f007f007f) | (word & 0x7f007f007f007f00) >> 1;
    word = (word & 0x00003fff00003fff) | (word & 0x3fff00003fff0000) >> 2;
    value = (word & 0x000000000fffffff) | (word & 0x0fffffff00000000) >> 4;
    rest_ = rest_.subspan(bytes);
    return true;
  }

  [[nodiscard]] bool long_varint(UInt128& value) {
    if (failed_) return false;
    value = 0;
    for (unsigned shift = 0; shift < 133; shift += 7) {
      if (rest_.empty()) return fail();
      const auto byte = static_cast<unsigned>(rest_.front());
      rest_ = rest_.subspan(1);
      if (shift == 126 && byte > 3) return fail();  // more than 128 bits
      value |= static_cast<UInt128>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return (byte != 0 || shift == 0) || fail();
    }
    return fail();
  }

  bool fail() {
    failed_ = true;
    return false;
  }

  ByteView rest_;
  bool failed_ = false;
};

}  // namespace weir
