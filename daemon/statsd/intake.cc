#include "daemon/statsd/intake.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "common/utf8.h"

namespace weir::daemon::statsd {
namespace {

// What an entry costs beside its key: the node, its bucket and the string's own allocation.
constexpr size_t kEntryOverhead = 128;

Metric metric_of(const Line& line) {
  switch (line.type) {
    case Type::kCounter:
    case Type::kSet:
      return {metric_name(line.name), Kind::kCounter, "", 0};
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
  std::string_view text;
  while (next_line(bytes, text)) line(text, now);
}

void Intake::line(std::string_view text, UnixTime now) {
  Line line;
  if (const auto why = parse_line(text, line)) return reject(*why);
  Entry& entry = entry_of(line);
  if (entry.refused) return reject(*entry.refused);
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
Intake::Entry& Intake::entry_of(const Line& line) {
  key_.assign(line.name);
  key_ += '|';
  key_ += static_cast<char>(line.type);
  if (line.rate_nano != kNano && (line.type == Type::kCounter || line.type == Type::kSet)) {
    key_ += '@';
    key_ += std::to_string(line.rate_nano);
  }
  key_ += '#';
  key_ += line.tags;
  const auto it = cache_.find(std::string_view(key_));
  if (it != cache_.end()) return it->second;
  const size_t cost = key_.size() + kEntryOverhead;
  if (cache_bytes_ + cost > cache_limit_) {
    cache_.clear();
    cache_bytes_ = 0;
  }
  cache_bytes_ += cost;
  return cache_.emplace(key_, resolve(line)).first->second;
}

Intake::Entry Intake::resolve(const Line& line) {
  Entry entry{.series = 0, .refused = {}, .scaler = Scaler(line.rate_nano)};
  std::vector<std::pair<std::string, std::string_view>> labels;
  std::string_view tags = line.tags;
  std::string_view name;
  std::string_view value;
  while (next_tag(tags, name, value)) {
    std::string label = label_name(name);
    const bool known =
        std::ranges::find(labels, label, [](const auto& l) { return l.first; }) != labels.end();
    if (known || value.empty()) continue;
    labels.emplace_back(std::move(label), value);
    if (labels.size() > kMaxTags || name.size() > kMaxTagText || value.size() > kMaxTagText ||
        !is_utf8(value)) {
      entry.refused = Reject::kLabel;
      return entry;
    }
  }
  std::vector<LabelView> views;
  for (const auto& [label, text] : labels) views.push_back({label, text});
  const auto series = recorder_.series(metric_of(line), views);
  if (series) {
    entry.series = *series;
  } else {
    entry.refused = Reject::kKindClash;  // labels were checked, so nothing else is left
  }
  return entry;
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
      recorder_.count(entry.series, when, *events);
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
std::optional<Reject> Intake::record_gauge(SeriesId series, const Number& number, UnixTime when) {
  const auto quanta = millionths(number);
  if (!quanta) return Reject::kRange;
  int64_t& last = gauges_[series];
  int64_t next = *quanta;
  if (number.sign == Number::Sign::kPlus && __builtin_add_overflow(last, *quanta, &next)) {
    return Reject::kRange;
  }
  if (number.sign == Number::Sign::kMinus && __builtin_sub_overflow(last, *quanta, &next)) {
    return Reject::kRange;
  }
  last = next;
  recorder_.gauge(series, when, next);
  return std::nullopt;
}

}  // namespace weir::daemon::statsd
