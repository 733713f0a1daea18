#include "common/byte_table.h"

#include <algorithm>
#include <new>

#include "common/check.h"

namespace weir {

ByteTable::ByteTable(uint64_t seed) : seed_(seed), slots_(std::make_unique<Slot[]>(kFewestSlots)) {}

ByteTable::~ByteTable() {
  for (uint32_t at = 0; at <= mask_; ++at) ::operator delete(slots_[at].key);
}

void ByteTable::place(const Slot& slot) {
  uint32_t at = slot.tag & mask_;
  while (slots_[at].key != nullptr) at = (at + 1) & mask_;
  slots_[at] = slot;
}

void ByteTable::resize(uint32_t new_slots) {
  auto old = std::make_unique<Slot[]>(new_slots);
  old.swap(slots_);
  const uint32_t old_mask = mask_;
  mask_ = new_slots - 1;
  for (uint32_t at = 0; at <= old_mask; ++at) {
    if (old[at].key != nullptr) place(old[at]);
  }
}

ByteTable::Key* ByteTable::insert(uint32_t space, ByteView bytes, uint32_t value) {
  WEIR_CHECK(bytes.size() < UINT32_MAX && value != kNone);
  if (uint64_t{8} * (used_ + 1) > uint64_t{5} * (mask_ + 1)) {
    WEIR_CHECK(mask_ < (uint32_t{1} << 30));
    resize(2 * (mask_ + 1));
  }
  const size_t size = sizeof(Key) + bytes.size();
  Key* key = new (::operator new(size)) Key{space, static_cast<uint32_t>(bytes.size()), nullptr};
  if (!bytes.empty()) std::memcpy(key + 1, bytes.data(), bytes.size());
  place({key, tag_of(space, bytes), value});
  ++used_;
  key_bytes_ += heap_bytes(size);
  return key;
}

void ByteTable::erase(const Key* key) {
  uint32_t hole = tag_of(key->space, key->bytes()) & mask_;
  while (slots_[hole].key != key) {
    WEIR_CHECK(slots_[hole].key != nullptr);
    hole = (hole + 1) & mask_;
  }
  key_bytes_ -= heap_bytes(sizeof(Key) + key->size);
  ::operator delete(slots_[hole].key);
  // Whoever was pushed past the hole moves back into it, so that no search stops too early.
  for (uint32_t at = (hole + 1) & mask_; slots_[at].key != nullptr; at = (at + 1) & mask_) {
    const uint32_t pushed = (at - slots_[at].tag) & mask_;
    if (pushed < ((at - hole) & mask_)) continue;
    slots_[hole] = slots_[at];
    hole = at;
  }
  slots_[hole] = {};
  --used_;
  if (mask_ >= kFewestSlots && uint64_t{8} * used_ < mask_) resize((mask_ + 1) / 2);
}

size_t ByteTable::longest_probe() const {
  size_t longest = 0;
  for (uint32_t at = 0; at <= mask_; ++at) {
    const Slot& slot = slots_[at];
    if (slot.key != nullptr) longest = std::max<size_t>(longest, (at - slot.tag) & mask_);
  }
  return longest;
}

}  // namespace weir
