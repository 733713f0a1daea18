#include "common/sketch/distribution.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "common/check.h"
#include "common/sketch/packed_counts.h"

namespace weir {

namespace {

constexpr int32_t kGroup = static_cast<int32_t>(kGroupCounts);
constexpr uint64_t kBillion = 1'000'000'000;
constexpr size_t kPaddingUnit = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
static_assert(kPaddingUnit == 16);

constexpr int32_t group_of(int32_t index) { return index >> 4; }  // floors below zero

Error too_many() { return {Errc::kLimit, "a distribution would pass 2^63-1 samples"}; }

// Cells come in groups: fixed inner loops over arrays that cannot overlap (copies: a distribution
// may merge with itself) become vector code.
template <class To, class From>
void add_cells(To* to, const From* from, size_t cells) {
  for (size_t group = 0; group < cells; group += kGroupCounts) {
    std::array<From, kGroupCounts> copy;
    std::memcpy(copy.data(), from + group, sizeof copy);
    std::array<To, kGroupCounts> sum;
    std::memcpy(sum.data(), to + group, sizeof sum);
    for (size_t i = 0; i < kGroupCounts; ++i) {
      sum[i] = static_cast<To>(sum[i] + static_cast<To>(copy[i]));
    }
    std::memcpy(to + group, sum.data(), sizeof sum);
  }
}

// As many bits as the largest sum has.
template <class To, class From>
uint64_t widest_sum(const To* to, const From* from, size_t cells) {
  using Sum = std::conditional_t<sizeof(To) == 2 && sizeof(From) == 2, uint32_t, uint64_t>;
  std::array<Sum, kGroupCounts> all{};
  for (size_t group = 0; group < cells; group += kGroupCounts) {
    for (size_t i = 0; i < kGroupCounts; ++i) {
      all[i] |= static_cast<Sum>(Sum{to[group + i]} + Sum{from[group + i]});
    }
  }
  Sum bits = 0;
  for (const Sum part : all) bits |= part;
  return bits;
}

uint8_t bytes_for(uint64_t count) {
  if (count <= UINT16_MAX) return 2;
  return count <= UINT32_MAX ? 4 : 8;
}

}  // namespace

void Distribution::Free::operator()(Header* header) const {
  ::operator delete(reinterpret_cast<std::byte*>(header) - kPaddingUnit * header->padding);
}

// The header starts a cache line. Done by hand: the C library's aligned allocation skips its
// thread cache and costs ten times a plain one.
Distribution::Owner Distribution::allocate(const Header& header, Cells cells) {
  const size_t bytes = size_t{header.cells} * header.width;
  constexpr size_t kSlack = alignof(Header) - kPaddingUnit;
  auto* memory = static_cast<std::byte*>(::operator new(sizeof(Header) + bytes + kSlack));
  const size_t padding = -reinterpret_cast<uintptr_t>(memory) % alignof(Header);
  Owner owner(new (memory + padding) Header(header));
  owner->padding = static_cast<uint8_t>(padding / kPaddingUnit) & 3U;
  if (cells == Cells::kZero) std::memset(static_cast<void*>(owner.get() + 1), 0, bytes);
  return owner;
}

template <class F>
auto Distribution::with_cells(Header& header, F&& f) {
  void* cells = &header + 1;
  if (header.width == 2) return f(std::span(static_cast<uint16_t*>(cells), header.cells));
  if (header.width == 4) return f(std::span(static_cast<uint32_t*>(cells), header.cells));
  return f(std::span(static_cast<uint64_t*>(cells), header.cells));
}

Distribution::Header Distribution::header_of(int8_t quantum, uint8_t scale) {
  Header header;
  header.slots = index_table(scale, quantum).slots().data();
  header.scale = scale;
  header.thirds = static_cast<uint8_t>(quantum / -3) & 3U;
  return header;
}

Distribution::Distribution(int8_t quantum, uint8_t scale)
    : header_(allocate(header_of(quantum, scale))) {}

Distribution::Distribution(const Distribution& other)
    : header_(allocate(*other.header_, Cells::kUnset)) {
  const Header& h = *header_;
  std::memcpy(header_.get() + 1, other.header_.get() + 1, size_t{h.cells} * h.width);
}

Distribution& Distribution::operator=(const Distribution& other) {
  if (this != &other) *this = Distribution(other);
  return *this;
}

const IndexTable& Distribution::table() const { return index_table(scale(), quantum()); }

// All two-byte cells together stay below 2^30, and the zero bucket grows only in add_zero() and
// merge(): while this much room is left, a full cell comes before a full count.
void Distribution::settle() {
  Header& h = *header_;
  constexpr uint64_t kRoom = uint64_t{1} << 30;
  h.fast_cells = h.width == 2 && h.zero <= kMaxCount - kRoom ? h.cells : uint16_t{0};
}

uint64_t Distribution::at(int32_t index) const {
  const auto i = static_cast<uint32_t>(index - header_->base);
  if (i >= header_->cells) return 0;
  return with_cells(*header_, [i](auto cells) { return uint64_t{cells[i]}; });
}

// Copies the cells into a new allocation; what is filled must fit it.
void Distribution::reshape(int32_t base, uint32_t cells, uint8_t width) {
  Header next = *header_;
  next.base = static_cast<int16_t>(base);
  next.cells = static_cast<uint16_t>(cells);
  next.width = width & 15U;
  Owner owner = allocate(next);
  const auto shift = static_cast<size_t>(header_->cells == 0 ? 0 : header_->base - base);
  with_cells(*header_, [&](auto from) {
    with_cells(*owner, [&](auto to) {
      using Cell = typename decltype(to)::value_type;
      for (size_t i = 0; i < from.size(); ++i) to[shift + i] = static_cast<Cell>(from[i]);
    });
  });
  header_ = std::move(owner);
  settle();
}

void Distribution::cover(int32_t first, int32_t last) {
  const Header& h = *header_;
  int32_t lo = group_of(first);
  int32_t hi = group_of(last) + 1;
  if (h.cells != 0) {
    const int32_t old_lo = group_of(h.base);
    const int32_t old_hi = old_lo + h.cells / kGroup;
    if (lo >= old_lo && hi <= old_hi) return;
    // One spare group on the side that grows halves the copies while a distribution spreads.
    lo = lo < old_lo ? std::max(lo - 1, group_of(table().lowest())) : old_lo;
    hi = hi > old_hi ? std::min(hi + 1, group_of(table().highest()) + 1) : old_hi;
  }
  reshape(lo * kGroup, static_cast<uint32_t>((hi - lo) * kGroup), h.width);
}

void Distribution::bump(int32_t index, uint64_t n) {
  cover(index, index);
  const uint64_t count = at(index) + n;  // at most the total, which is below 2^63
  if (bytes_for(count) > header_->width) {
    reshape(header_->base, header_->cells, bytes_for(count));
  }
  with_cells(*header_, [&](auto cells) {
    using Cell = typename decltype(cells)::value_type;
    cells[static_cast<size_t>(index - header_->base)] = static_cast<Cell>(count);
  });
  header_->count += n;
}

Status Distribution::add_slow(uint64_t quanta, uint64_t n) {
  if (n == 0) return {};
  if (quanta == 0) return add_zero(n);
  if (n > kMaxCount - header_->count) return too_many();
  bump(index_of(header_->slots, header_->scale, quanta), n);
  Header& h = *header_;
  h.sum += static_cast<Int128>(quanta) * static_cast<Int128>(n);
  h.min = std::min(h.min, quanta);
  h.max = std::max(h.max, quanta);
  return {};
}

Status Distribution::add_bucket(int32_t index, uint64_t n) {
  if (index < table().lowest() || index > table().highest()) {
    return invalid("bucket index " + std::to_string(index) + " is outside the range of its scale");
  }
  if (n > kMaxCount - header_->count) return too_many();
  if (n != 0) bump(index, n);
  return {};
}

Status Distribution::add_zero(uint64_t n) {
  Header& h = *header_;
  if (n > kMaxCount - h.count) return too_many();
  if (n == 0) return {};
  h.zero += n;
  h.count += n;
  h.min = 0;
  settle();
  return {};
}

bool Distribution::ends(int32_t& first, int32_t& last) const {
  return with_cells(*header_, [&](auto cells) {
    size_t lo = 0;
    size_t hi = cells.size();
    while (lo < hi && cells[lo] == 0) ++lo;
    while (lo < hi && cells[hi - 1] == 0) --hi;
    if (lo == hi) return false;
    first = header_->base + static_cast<int32_t>(lo);
    last = header_->base + static_cast<int32_t>(hi) - 1;
    return true;
  });
}

void Distribution::add_totals(Int128 sum, uint64_t min, uint64_t max) {
  Header& h = *header_;
  if (h.count == 0) return;
  h.min = h.zero != 0 ? 0 : std::min(h.min, min);
  h.max = std::max(h.max, max);
  // The smallest sample of bucket i is the first one the table puts there.
  const auto smallest = [this](int32_t index) {
    uint64_t lo = 1;
    uint64_t hi = UINT64_MAX;
    while (lo < hi) {
      const uint64_t middle = lo + (hi - lo) / 2;
      if (index_of(header_->slots, header_->scale, middle) >= index) {
        hi = middle;
      } else {
        lo = middle + 1;
      }
    }
    return lo;
  };
  const auto clamp_into = [&](uint64_t value, int32_t index) {
    const uint64_t top = index >= table().highest() ? UINT64_MAX : smallest(index + 1) - 1;
    return std::clamp(value, smallest(index), top);
  };
  int32_t first = 0;
  int32_t last = 0;
  if (ends(first, last)) {
    if (h.zero == 0) h.min = clamp_into(h.min, first);
    h.max = clamp_into(h.max, last);
  } else {
    h.max = 0;
  }
  const auto n = static_cast<Int128>(h.count);
  // A wild sum may not overflow before it is clamped: the limits themselves are below 2^127.
  if (__builtin_add_overflow(h.sum, sum, &h.sum)) h.sum = sum < 0 ? 0 : n * h.max;
  h.sum = std::clamp(h.sum, n * static_cast<Int128>(h.min), n * static_cast<Int128>(h.max));
}

Status Distribution::merge(const Distribution& other) {
  if (other.scale() != scale() || other.quantum() != quantum()) {
    return invalid("distributions of different scale or quantum do not merge");
  }
  if (other.count() > kMaxCount - count()) return too_many();
  if (other.header_->cells != 0) {
    cover(other.header_->base, other.header_->base + other.header_->cells - 1);
    const auto shift = static_cast<size_t>(other.header_->base - header_->base);
    uint8_t width = std::max<uint8_t>(header_->width, other.header_->width);
    // No cell can pass its width while the total fits it; else look at the sums first.
    if (bytes_for(count() + other.count()) > width) {
      uint64_t all = 0;
      with_cells(*other.header_, [&](auto from) {
        with_cells(*header_,
                   [&](auto to) { all = widest_sum(to.data() + shift, from.data(), from.size()); });
      });
      width = std::max(width, bytes_for(all));
    }
    if (width != header_->width) reshape(header_->base, header_->cells, width);
    with_cells(*other.header_, [&](auto from) {
      with_cells(*header_,
                 [&](auto to) { add_cells(to.data() + shift, from.data(), from.size()); });
    });
  }
  Header& h = *header_;
  const Header& o = *other.header_;
  h.zero += o.zero;
  h.sum += o.sum;
  h.min = std::min(h.min, o.min);
  h.max = std::max(h.max, o.max);
  h.count += o.count;
  settle();
  return {};
}

Result<Estimate> Distribution::quantile(uint32_t parts_per_billion) const {
  if (parts_per_billion > kBillion) return invalid("a quantile is at most 1");
  if (empty()) return Error{Errc::kNotFound, "an empty distribution has no quantiles"};
  const Header& h = *header_;
  const UInt128 wanted = static_cast<UInt128>(parts_per_billion) * h.count;
  UInt128 cumulative = h.zero;
  if (h.zero != 0 && cumulative * kBillion >= wanted) return Estimate{};
  const int32_t index = with_cells(*header_, [&](auto cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (cells[i] == 0) continue;
      cumulative += cells[i];
      if (cumulative * kBillion >= wanted) return h.base + static_cast<int32_t>(i);
    }
    return std::numeric_limits<int32_t>::max();
  });
  WEIR_CHECK(index != std::numeric_limits<int32_t>::max());  // the last bucket reaches the count
  Estimate out;
  out.lo = table().lower_edge(index);
  out.hi = table().lower_edge(index + 1);
  out.value = std::clamp(2 * out.lo * out.hi / (out.lo + out.hi),
                         table().to_unit(static_cast<double>(h.min)),
                         table().to_unit(static_cast<double>(h.max)));
  return out;
}

