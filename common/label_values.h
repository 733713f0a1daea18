#pragma once
// LabelValues: how many values each label of each metric has among the named series, and which
// values deserve the places.
//
// A value has a place while a named series holds it. Values are first come until a label is full;
// those turned away are counted (Misra-Gries), and at window close the heavy ones take the places
// of values that are clearly lighter.
//
// Owner: Limiter; one thread. Promise: a label has at most its limit of values, but for the values
// of series its owner admits without asking. Cost: one hash and one lookup per value asked; about
// 60 bytes per value, 2 KiB per label that turned values away (at most kMaxElections of those, the
// others' values stay first come).

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace weir {

class LabelValues {
 public:
  using Key = uint64_t;  // of a metric's label, or of one of its values
  static constexpr size_t kMaxElections = 1024;

  struct Value {
    Key label = 0;
    Key value = 0;
  };

  static Value key_of(uint32_t metric, std::string_view label, std::string_view value);

  // May a new series hold this value?
  [[nodiscard]] bool admits(const Value& value, size_t limit) const;
  // The value was turned away, and stands for n events.
  void refuse(const Value& value, uint64_t n);

  void add(const Value& value, uint32_t metric, std::string_view label);
  void remove(Key value);

  // Window close, in this order: weigh() each value of each series, then elect(), which returns the
  // values that lost their place (the owner removes their series), then the past counts half.
  void weigh(Key value, uint64_t events) { values_[value].weight += events; }

  std::unordered_set<Key> elect(const std::function<size_t(uint32_t metric)>& limit_of);

  // Calls f(label, values) for each label of each metric.
  void each(
      const std::function<void(uint32_t metric, const std::string& label, size_t values)>& f) const;
  [[nodiscard]] size_t memory_bytes() const;

 private:
  struct Seat {
    Key label = 0;
    uint64_t weight = 0;
    uint32_t series = 0;
    bool elected = false;  // keeps the place for a window until a series comes
  };

  // Misra-Gries: each counter is at most its value's true count.
  struct Refused {
    struct Candidate {
      Key value = 0;
      uint64_t count = 0;
    };

    std::array<Candidate, 128> candidates{};
    void add(Key value, uint64_t n);
  };

  struct LabelState {
    uint32_t metric = 0;
    uint32_t values = 0;
    std::string name;
    std::unique_ptr<Refused> refused;
  };

  void take_seat(Key value, Key label);
  void give_up(Key value);
  void elect_label(Key key, size_t limit, std::vector<Key>& seats, std::unordered_set<Key>& lost);

  std::unordered_map<Key, Seat> values_;
  std::unordered_map<Key, LabelState> labels_;
  size_t elections_ = 0;
};

}  // namespace weir
