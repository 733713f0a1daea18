#include "daemon/statsd/intake.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "common/utf8.h"

namespace weir::daemon::statsd {
namespace {

Metric metric_of(const Line& line) {
  switch (line.type) {
    case Type::kCounter:
      return {metric_name(line.name), Kind::kCounter, "", 0};
    case Type::kSet:
      return {metric_name(line.name), Kind::kDistinct, "", 0};
    case Type::kGauge:
      return {metric_name(line.name), Kind::kGauge, "", -6};
    case Type::kTimer:
      return {metric_name(line.name) + "_seconds", Kind::kDistribution, "seconds", -9};
    case Type::kHistogram:
    case Type::kDistribution:
      return {metric_name(line.name), Kind::kDistribution, "", -6};
  }
  return {};
}

bool below_zero(const Number& number) {
  return number.sign == Number::Sign::kMinus && !number.is_zero();
}

}  // namespace

Intake::Intake(Recorder& recorder, size_t cache_bytes)
    : recorder_(recorder), cache_limit_(cache_bytes) {}

void Intake::packet(std::string_view bytes, UnixTime now) {
  ++counts_.packets;
  recorder_.advance(now);
  // A few lines at a time: what memory has of the later ones comes while the first is counted.
  std::string_view text;
  for (bool more = true; more;) {
    size_t lines = 0;
    while (lines < kAhead && (more = next_line(bytes, text))) {
      Pending& pending = pending_[lines];
      pending.line = {};
      if (const auto why = parse_line(text, pending.line)) {
        reject(*why);
        continue;
      }
      make_key(pending.line, pending.key);
      pending.tag = table_.tag_of(0, as_bytes(pending.key));
      table_.prefetch_place(pending.tag);
      ++lines;
    }
    for (size_t i = 0; i < lines; ++i) table_.prefetch_key(pending_[i].tag);
    for (size_t i = 0; i < lines; ++i) take(pending_[i], now);
  }
  recorder_.set_cache_bytes(memory_bytes());
}

void Intake::take(Pending& pending, UnixTime now) {
  Line& line = pending.line;
  Entry& entry = entry_of(pending);
  if (!recorder_.alive(entry.series)) {
    if (const auto why = resolve(line, entry)) return reject(*why);
  }
  const UnixTime when = line.unix_s ? UnixTime(std::chrono::seconds(*line.unix_s)) : now;
  for (bool more = true; more;) {
    std::string_view value = line.values;
    // A set's member may hold colons: it is one value.
    more = line.type != Type::kSet && take_value(line.values, value);
    if (const auto why = record(line, entry, value, when)) {
      reject(*why);
    } else {
      ++counts_.values;
    }
  }
}

// The key is all that decides the series, plus a counter's rate: its fractions are of that rate.
void Intake::make_key(const Line& line, std::string& key) {
  key.assign(line.name);
  key += '|';
  key += static_cast<char>(line.type);
  if (line.rate_nano != kNano && (line.type == Type::kCounter || line.type == Type::kSet)) {
    key += '@';
    key += std::to_string(line.rate_nano);
  }
  key += '#';
  key += line.tags;
}

Intake::Entry& Intake::entry_of(const Pending& pending) {
  const ByteView key = as_bytes(pending.key);
  const uint32_t known = table_.find(0, key, pending.tag);
  if (known != ByteTable::kNone) {
    entries_[known].used = true;
    return entries_[known];
  }
  const uint32_t at = free_entry();
  entries_[at] = {.key = table_.insert(0, key, at),
                  .series = {},
                  .scaler = Scaler(pending.line.rate_nano),
                  .used = false};
  return entries_[at];
}

// Room for one more. Who was not used since the hand came by last is forgotten, so a flood of
// spellings seen once does not push out those in use.
uint32_t Intake::free_entry() {
  // What gauges remember is by series: no spelling forgotten gives it back.
  const auto spellings = [this] { return memory_bytes() - gauges_.capacity() * sizeof(GaugeLast); };
  while (table_.size() > 0 && spellings() > cache_limit_) {
    Entry& entry = entries_[hand_];
    if (entry.key != nullptr && !std::exchange(entry.used, false)) {
      table_.erase(std::exchange(entry.key, nullptr));
      free_.push_back(static_cast<uint32_t>(hand_));
    }
    hand_ = (hand_ + 1) % entries_.size();
  }
  if (free_.empty()) {
    entries_.emplace_back();
    return static_cast<uint32_t>(entries_.size() - 1);
  }
  const uint32_t at = free_.back();
  free_.pop_back();
  return at;
}

size_t Intake::memory_bytes() const {
  return table_.memory_bytes() + entries_.capacity() * sizeof(Entry) +
         free_.capacity() * sizeof(uint32_t) + gauges_.capacity() * sizeof(GaugeLast);
}

std::optional<Reject> Intake::resolve(const Line& line, Entry& entry) {
  std::vector<std::pair<std::string, std::string_view>> labels;
  std::string_view tags = line.tags;
  std::string_view name;
  std::string_view value;
  while (labels.size() < kMaxTags && next_tag(tags, name, value)) {
    std::string label = label_name(name);
    const bool known =
        std::ranges::find(labels, label, [](const auto& l) { return l.first; }) != labels.end();
    if (known || value.empty()) continue;
    if (!is_utf8(value)) return Reject::kLabel;
    labels.emplace_back(std::move(label), value);
  }
  std::vector<LabelView> views;
  for (const auto& [label, text] : labels) views.push_back({label, text});
  const auto series = recorder_.series(metric_of(line), views);
  if (!series) return Reject::kKindClash;  // labels were checked, so nothing else is left
  entry.series = *series;
  return std::nullopt;
}

std::optional<Reject> Intake::record(const Line& line, Entry& entry, std::string_view text,
                                     UnixTime when) {
  Number number{.sign = Number::Sign::kNone, .whole = 1, .nano = 0};
  if (line.type != Type::kSet) {
    if (const auto why = parse_number(text, number)) return why;
  }
  switch (line.type) {
    case Type::kCounter:
    case Type::kSet: {
      if (below_zero(number)) return Reject::kNegative;
      const auto events = entry.scaler.add(number);
      if (!events) return Reject::kRange;
      if (line.type == Type::kSet) {
        recorder_.member(entry.series, when, Distinct::hash_of(text), *events);
      } else {
        recorder_.count(entry.series, when, *events);
      }
      return std::nullopt;
    }
    case Type::kGauge:
      return record_gauge(entry.series, number, when);
    case Type::kTimer:
      if (below_zero(number)) return Reject::kNegative;
      [[fallthrough]];
    case Type::kHistogram:
    case Type::kDistribution: {
      const auto quanta = millionths(number);
      if (!quanta) return Reject::kRange;
      const int64_t signed_quanta = number.sign == Number::Sign::kMinus ? -*quanta : *quanta;
      // A sampled observation stands for 1 / rate of them, rounded.
      const uint64_t weight = (uint64_t{kNano} + line.rate_nano / 2) / line.rate_nano;
      recorder_.observe(entry.series, when, signed_quanta, weight);
      return std::nullopt;
    }
  }
  return std::nullopt;
}

// A gauge with a sign is a change, as in the first StatsD: set to 0 first to go below zero.
std::optional<Reject> Intake::record_gauge(const SeriesHandle& series, const Number& number,
                                           UnixTime when) {
  const auto quanta = millionths(number);
  if (!quanta) return Reject::kRange;
  // A gauge without a name of its own shares its series with others: no last value is its own.
  const bool is_named = recorder_.alive(series);
  if (is_named && series.id >= gauges_.size()) gauges_.resize(size_t{series.id} + 1);
  int64_t last = 0;
  if (is_named && gauges_[series.id].generation == series.generation) {
    last = gauges_[series.id].quanta;
  }
  int64_t next = *quanta;
  if (number.sign == Number::Sign::kPlus && __builtin_add_overflow(last, *quanta, &next)) {
    return Reject::kRange;
  }
  if (number.sign == Number::Sign::kMinus && __builtin_sub_overflow(last, *quanta, &next)) {
    return Reject::kRange;
  }
  if (is_named) gauges_[series.id] = {series.generation, next};
  recorder_.gauge(series, when, next);
  return std::nullopt;
}

}  // namespace weir::daemon::statsd
