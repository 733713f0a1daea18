#pragma once
// Topk: the most frequent keys of a stream and how often each came (Misra-Gries).
//
// Owner and thread: one owner, one thread; a value type. Promise: a key came between count and
// count + err() times; one that is not listed at most err() times; n() is the exact number of
// events; err() <= n() / (kCapacity + 1), in practice half of that. Until the first prune
// everything is exact, and merging adds by key in any order. prune() leaves at most kCapacity keys
// and depends only on what is there, so it is order-free for given parts; adding prunes at twice
// that many. Cost: a hash, a probe and a compare; a prune every kCapacity new keys or more.
// Bounded: max_bytes for all keys together (cost()), at which a value prunes early and says so;
// kMaxKey for one.

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace weir {

class Topk {
 public:
  static constexpr size_t kCapacity = 1536;
  static constexpr size_t kMaxKey = 256;     // bytes, as a label "name=value"; longer keys are cut
  static constexpr size_t kEntryBytes = 32;  // what cost() counts beside a key's text
  // So that one value fits any batch whatever its keys: encoded, an entry takes less than its cost.
  static constexpr size_t kMaxBytes = size_t{1} << 20;
  static constexpr size_t kMinBytes = (kCapacity + 1) * (kMaxKey + kEntryBytes);

  struct Item {
    std::string_view key;
    uint64_t count = 0;
    friend bool operator==(const Item&, const Item&) = default;
  };

  // The fuse: kMinBytes..kMaxBytes.
  explicit Topk(size_t max_bytes = kMaxBytes);

  // n events of a key; no events change nothing. kInvalid: no key. kLimit, and nothing changed, if
  // n() would pass kMaxCount. Text that is not UTF-8 or too long is made so.
  Status add(std::string_view key, uint64_t n = 1);
  // Adds by key and never prunes, but for the fuse. On failure (kLimit) nothing is changed.
  Status merge(const Topk& other);
  // Down to kCapacity keys: takes the (kCapacity + 1)-th largest count off all, and drops what has
  // none left. Nothing happens while there is room for all.
  void prune();

  [[nodiscard]] uint64_t n() const { return n_; }

  [[nodiscard]] uint64_t err() const { return err_; }

  [[nodiscard]] bool pruned_early() const { return pruned_early_; }  // by the fuse, once or more

  [[nodiscard]] size_t size() const { return entries_.size(); }

  // Views live as long as the value is unchanged.
  [[nodiscard]] std::vector<Item> by_key() const;       // ascending by key
  [[nodiscard]] std::vector<Item> top(size_t k) const;  // the k greatest counts, then by key
  [[nodiscard]] size_t memory_bytes() const;

  // The inverse of by_key() and the numbers; refuses (kInvalid, kLimit) what no value can be.
  static Result<Topk> rebuild(const std::vector<Item>& items, uint64_t n, uint64_t err,
                              bool pruned_early);

  friend bool operator==(const Topk& a, const Topk& b);  // same keys, same numbers

 private:
  struct Entry {
    uint64_t hash = 0;
    uint64_t count = 0;
    uint32_t text = 0;  // where its key begins in text_
    uint32_t size = 0;
  };

  [[nodiscard]] std::string_view key_of(const Entry& entry) const {
    return {text_.data() + entry.text, entry.size};
  }

  [[nodiscard]] size_t cost() const { return entries_.size() * kEntryBytes + text_.size(); }

  // A slot: 16 bits of the hash, which tell most other keys without a look at their entries, and
  // below them the entry's place + 1; 0 is free.
  static constexpr uint32_t kPlace = 0xffff;
  static_assert(kMaxBytes / kEntryBytes < kPlace);

  static uint32_t slot_of(uint64_t hash, size_t place) {
    return (static_cast<uint32_t>(hash >> 32) & ~kPlace) | static_cast<uint32_t>(place + 1);
  }

  [[nodiscard]] Entry& entry_at(size_t slot) { return entries_[(slots_[slot] & kPlace) - 1]; }

  // The slot of a key, or the free one where it belongs.
  [[nodiscard]] size_t find(uint64_t hash, std::string_view key) const;
  void insert(size_t slot, uint64_t hash, std::string_view key, uint64_t count);
  void index(size_t slots);                   // slots_ anew
  [[nodiscard]] uint64_t next_count() const;  // the (kCapacity + 1)-th largest
  void blow_fuse();

  size_t max_bytes_;
  uint64_t n_ = 0;
  uint64_t err_ = 0;
  bool pruned_early_ = false;
  std::vector<Entry> entries_;
  std::vector<char> text_;       // the keys, in the order of the entries
  std::vector<uint32_t> slots_;  // open addressing by hash; a power of two
};

}  // namespace weir
