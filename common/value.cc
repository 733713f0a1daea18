#include "common/value.h"

#include <algorithm>
#include <type_traits>

#include "common/check.h"

namespace weir {

namespace {

Error too_many() { return {Errc::kLimit, "a count would pass 2^63-1"}; }

Status merge_one(Counter& into, const Counter& from) {
  if (into.delta > kMaxCount || from.delta > kMaxCount - into.delta) return too_many();
  into.delta += from.delta;
  return {};
}

Status merge_one(Gauge& into, const Gauge& from) {
  if (into.n > kMaxCount || from.n > kMaxCount - into.n) return too_many();
  if (from.n == 0) return {};
  if (into.n == 0) {
    into = from;
    return {};
  }
  into.n += from.n;
  into.sum += from.sum;
  into.min = std::min(into.min, from.min);
  into.max = std::max(into.max, from.max);
  into.last = std::max(into.last, from.last);
  return {};
}

Status merge_one(Distribution& into, const Distribution& from) { return into.merge(from); }

Status merge_one(Profile& into, const Profile& from) { return into.merge(from); }

Status merge_one(Distinct& into, const Distinct& from) { return into.merge(from); }

Status merge_one(Topk& into, const Topk& from) { return into.merge(from); }

}  // namespace

Status Gauge::add(int64_t value, int64_t time_ns, uint64_t source) {
  return merge_one(*this, {.n = 1,
                           .sum = value,
                           .min = value,
                           .max = value,
                           .last = {.time_ns = time_ns, .source = source, .value = value}});
}

Kind kind_of(const Value& value) {
  struct Visitor {
    Kind operator()(const Counter&) const { return Kind::kCounter; }

    Kind operator()(const Gauge&) const { return Kind::kGauge; }

    Kind operator()(const Distribution&) const { return Kind::kDistribution; }

    Kind operator()(const Profile&) const { return Kind::kProfile; }

    Kind operator()(const Distinct&) const { return Kind::kDistinct; }

    Kind operator()(const Topk&) const { return Kind::kTopk; }
  };

  return std::visit(Visitor{}, value);
}

Value empty_value(const Metric& metric, uint8_t scale) {
  switch (metric.kind) {
    case Kind::kCounter:
      return Counter{};
    case Kind::kGauge:
      return Gauge{};
    case Kind::kDistribution:
      return Distribution(metric.quantum, scale);
    case Kind::kDistinct:
      return Distinct();
    case Kind::kTopk:
      return Topk();
    case Kind::kProfile:
      return Profile();
  }
  // Decoders refuse other kinds before.
  check_failed(__FILE__, __LINE__, "a kind without a value");
}

Status merge(Value& into, const Value& from) {
  if (into.index() != from.index()) return invalid("values of different kinds do not merge");
  return std::visit(
      [&from](auto& to) { return merge_one(to, std::get<std::decay_t<decltype(to)>>(from)); },
      into);
}

uint64_t mass(const Value& value) {
  struct Visitor {
    uint64_t operator()(const Counter& counter) const { return counter.delta; }

    uint64_t operator()(const Gauge& gauge) const { return gauge.n; }

    uint64_t operator()(const Distribution& distribution) const { return distribution.count(); }

    uint64_t operator()(const Profile& profile) const { return profile.samples(); }

    uint64_t operator()(const Distinct& distinct) const { return distinct.n(); }

    uint64_t operator()(const Topk& topk) const { return topk.n(); }
  };

  return std::visit(Visitor{}, value);
}

bool holds_something(const Value& value) {
  if (std::holds_alternative<Counter>(value)) return true;
  const auto* profile = std::get_if<Profile>(&value);
  if (profile == nullptr) return mass(value) > 0;
  return profile->samples() > 0 || profile->total_ns() > 0 ||
         profile->quality() != ProfileQuality{};
}

size_t heap_bytes(const Value& value) {
  struct Visitor {
    size_t operator()(const Counter&) const { return 0; }

    size_t operator()(const Gauge&) const { return 0; }

    size_t operator()(const Distribution& distribution) const {
      return distribution.memory_bytes();
    }

    size_t operator()(const Profile& profile) const { return profile.memory_bytes(); }

    size_t operator()(const Distinct& distinct) const { return distinct.memory_bytes(); }

    size_t operator()(const Topk& topk) const { return topk.memory_bytes(); }
  };

  return std::visit(Visitor{}, value);
}

void prune(Value& value) {
  if (auto* topk = std::get_if<Topk>(&value)) topk->prune();
}

}  // namespace weir
