#pragma once
// hash64: our own seeded 64-bit hash. Not for identity: that is BLAKE2b (common/series.h).
//
// Thread: pure functions. Promise: with process_seed() nobody outside can choose keys that collide:
// both factors of every multiplication hide seed bits, so no input block can zero one, and no two
// places in the input are hashed alike. With a fixed seed every host gets the same values, for
// ever: sketches store them (tests/common/hash_test.cc holds examples). Tables never do that.
// Cost: one 64x64->128 multiplication per 16 bytes, in two lanes side by side, and three more.

#include <cstdint>
#include <cstring>
#include <string_view>

#include "common/bytes.h"

namespace weir {

// Drawn from the kernel once per process.
[[nodiscard]] uint64_t process_seed();

inline uint64_t hash_mix(uint64_t a, uint64_t b) {
  const UInt128 product = UInt128{a} * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline constexpr uint64_t kHashOdd1 = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
inline constexpr uint64_t kHashOdd2 = 0xc2b2ae3d27d4eb4f;  // any odd constant with balanced bits

// A seed made ready: what a table keeps.
struct HashSeed {
  explicit HashSeed(uint64_t drawn)
      : seed(drawn), blind(hash_mix(drawn ^ kHashOdd2, drawn + kHashOdd1) | 1) {}

  uint64_t seed;
  uint64_t blind;
};

inline uint64_t hash64(ByteView bytes, const HashSeed& from_seed) {
  const auto [seed, blind] = from_seed;
  uint64_t h = seed ^ kHashOdd1;
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  const auto load8 = [](const std::byte* from) {
    uint64_t word = 0;
    std::memcpy(&word, from, sizeof word);
    return word;
  };
  const auto load4 = [](const std::byte* from) {
    uint32_t word = 0;
    std::memcpy(&word, from, sizeof word);
    return uint64_t{word};
  };
  // The rest by loads of fixed size, which may overlap: a copy of unknown size is a call.
  if (left > 32) {
    // The lanes' first states differ by what only the seed tells, and they are joined by factors
    // that differ: blocks that change lanes change the hash.
    uint64_t g = blind + kHashOdd2;
    const auto both = [&, blind = blind](const std::byte* from) {
      h = hash_mix(load8(from) ^ h, load8(from + 8) ^ blind);
      g = hash_mix(load8(from + 16) ^ g, load8(from + 24) ^ blind);
    };
    for (; left > 32; at += 32, left -= 32) both(at);
    both(at + left - 32);
    h = hash_mix(h ^ seed, g ^ blind);
  } else if (left > 16) {
    h = hash_mix(load8(at) ^ h, load8(at + 8) ^ blind);
    h = hash_mix(load8(at + left - 16) ^ h, load8(at + left - 8) ^ blind);
  } else if (left >= 8) {
    h = hash_mix(load8(at) ^ h, load8(at + left - 8) ^ blind);
  } else if (left >= 4) {
    h = hash_mix((load4(at) << 32 | load4(at + left - 4)) ^ h, blind);
  } else if (left > 0) {
    const auto byte = [at](size_t i) { return static_cast<uint64_t>(at[i]); };
    h = hash_mix((byte(0) << 16 | byte(left / 2) << 8 | byte(left - 1)) ^ h, blind);
  }
  return hash_mix(h ^ bytes.size(), blind ^ kHashOdd2);  // the length tells "a" from "a\0"
}

inline uint64_t hash64(ByteView bytes, uint64_t seed) { return hash64(bytes, HashSeed(seed)); }

inline uint64_t hash64(uint64_t key, uint64_t seed) {
  // Two rounds: one multiplication by a factor drawn from the seed leaves runs of dense keys in a
  // few slots for about one seed in seven.
  return hash_mix(hash_mix(key ^ seed, kHashOdd1) ^ kHashOdd2, seed | 1);
}

// For unordered containers of texts that strangers choose: std::hash has no seed, so anybody can
// compute texts that meet in one bucket. Looks up views without making strings.
struct TextHash {
  using is_transparent = void;

  size_t operator()(std::string_view text) const { return hash64(as_bytes(text), process_seed()); }
};

}  // namespace weir
