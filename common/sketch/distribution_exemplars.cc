// Which exemplar an octave keeps.

#include <algorithm>
#include <tuple>

#include "common/hash.h"
#include "common/sketch/distribution.h"

namespace weir {

namespace {

// Part of what every host must agree on: never to be changed, nor hash64 under it.
constexpr uint64_t kSeed = 0x5745495245584d50;

bool wins(const Exemplar& a, const Exemplar& b) {
  using Rank = std::tuple<uint64_t, const std::array<std::byte, 16>&, int64_t, uint64_t>;
  const auto rank = [](const Exemplar& e) {
    return Rank(hash64(e.trace_id, kSeed), e.trace_id, e.time_ns, e.value);
  };
  return rank(a) > rank(b);
}

}  // namespace

bool Distribution::has_octave(int32_t octave) const {
  const int32_t width = 1 << scale();
  const int32_t first = octave * width;
  for (int32_t index = first; index < first + width; ++index) {
    if (at(index) != 0) return true;
  }
  return false;
}

void Distribution::keep(std::vector<Exemplar>& kept, const Exemplar& exemplar) const {
  const auto at = std::ranges::lower_bound(kept, octave(exemplar.value), {},
                                           [this](const Exemplar& e) { return octave(e.value); });
  if (at == kept.end() || octave(at->value) != octave(exemplar.value)) {
    kept.insert(at, exemplar);
  } else if (wins(exemplar, *at)) {
    *at = exemplar;
  }
}

Status Distribution::check_exemplar(const Exemplar& exemplar) const {
  if (exemplar.trace_id == decltype(exemplar.trace_id){}) return invalid("a trace id is 0");
  if (exemplar.value == 0 || !has_octave(octave(exemplar.value))) {
    return invalid("an exemplar of no sample");
  }
  return {};
}

Status Distribution::add_exemplar(const Exemplar& exemplar) {
  WEIR_TRY(check_exemplar(exemplar));
  keep(rare().exemplars, exemplar);
  return {};
}

Status Distribution::add_negative_exemplar(const Exemplar& exemplar) {
  if (negative_count() == 0) return invalid("an exemplar of no sample");
  WEIR_TRY(rare_->negative.check_exemplar(exemplar));
  keep(rare_->negative_exemplars, exemplar);
  return {};
}

}  // namespace weir
