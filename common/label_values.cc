#include "common/label_values.h"

#include <algorithm>

#include "common/bytes.h"
#include "common/check.h"
#include "common/hash.h"

namespace weir {

LabelValues::Value LabelValues::key_of(uint32_t metric, std::string_view label,
                                       std::string_view value) {
  const Key of_label = hash_mix(hash64(as_bytes(label), process_seed()),
                                hash64(uint64_t{metric}, process_seed()) | 1);
  return {of_label, hash64(as_bytes(value), process_seed() ^ of_label)};
}

bool LabelValues::admits(const Value& value, size_t limit) const {
  if (values_.contains(value.value)) return true;
  const auto label = labels_.find(value.label);
  return label == labels_.end() || label->second.values < limit;
}

void LabelValues::Refused::add(Key value, uint64_t n) {
  Candidate* least = candidates.data();
  for (Candidate& candidate : candidates) {
    if (candidate.value == value && candidate.count > 0) {
      candidate.count += n;
      return;
    }
    if (candidate.count < least->count) least = &candidate;
  }
  const uint64_t cancelled = std::min(n, least->count);
  for (Candidate& candidate : candidates) candidate.count -= cancelled;
  if (n > cancelled) *least = {value, n - cancelled};
}

void LabelValues::refuse(const Value& value, uint64_t n) {
  const auto label = labels_.find(value.label);
  if (label == labels_.end()) return;  // its limit is no value at all
  auto& refused = label->second.refused;
  if (!refused) {
    if (elections_ >= kMaxElections) return;
    ++elections_;
    refused = std::make_unique<Refused>();
  }
  refused->add(value.value, n);
}

void LabelValues::add(const Value& value, uint32_t metric, std::string_view label) {
  LabelState& state = labels_[value.label];
  if (state.name.empty()) {
    state.metric = metric;
    state.name = label;
  }
  take_seat(value.value, value.label);
  ++values_[value.value].series;
}

void LabelValues::take_seat(Key value, Key label) {
  const auto [at, is_new] = values_.try_emplace(value);
  if (!is_new) return;
  at->second.label = label;
  ++labels_[label].values;
}

void LabelValues::remove(Key value) {
  const auto seat = values_.find(value);
  WEIR_CHECK(seat != values_.end() && seat->second.series > 0);
  if (--seat->second.series == 0 && !seat->second.elected) give_up(value);
}

void LabelValues::give_up(Key value) {
  const auto seat = values_.find(value);
  const auto label = labels_.find(seat->second.label);
  values_.erase(seat);
  if (--label->second.values > 0) return;
  if (label->second.refused) --elections_;
  labels_.erase(label);
}

std::unordered_set<LabelValues::Key> LabelValues::elect(
    const std::function<size_t(uint32_t metric)>& limit_of) {
  std::unordered_map<Key, std::vector<Key>> seats;  // of the labels where something may change
  for (const auto& [key, label] : labels_) {
    if (label.refused || label.values > limit_of(label.metric)) seats.try_emplace(key);
  }
  std::vector<Key> unclaimed;
  for (auto& [value, seat] : values_) {
    if (seat.elected && seat.series == 0) unclaimed.push_back(value);
    seat.elected = false;
  }
  for (const Key value : unclaimed) give_up(value);
  for (const auto& [value, seat] : values_) {
    if (const auto label = seats.find(seat.label); label != seats.end()) {
      label->second.push_back(value);
    }
  }
  std::unordered_set<Key> lost;
  for (auto& [key, of_label] : seats) {
    const auto label = labels_.find(key);
    if (label != labels_.end()) elect_label(key, limit_of(label->second.metric), of_label, lost);
  }
  for (auto& [value, seat] : values_) seat.weight = 0;
  return lost;
}

void LabelValues::elect_label(Key key, size_t limit, std::vector<Key>& seats,
                              std::unordered_set<Key>& lost) {
  constexpr uint64_t kClearly = 4;                              // events; and twice the weight
  std::sort(seats.begin(), seats.end(), [this](Key a, Key b) {  // heaviest first; ties by key
    const uint64_t weight_a = values_[a].weight;
    const uint64_t weight_b = values_[b].weight;
    return weight_a != weight_b ? weight_a > weight_b : a < b;
  });
  while (seats.size() > limit) {
    lost.insert(seats.back());
    seats.pop_back();
  }
  auto& refused = labels_[key].refused;
  if (!refused) return;
  auto& candidates = refused->candidates;
  std::sort(candidates.begin(), candidates.end(),
            [](const auto& a, const auto& b) { return a.count > b.count; });
  for (auto& candidate : candidates) {
    if (candidate.count == 0) break;
    if (values_.contains(candidate.value)) {  // it found a free place since
      candidate.count = 0;
      continue;
    }
    if (seats.size() >= limit) {
      if (seats.empty() || candidate.count < 2 * values_[seats.back()].weight + kClearly) break;
      lost.insert(seats.back());
      seats.pop_back();
    }
    --limit;
    take_seat(candidate.value, key);
    values_[candidate.value].elected = true;
    candidate.count = 0;
  }
  for (auto& candidate : candidates) candidate.count /= 2;
  if (candidates.front().count == 0 && std::all_of(candidates.begin(), candidates.end(),
                                                   [](const auto& c) { return c.count == 0; })) {
    refused.reset();
    --elections_;
  }
}

void LabelValues::each(
    const std::function<void(uint32_t metric, const std::string& label, size_t values)>& f) const {
  for (const auto& [key, label] : labels_) f(label.metric, label.name, label.values);
}

size_t LabelValues::memory_bytes() const {
  constexpr size_t kNode = 2 * sizeof(void*) + sizeof(Key);  // a node's link, key and heap header
  const size_t buckets = values_.bucket_count() + labels_.bucket_count();
  return sizeof *this + buckets * sizeof(void*) + values_.size() * (kNode + sizeof(Seat)) +
         labels_.size() * (kNode + sizeof(LabelState)) + elections_ * sizeof(Refused);
}

}  // namespace weir