// Of the harmonic middle 2*lo*hi/(lo+hi), alike at both ends of a bucket: (hi-lo)/(hi+lo).
double Distribution::relative_error() const {
  const double growth = table().lower_edge(1);
  return (growth - 1) / (growth + 1);
}

void Distribution::for_each_bucket(const std::function<void(int32_t, uint64_t)>& fn) const {
  with_cells(*header_, [&](auto cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (cells[i] != 0) fn(header_->base + static_cast<int32_t>(i), cells[i]);
    }
  });
}

size_t Distribution::memory_bytes() const {
  return sizeof(Header) + size_t{header_->cells} * header_->width;
}

Distribution::Groups Distribution::filled() const {
  int32_t first = 0;
  int32_t last = 0;
  if (!ends(first, last)) return {};
  return {group_of(first), static_cast<uint32_t>(group_of(last) - group_of(first) + 1)};
}

bool operator==(const Distribution& a, const Distribution& b) {
  if (a.scale() != b.scale() || a.quantum() != b.quantum() || a.count() != b.count() ||
      a.zero_count() != b.zero_count() || a.sum() != b.sum() || a.min() != b.min() ||
      a.max() != b.max()) {
    return false;
  }
  const auto groups = a.filled();
  const auto others = b.filled();
  if (groups.first != others.first || groups.number != others.number) return false;
  for (int32_t i = 0; i < static_cast<int32_t>(groups.number) * kGroup; ++i) {
    const int32_t index = groups.first * kGroup + i;
    if (a.at(index) != b.at(index)) return false;
  }
  return true;
}

