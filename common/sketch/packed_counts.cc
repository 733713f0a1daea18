#include "common/sketch/packed_counts.h"

#include <algorithm>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/check.h"

namespace weir {

uint8_t packed_width(const CountGroup& counts) {
  uint64_t all = 0;
  for (const uint64_t count : counts) all |= count;
  return static_cast<uint8_t>(std::bit_width(all));
}

void pack_counts(const CountGroup& counts, uint8_t width, Bytes& out) {
  const size_t start = out.size();
  out.resize(start + size_t{2} * width);
  std::byte* to = out.data() + start;
  UInt128 pending = 0;
  unsigned bits = 0;  // below 64 between counts
  uint64_t all = 0;
  for (const uint64_t count : counts) {
    all |= count;
    pending |= static_cast<UInt128>(count) << bits;
    bits += width;
    if (bits < 64) continue;
    const auto word = static_cast<uint64_t>(pending);
    std::memcpy(to, &word, sizeof word);
    to += sizeof word;
    pending >>= 64;
    bits -= 64;
  }
  WEIR_CHECK(std::bit_width(all) <= width);
  const auto word = static_cast<uint64_t>(pending);
  if (bits != 0) std::memcpy(to, &word, bits / 8);  // 16 counts end on a byte; of width 0 nowhere
}

void pack_counts16(std::span<const uint16_t> counts, Bytes& widths, Bytes& packed) {
  constexpr size_t kReach = 16;  // a store may pass the end of a group by less
  const size_t groups = counts.size() / kGroupCounts;
  const size_t first_width = widths.size();
  const size_t start = packed.size();
  widths.resize(first_width + groups);
  packed.resize(start + groups * 32 + kReach);
  std::byte* to = packed.data() + start;
  for (size_t group = 0; group < groups; ++group) {
    std::array<uint64_t, 4> quarters;
    std::memcpy(quarters.data(), counts.data() + group * kGroupCounts, sizeof quarters);
    uint64_t all = quarters[0] | quarters[1] | quarters[2] | quarters[3];
    all |= all >> 32;
    all |= all >> 16;
    const auto width = static_cast<unsigned>(std::bit_width(static_cast<uint16_t>(all)));
    widths[first_width + group] = static_cast<std::byte>(width);
    // Four counts of 16 bits move together by halves, as they are spread when unpacked.
    for (uint64_t& quarter : quarters) {
      const uint64_t pairs =
          (quarter & 0x0000ffff0000ffff) | (quarter & 0xffff0000ffff0000) >> (16 - width);
      quarter = (pairs & UINT32_MAX) | pairs >> 32 << (2 * width);
    }
    for (size_t half = 0; half < 2; ++half) {  // eight counts take `width` bytes
      const UInt128 word = quarters[2 * half] | UInt128{quarters[2 * half + 1]} << (4 * width);
      std::memcpy(to, &word, sizeof word);
      to += width;
    }
  }
  packed.resize(static_cast<size_t>(to - packed.data()));
}

void unpack_counts(ByteView in, uint8_t width, CountGroup& counts) {
  WEIR_CHECK(width <= kMaxPackedWidth && in.size() >= size_t{2} * width);
  const uint64_t mask = width == 64 ? UINT64_MAX : (uint64_t{1} << width) - 1;
  UInt128 pending = 0;
  unsigned bits = 0;
  size_t next = 0;
  for (uint64_t& count : counts) {
    for (; bits < width; bits += 8) {  // at most 63 + 8 bits are ever pending
      pending |= static_cast<UInt128>(static_cast<uint8_t>(in[next++])) << bits;
    }
    count = static_cast<uint64_t>(pending) & mask;
    pending >>= width;
    bits -= width;
  }
}

RunSize run_size(ByteView widths) {
  WEIR_CHECK(widths.size() <= kMaxRun);
  constexpr uint64_t kEachByte = 0x0101010101010101;
  constexpr uint64_t kEven = 0x00ff00ff00ff00ff;
  // Adding 127 - limit to a byte sets its top bit if it passes the limit. A byte of 128 or more may
  // carry into the next one, but then the run is refused anyway.
  const auto passing = [](uint64_t word, uint64_t limit) {
    return word + kEachByte * (127 - limit);
  };
  uint64_t sums = 0;  // four lanes of 16 bits: two bytes of each of 128 words fit
  uint64_t past16 = 0;
  uint64_t past32 = 0;
  uint64_t past64 = 0;
  for (size_t at = 0; at < widths.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    const size_t left = widths.size() - at;
    if (left >= sizeof word) {
      std::memcpy(&word, widths.data() + at, sizeof word);
    } else if (at > 0) {  // the last eight, without those that were counted
      std::memcpy(&word, widths.data() + widths.size() - sizeof word, sizeof word);
      word >>= 8 * (sizeof word - left);
    } else {
      for (size_t i = 0; i < left; ++i) word |= static_cast<uint64_t>(widths[i]) << (8 * i);
    }
    sums += (word & kEven) + ((word >> 8) & kEven);
    past16 |= passing(word, 16);
    past32 |= passing(word, 32);
    past64 |= passing(word, 64) | word;
  }
  const uint64_t total =
      (sums & 0xffff) + (sums >> 16 & 0xffff) + (sums >> 32 & 0xffff) + (sums >> 48);
  constexpr uint64_t kTop = kEachByte << 7;
  RunSize out{.packed = 2 * static_cast<size_t>(total)};
  if ((past64 & kTop) != 0) {
    out.cell_bytes = 0;
  } else if ((past32 & kTop) != 0) {
    out.cell_bytes = 8;
  } else if ((past16 & kTop) != 0) {
    out.cell_bytes = 4;
  }
  return out;
}

namespace {

// What of a run can be read by loads that pass the end of a group, up to kReach bytes from its
// start: first all that has as much behind it, then the rest from a copy that has.
template <size_t kReach>
class RunBytes {
 public:
  explicit RunBytes(ByteView packed) : rest_(packed) {}

