#include "common/sketch/topk.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <utility>

#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"
#include "common/sketch/distribution.h"
#include "common/utf8.h"

namespace weir {

namespace {

constexpr size_t kFirstSlots = 16;

Error too_many() { return {Errc::kLimit, "a count would pass 2^63-1"}; }

// Bytes never hold it, so a stranger who chooses the keys cannot choose which of them meet.
uint64_t hash_of(std::string_view key) { return hash64(as_bytes(key), process_seed()); }

}  // namespace

Topk::Topk(size_t max_bytes) : max_bytes_(max_bytes) {
  WEIR_CHECK(max_bytes >= kMinBytes && max_bytes <= kMaxBytes);
}

size_t Topk::find(uint64_t hash, std::string_view key) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const uint32_t at = slots_[slot];
    if (at == 0) return slot;
    if (((at ^ slot_of(hash, 0)) & ~kPlace) != 0) continue;
    const Entry& entry = entries_[(at & kPlace) - 1];
    if (entry.hash == hash && key_of(entry) == key) return slot;
  }
}

void Topk::index(size_t slots) {
  slots_.assign(slots, 0);
  const size_t mask = slots - 1;
  for (size_t at = 0; at < entries_.size(); ++at) {
    size_t slot = entries_[at].hash & mask;
    while (slots_[slot] != 0) slot = (slot + 1) & mask;
    slots_[slot] = slot_of(entries_[at].hash, at);
  }
}

void Topk::insert(size_t slot, uint64_t hash, std::string_view key, uint64_t count) {
  entries_.push_back({.hash = hash,
                      .count = count,
                      .text = static_cast<uint32_t>(text_.size()),
                      .size = static_cast<uint32_t>(key.size())});
  text_.insert(text_.end(), key.begin(), key.end());
  slots_[slot] = slot_of(hash, entries_.size() - 1);
  if (4 * entries_.size() > 3 * slots_.size()) index(2 * slots_.size());
}

Status Topk::add(std::string_view key, uint64_t n) {
  if (n > kMaxCount - n_) return too_many();
  if (key.empty()) return invalid("topk: no key");
  if (key.size() > kMaxKey) return add(fit_text(key, kMaxKey), n);
  if (n == 0) return {};
  if (slots_.empty()) index(kFirstSlots);
  const uint64_t hash = hash_of(key);
  const size_t slot = find(hash, key);
  if (slots_[slot] != 0) {
    n_ += n;
    entry_at(slot).count += n;
    return {};
  }
  if (!is_utf8(key)) return add(fit_text(key, kMaxKey), n);  // what is listed is: only new keys
  n_ += n;
  insert(slot, hash, key, n);
  if (entries_.size() >= 2 * kCapacity) prune();
  blow_fuse();
  return {};
}

Status Topk::merge(const Topk& other) {
  if (other.n_ > kMaxCount - n_) return too_many();
  n_ += other.n_;
  err_ += other.err_;
  pruned_early_ = pruned_early_ || other.pruned_early_;
  if (slots_.empty()) index(kFirstSlots);
  for (const Entry& entry : other.entries_) {
    const std::string_view key = other.key_of(entry);
    const size_t slot = find(entry.hash, key);
    if (slots_[slot] != 0) {
      entry_at(slot).count += entry.count;
    } else {
      insert(slot, entry.hash, key, entry.count);
      blow_fuse();
    }
  }
  return {};
}

// kMinBytes hold kCapacity keys of any length, so there is always something to prune.
void Topk::blow_fuse() {
  if (cost() <= max_bytes_) return;
  pruned_early_ = true;
  prune();
}

// Mostly it is small, so one pass that counts small counts finds it.
uint64_t Topk::next_count() const {
  constexpr size_t kSmall = 64;
  std::array<size_t, kSmall> small{};  // how many have this count
  std::vector<uint64_t> large;
  for (const Entry& entry : entries_) {
    if (entry.count < kSmall) {
      ++small[entry.count];
    } else {
      large.push_back(entry.count);
    }
  }
  if (large.size() > kCapacity) {
    std::ranges::nth_element(large, large.begin() + kCapacity, std::greater{});
    return large[kCapacity];
  }
  size_t greater = large.size();
  uint64_t count = kSmall;
  while (greater <= kCapacity) greater += small[--count];
  return count;
}

void Topk::prune() {
  if (entries_.size() <= kCapacity) return;
  const uint64_t taken = next_count();
  err_ += taken;
  size_t kept = 0;
  size_t text = 0;
  for (Entry entry : entries_) {  // their texts follow each other: moved to the front as they are
    if (entry.count <= taken) continue;
    std::memmove(text_.data() + text, text_.data() + entry.text, entry.size);
    entry.text = static_cast<uint32_t>(text);
    entry.count -= taken;
    text += entry.size;
    entries_[kept++] = entry;
  }
  entries_.resize(kept);
  text_.resize(text);
  index(slots_.size());
}

std::vector<Topk::Item> Topk::by_key() const {
  std::vector<Item> items;
  items.reserve(entries_.size());
  for (const Entry& entry : entries_) items.push_back({key_of(entry), entry.count});
  std::ranges::sort(items, {}, &Item::key);
  return items;
}

std::vector<Topk::Item> Topk::top(size_t k) const {
  std::vector<Item> items = by_key();
  std::ranges::stable_sort(items, std::greater{}, &Item::count);
  items.resize(std::min(k, items.size()));
  return items;
}

size_t Topk::memory_bytes() const {
  return entries_.capacity() * sizeof(Entry) + text_.capacity() +
         slots_.capacity() * sizeof(uint32_t);
}

Result<Topk> Topk::rebuild(const std::vector<Item>& items, uint64_t n, uint64_t err,
                           bool pruned_early) {
  Topk out;
  out.n_ = n;
  out.err_ = err;
  out.pruned_early_ = pruned_early;
  out.index(kFirstSlots);
  std::string_view before;  // less than any key
  uint64_t listed = 0;
  for (const auto& [key, count] : items) {
    if (key.size() > kMaxKey) return Error{Errc::kLimit, "topk: key too long"};
    if (key <= before) return invalid("topk: keys not ascending");
    if (!is_utf8(key)) return invalid("topk: key is not UTF-8");
    if (count == 0 || count > kMaxCount - listed) return invalid("topk: count out of range");
    listed += count;
    before = key;
    const uint64_t hash = hash_of(key);
    out.insert(out.find(hash, key), hash, key, count);
    if (out.cost() > kMaxBytes) return Error{Errc::kLimit, "topk: too many keys"};
  }
  // Each prune takes as much off kCapacity + 1 keys at least.
  const bool possible = n > 0 && n <= kMaxCount && listed <= n &&
                        err <= (n - listed) / (kCapacity + 1) &&
                        (err > 0 || (listed == n && !pruned_early));
  if (!possible) return invalid("topk: n, err and the counts contradict each other");
  return out;
}

bool operator==(const Topk& a, const Topk& b) {
  return a.n_ == b.n_ && a.err_ == b.err_ && a.pruned_early_ == b.pruned_early_ &&
         a.by_key() == b.by_key();
}

}  // namespace weir
