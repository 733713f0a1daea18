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
    case Kind::kProfile:
      return Profile();
    case Kind::kDistinct:
    case Kind::kTopk:
      break;
  }
  // Decoders and configuration refuse these kinds before.
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
  };

  return std::visit(Visitor{}, value);
}

}  // namespace weir