  // The next bytes to read groups from, while kReach of them are left; empty at the end of all.
  ByteView next(const std::byte* used_up_to) {
    rest_ = rest_.subspan(static_cast<size_t>(used_up_to - rest_.data()));
    if (rest_.size() < kReach) {
      if (in_copy_) return {};
      in_copy_ = true;
      std::ranges::copy(rest_, copy_.begin());
      rest_ = copy_;
    }
    return rest_;
  }

 private:
  ByteView rest_;
  bool in_copy_ = false;
  std::array<std::byte, 2 * kReach> copy_{};
};

}  // namespace

bool unpack_counts16_portable(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum) {
  constexpr uint64_t kEven = 0x0000ffff0000ffff;
  constexpr size_t kReach = 32 + 8;  // the widest group, and what an 8-byte load may pass it by
  RunBytes<kReach> run(packed);
  uint64_t sums = 0;  // two 32-bit lanes, each 8 counts a group
  unsigned wrong = 0;
  size_t next = 0;
  const std::byte* from = packed.data();
  while (next < widths.size()) {
    const ByteView bytes = run.next(from);
    WEIR_CHECK(!bytes.empty());  // more than the widths say
    from = bytes.data();
    const std::byte* last = from + bytes.size() - kReach;
    for (; next < widths.size() && from <= last; ++next) {
      const auto width = static_cast<unsigned>(widths[next]);
      WEIR_CHECK(width <= 16);
      const uint64_t low = (uint64_t{1} << width) - 1;
      const uint64_t pair = low << width | low;
      const uint64_t lanes = low << 32 | low;
      uint64_t all = 0;
      // Four counts start at bit 4 * width * quarter, half a byte in at most: 64 bits hold them.
      // They are spread from `width` to 16 bits by halves: first the pairs, then the counts.
      const auto unpack_quarter = [&](unsigned quarter) __attribute__((always_inline)) {
        const unsigned bit = 4 * width * quarter;
        uint64_t word = 0;
        std::memcpy(&word, from + bit / 8, sizeof word);
        word >>= bit % 8;
        const uint64_t pairs = (word & pair) | ((word >> (2 * width)) & pair) << 32;
        const uint64_t spread = (pairs & lanes) | ((pairs << (16 - width)) & lanes << 16);
        std::memcpy(counts + 4 * size_t{quarter}, &spread, sizeof spread);
        all |= spread;
        sums += (spread & kEven) + ((spread >> 16) & kEven);
      };
      unpack_quarter(0);
      unpack_quarter(1);
      unpack_quarter(2);
      unpack_quarter(3);
      all |= all >> 32;
      all |= all >> 16;
      wrong |= static_cast<unsigned>(std::bit_width(static_cast<uint16_t>(all))) ^ width;
      counts += kGroupCounts;
      from += size_t{2} * width;
    }
  }
  sum += (sums & UINT32_MAX) + (sums >> 32);
  return wrong == 0;
}

#if defined(__x86_64__)

namespace {

// Where the counts of a group of one width lie. Eight counts take `width` bytes, so both halves of
// a group look alike, each in its half of a register; a count and the bits before it in its byte
// fit four bytes.
struct alignas(32) Spread {
  std::array<uint8_t, 32> low{};   // the bytes of counts 0..3 and 8..11, four each; 0x80: none
  std::array<uint8_t, 32> high{};  // 4..7 and 12..15
  std::array<uint32_t, 8> low_shift{};
  std::array<uint32_t, 8> high_shift{};
  std::array<uint32_t, 8> mask{};
  std::array<uint32_t, 8> top{};  // the mask's highest bit
};

constexpr std::array<Spread, 17> spreads() {
  std::array<Spread, 17> out{};
  for (unsigned width = 0; width <= 16; ++width) {
    Spread& spread = out[width];
    spread.mask.fill((1U << width) - 1);
    spread.top.fill((1U << width) >> 1);
    for (unsigned lane = 0; lane < 8; ++lane) {
      const auto place = [&](unsigned count, auto& bytes, auto& shift) {
        shift[lane] = count * width % 8;
        for (unsigned b = 0; b < 4; ++b) {
          const unsigned at = count * width / 8 + b;
          bytes[4 * lane + b] = static_cast<uint8_t>(at < 16 ? at : 0x80);
        }
      };
      place(lane % 4, spread.low, spread.low_shift);
      place(lane % 4 + 4, spread.high, spread.high_shift);
    }
  }
  return out;
}

constexpr std::array<Spread, 17> kSpreads = spreads();

__attribute__((target("avx2"))) bool unpack_counts16_avx2(ByteView widths, ByteView packed,
                                                          uint16_t* counts, uint64_t& sum) {
  const auto load = [](const std::byte* from) __attribute__((target("avx2"), always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  const auto all = [](const auto& field) __attribute__((target("avx2"), always_inline)) {
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(&field));
  };
  constexpr size_t kReach = 32;  // the second half's 16 bytes start `width` bytes in
  RunBytes<kReach> run(packed);
  __m256i sums = _mm256_setzero_si256();  // eight lanes, each two counts a group
  unsigned missing = 0;                   // bit 8: no count of some group has its top bit
  size_t next = 0;
  const std::byte* from = packed.data();
  while (next < widths.size()) {
    const ByteView bytes = run.next(from);
    WEIR_CHECK(!bytes.empty());  // more than the widths say
    from = bytes.data();
    const std::byte* last = from + bytes.size() - kReach;
    for (; next < widths.size() && from <= last; ++next) {
      const auto width = static_cast<size_t>(widths[next]);
      WEIR_CHECK(width <= 16);
      const Spread& spread = kSpreads[width];
      const __m256i both = _mm256_set_m128i(load(from + width), load(from));
      __m256i low = _mm256_shuffle_epi8(both, all(spread.low));
      __m256i high = _mm256_shuffle_epi8(both, all(spread.high));
      low = _mm256_srlv_epi32(low, all(spread.low_shift));
      high = _mm256_srlv_epi32(high, all(spread.high_shift));
      const __m256i tops = _mm256_and_si256(_mm256_or_si256(low, high), all(spread.top));
      const __m256i without = _mm256_cmpgt_epi32(all(spread.top), tops);
      missing |= static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(without))) + 1;
      low = _mm256_and_si256(low, all(spread.mask));
      high = _mm256_and_si256(high, all(spread.mask));
      sums = _mm256_add_epi32(sums, _mm256_add_epi32(low, high));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts), _mm256_packus_epi32(low, high));
      counts += kGroupCounts;
      from += 2 * width;
    }
  }
  std::array<uint32_t, 8> lanes{};
  std::memcpy(lanes.data(), &sums, sizeof lanes);
  for (const uint32_t lane : lanes) sum += lane;
  return (missing & 0x100) == 0;
}

}  // namespace

bool unpack_counts16(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum) {
  WEIR_CHECK(widths.size() <= kMaxRun);
  static const auto unpack =
      __builtin_cpu_supports("avx2") != 0 ? &unpack_counts16_avx2 : &unpack_counts16_portable;
  return unpack(widths, packed, counts, sum);
}

#else

bool unpack_counts16(ByteView widths, ByteView packed, uint16_t* counts, uint64_t& sum) {
  WEIR_CHECK(widths.size() <= kMaxRun);
  return unpack_counts16_portable(widths, packed, counts, sum);
}

#endif

}  // namespace weir
