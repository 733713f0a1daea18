#pragma once
// ByteTable: a hash table from byte strings to u32, for keys that strangers choose.
//
// Owner: SeriesTable, Symbols, a source's own cache; one thread. Promise: keys are compared in
// full; with the process's seed (common/hash.h) nobody can choose keys that meet. Keys never move:
// a Key* holds until that key is erased. No tombstones: a table that was full and is empty again
// is as fast and almost as small as a new one. The owner bounds it.
// Cost: a hit is one hash of contiguous bytes, one probe and one compare; 16-byte slots, at most
// 5/8 full, and one allocation a key. memory_bytes() is kept up to date.
//
// One table may hold keys of several meanings: `space` is a part of the key.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "common/bytes.h"
#include "common/hash.h"

namespace weir {

// What malloc takes for `size` bytes (glibc: 8 bytes more, in steps of 16).
constexpr size_t heap_bytes(size_t size) { return size <= 24 ? 32 : (size + 8 + 15) & ~size_t{15}; }

class ByteTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;  // not a value

  struct Key {
    uint32_t space;
    uint32_t size;
    Key* next;  // the owner's: for lists of keys

    [[nodiscard]] ByteView bytes() const {
      return {reinterpret_cast<const std::byte*>(this + 1), size};
    }

    [[nodiscard]] std::string_view text() const {
      return {reinterpret_cast<const char*>(this + 1), size};
    }
  };

  explicit ByteTable(uint64_t seed = process_seed());
  ~ByteTable();
  ByteTable(const ByteTable&) = delete;
  ByteTable& operator=(const ByteTable&) = delete;
  ByteTable(ByteTable&&) = delete;
  ByteTable& operator=(ByteTable&&) = delete;

  // A key's hash, which find() may be given: loops over many keys hash a few of them ahead, and
  // fetch first their places and then the keys there while others are looked up.
  [[nodiscard]] uint32_t tag_of(uint32_t space, ByteView bytes) const {
    return static_cast<uint32_t>(hash64(bytes, seed_)) ^ space * kSpaceFactor;
  }

  void prefetch_place(uint32_t tag) const { __builtin_prefetch(&slots_[tag & mask_]); }

  void prefetch_key(uint32_t tag) const {
    const auto* key = reinterpret_cast<const char*>(slots_[tag & mask_].key);
    __builtin_prefetch(key);  // null does no harm
    __builtin_prefetch(key + 64);
  }

  // The value of a key, or kNone.
  [[nodiscard]] uint32_t find(uint32_t space, ByteView bytes) const {
    return find(space, bytes, tag_of(space, bytes));
  }

  [[nodiscard]] uint32_t find(uint32_t space, ByteView bytes, uint32_t tag) const {
    // A key is mostly in its first place or the next two: which of them is no branch, for none
    // could foretell it. What follows an empty place is never wrong, only longer.
    const uint32_t first = tag & mask_;
    const uint32_t not_first = slots_[first].tag != tag ? 1 : 0;
    const uint32_t not_next = slots_[(first + 1) & mask_].tag != tag ? not_first : 0;
    for (uint32_t at = (first + not_first + not_next) & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.key == nullptr) return kNone;
      if (slot.tag == tag && same(*slot.key, space, bytes)) return slot.value;
    }
  }

  // The key must be new, `value` not kNone.
  Key* insert(uint32_t space, ByteView bytes, uint32_t value);
  // `key` is one of this table's, and gone afterwards.
  void erase(const Key* key);

  [[nodiscard]] size_t size() const { return used_; }

  [[nodiscard]] size_t memory_bytes() const {
    return heap_bytes((size_t{mask_} + 1) * sizeof(Slot)) + key_bytes_;
  }

  // Slots from a key's first place to where it is, of the worst key. Walks the whole table.
  [[nodiscard]] size_t longest_probe() const;

 private:
  struct Slot {
    Key* key = nullptr;  // null: empty
    uint32_t tag = 0;    // of the key's hash: its low bits say where the key would like to be
    uint32_t value = 0;
  };

  static constexpr uint32_t kFewestSlots = 64;
  static constexpr uint32_t kSpaceFactor = 0x9e3779b1;  // odd: equal bytes of other spaces spread

  // Found keys are nearly always equal and 40 to 200 bytes long: every block is compared, without a
  // call, a branch on what was read, or a copy of unknown size.
  static bool equal(const std::byte* a, const std::byte* b, size_t size) {
    using Block = uint64_t __attribute__((vector_size(16)));
    const auto differ = [a, b](size_t at) {
      Block one;
      Block other;
      std::memcpy(&one, a + at, sizeof one);
      std::memcpy(&other, b + at, sizeof other);
      return one ^ other;
    };
    if (size < sizeof(Block)) return size == 0 || std::memcmp(a, b, size) == 0;
    Block all = differ(size - sizeof(Block));
    for (size_t at = 0; at + sizeof(Block) < size; at += sizeof(Block)) all |= differ(at);
    return (all[0] | all[1]) == 0;
  }

  static bool same(const Key& key, uint32_t space, ByteView bytes) {
    return key.size == bytes.size() && key.space == space &&
           equal(reinterpret_cast<const std::byte*>(&key + 1), bytes.data(), bytes.size());
  }

  void place(const Slot& slot);     // into the first empty one from where it likes to be
  void resize(uint32_t new_slots);  // a power of two

  HashSeed seed_;
  std::unique_ptr<Slot[]> slots_;
  uint32_t mask_ = kFewestSlots - 1;
  uint32_t used_ = 0;
  size_t key_bytes_ = 0;
};

}  // namespace weir