// What decoders demand of every row; holds for whatever add(), merge() and add_totals() made.
bool Distribution::consistent() const {
  const Header& h = *header_;
  int32_t first = 0;
  int32_t last = 0;
  if (ends(first, last)) {
    if (h.max == 0 || index_of(h.slots, h.scale, h.max) != last) return false;
    if (h.zero == 0 && (h.min == 0 || index_of(h.slots, h.scale, h.min) != first)) return false;
  } else if (h.max != 0) {
    return false;
  }
  if (h.zero != 0 && h.min != 0) return false;
  const auto n = static_cast<Int128>(h.count);
  return h.count > 0 && h.count <= kMaxCount && h.min <= h.max &&
         n * static_cast<Int128>(h.min) <= h.sum && h.sum <= n * static_cast<Int128>(h.max);
}

Distribution::Groups Distribution::pack(Bytes& widths, Bytes& packed) const {
  WEIR_CHECK(consistent());
  const Groups groups = filled();
  with_cells(*header_, [&](auto cells) {
    auto at = static_cast<size_t>(groups.number == 0 ? 0 : groups.first * kGroup - header_->base);
    for (uint32_t g = 0; g < groups.number; ++g, at += kGroupCounts) {
      CountGroup counts;
      for (size_t i = 0; i < kGroupCounts; ++i) counts[i] = cells[at + i];
      const uint8_t width = packed_width(counts);
      widths.push_back(static_cast<std::byte>(width));
      pack_counts(counts, width, packed);
    }
  });
  return groups;
}

