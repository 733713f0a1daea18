// What a distribution answers: quantiles and their error, equality, and itself in wider buckets.

#include <algorithm>
#include <limits>

#include "common/check.h"
#include "common/sketch/distribution.h"
#include "common/sketch/packed_counts.h"

namespace weir {

namespace {

constexpr uint64_t kBillion = 1'000'000'000;

}  // namespace

Result<Estimate> Distribution::quantile(uint32_t parts_per_billion) const {
  if (parts_per_billion > kBillion) return invalid("a quantile is at most 1");
  if (empty()) return Error{Errc::kNotFound, "an empty distribution has no quantiles"};
  const Header& h = *header_;
  const UInt128 wanted = static_cast<UInt128>(parts_per_billion) * h.count;
  UInt128 cumulative = 0;
  const auto reached = [&](uint64_t n) {
    cumulative += n;
    return n != 0 && cumulative * kBillion >= wanted;
  };
  enum class Where : uint8_t { kNone, kNegative, kZero, kPositive };
  Where where = Where::kNone;
  int32_t index = 0;
  if (negative_count() != 0) {
    Header& below = *rare_->negative.header_;
    with_cells(below, [&](auto cells) {
      for (size_t i = cells.size(); i > 0; --i) {
        if (!reached(cells[i - 1])) continue;
        where = Where::kNegative;
        index = below.base + static_cast<int32_t>(i) - 1;
        return;
      }
    });
  }
  if (where == Where::kNone && reached(h.zero)) where = Where::kZero;
  if (where == Where::kNone) {
    with_cells(*header_, [&](auto cells) {
      for (size_t i = 0; i < cells.size(); ++i) {
        if (!reached(cells[i])) continue;
        where = Where::kPositive;
        index = h.base + static_cast<int32_t>(i);
        return;
      }
    });
  }
  WEIR_CHECK(where != Where::kNone);  // the last bucket reaches the count

  Estimate out;
  if (where != Where::kZero) {
    out.lo = table().lower_edge(index);
    out.hi = table().lower_edge(index + 1);
    out.value = 2 * out.lo * out.hi / (out.lo + out.hi);
  }
  if (where == Where::kNegative) out = {.value = -out.value, .lo = -out.hi, .hi = -out.lo};
  const auto unit = [this](Int128 quanta) { return table().to_unit(static_cast<double>(quanta)); };
  out.value = std::clamp(out.value, unit(min()), unit(max()));
  // Samples of the zero bucket may have been anything up to the threshold: those beyond it keep
  // their ranks, those within it may have changed places with each other.
  if (h.zero != 0 && zero_threshold() != 0) {
    const double width = unit(static_cast<Int128>(zero_threshold()));
    if (out.lo < width && out.hi > -width) {
      out.lo = std::min(out.lo, -width);
      out.hi = std::max(out.hi, width);
    }
  }
  return out;
}

// Of the harmonic middle 2*lo*hi/(lo+hi), alike at both ends of a bucket: (hi-lo)/(hi+lo).
double Distribution::relative_error() const {
  const double growth = table().lower_edge(1);
  return (growth - 1) / (growth + 1);
}

void Distribution::coarsen_cells_into(Distribution& out) const {
  const auto shift = scale() - out.scale();
  int32_t first = 0;
  int32_t last = 0;
  if (!ends(first, last)) return;
  out.cover(first >> shift, last >> shift);
  for_each_bucket([&](int32_t index, uint64_t n) { out.bump(index >> shift, n); });
}

Distribution Distribution::coarsened(uint8_t scale) const {
  WEIR_CHECK(scale <= this->scale());
  if (scale == this->scale()) return *this;
  Distribution out(quantum(), scale);
  coarsen_cells_into(out);
  Header& h = *out.header_;
  h.sum = header_->sum;
  h.count = header_->count;
  h.zero = header_->zero;
  h.min = header_->min;
  h.max = header_->max;
  if (rare_ != nullptr) {
    out.rare().negative = rare_->negative.coarsened(scale);
    out.rare_->zero_threshold = rare_->zero_threshold;
    out.rare_->exemplars = rare_->exemplars;
    out.rare_->negative_exemplars = rare_->negative_exemplars;
  }
  out.settle();
  return out;
}

bool Distribution::same_cells(const Distribution& other) const {
  const auto groups = filled();
  const auto others = other.filled();
  if (groups.first != others.first || groups.number != others.number) return false;
  const auto first = groups.first * static_cast<int32_t>(kGroupCounts);
  for (int32_t i = 0; i < static_cast<int32_t>(groups.number * kGroupCounts); ++i) {
    if (at(first + i) != other.at(first + i)) return false;
  }
  return true;
}

bool operator==(const Distribution& a, const Distribution& b) {
  if (a.scale() != b.scale() || a.quantum() != b.quantum() || a.count() != b.count() ||
      a.negative_count() != b.negative_count() || a.zero_count() != b.zero_count() ||
      a.zero_threshold() != b.zero_threshold() || a.sum() != b.sum() || a.min() != b.min() ||
      a.max() != b.max() || !std::ranges::equal(a.exemplars(), b.exemplars()) ||
      !std::ranges::equal(a.negative_exemplars(), b.negative_exemplars()) || !a.same_cells(b)) {
    return false;
  }
  return a.negative_count() == 0 || a.rare_->negative.same_cells(b.rare_->negative);
}

}  // namespace weir