Result<Distribution> Distribution::unpack(int8_t quantum, uint8_t scale, const Totals& totals,
                                          int32_t first_group, ByteView widths, ByteView packed) {
  if (!index_supported(scale, quantum)) return invalid("no buckets for this scale and quantum");
  const IndexTable& table = index_table(scale, quantum);
  const auto groups = static_cast<int64_t>(widths.size());
  if (groups == 0 ? first_group != 0
                  : first_group < group_of(table.lowest()) ||
                        first_group + groups > group_of(table.highest()) + 1) {
    return invalid("bucket groups outside the range of their scale");
  }
  size_t bytes = 0;
  uint8_t widest = 0;
  for (const std::byte width : widths) {
    bytes += 2 * static_cast<size_t>(width);
    widest = std::max(widest, static_cast<uint8_t>(width));
  }
  if (widest > kMaxPackedWidth) return invalid("a bucket width passes 64 bits");
  if (bytes != packed.size()) return invalid("bucket widths do not add up to the packed counts");
  if (groups != 0 && (widths.front() == std::byte{0} || widths.back() == std::byte{0})) {
    return invalid("the first or last bucket group is empty");
  }

  Header header = header_of(quantum, scale);
  header.base = static_cast<int16_t>(first_group * kGroup);
  header.cells = static_cast<uint16_t>(groups * kGroup);
  header.width = widest <= 16 ? 2 : (widest <= 32 ? 4 : 8);
  Distribution out(allocate(header, Cells::kUnset));
  UInt128 count = totals.zero;
  const bool minimal = with_cells(*out.header_, [&](auto cells) {
    using Cell = typename decltype(cells)::value_type;
    if constexpr (sizeof(Cell) == 2) {
      uint64_t sum = 0;
      const bool ok = unpack_counts16(widths, packed, cells.data(), sum);
      count += sum;
      return ok;
    } else {
      Cell* to = cells.data();
      for (const std::byte raw : widths) {
        const auto width = static_cast<uint8_t>(raw);
        CountGroup counts;
        unpack_counts(packed, width, counts);
        if (packed_width(counts) != width) return false;
        for (const uint64_t n : counts) {
          *to++ = static_cast<Cell>(n);
          count += n;
        }
        packed = packed.subspan(size_t{2} * width);
      }
      return true;
    }
  });
  if (!minimal) return invalid("a bucket width is not the smallest");
  if (count == 0 || count > kMaxCount) return invalid("a distribution's count is out of range");
  Header& h = *out.header_;
  h.zero = totals.zero;
  h.sum = totals.sum;
  h.min = totals.min;
  h.max = totals.max;
  h.count = static_cast<uint64_t>(count);
  out.settle();
  if (!out.consistent()) return invalid("sum, min or max contradict the buckets");
  return out;
}

}  // namespace weir
