#include "common/sketch/distribution.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <new>
#include <type_traits>

#include "common/check.h"
#include "common/sketch/cell_sums.h"
#include "common/sketch/packed_counts.h"

namespace weir {

namespace {

constexpr int32_t kGroup = static_cast<int32_t>(kGroupCounts);
constexpr uint64_t kBillion = 1'000'000'000;
constexpr size_t kPaddingUnit = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
static_assert(kPaddingUnit == 16);

Error too_many() { return {Errc::kLimit, "a distribution would pass 2^63-1 samples"}; }

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

Distribution::Header Distribution::header_of(const IndexTable& table) {
  Header header;
  header.slots = table.slots().data();
  header.scale = table.scale();
  header.thirds = static_cast<uint8_t>(table.quantum() / -3) & 3U;
  return header;
}

Distribution::Distribution(int8_t quantum, uint8_t scale)
    : header_(allocate(header_of(index_table(scale, quantum)))) {}

Distribution::Distribution(const Distribution& other)
    : header_(allocate(*other.header_, Cells::kUnset)) {
  const Header& h = *header_;
  std::memcpy(header_.get() + 1, other.header_.get() + 1, size_t{h.cells} * h.width);
  if (other.rare_ != nullptr) rare_ = std::make_unique<Rare>(*other.rare_);
}

Distribution& Distribution::operator=(const Distribution& other) {
  if (this != &other) *this = Distribution(other);
  return *this;
}

const IndexTable& Distribution::table() const { return index_table(scale(), quantum()); }

Distribution::Rare& Distribution::rare() {
  if (rare_ == nullptr) rare_ = std::make_unique<Rare>(quantum(), scale());
  return *rare_;
}

// All two-byte cells together stay below 2^30, and zero and negative counts grow only where this is
// called afterwards: while this much room is left, a full cell comes before a full count.
void Distribution::settle() {
  Header& h = *header_;
  constexpr uint64_t kRoom = uint64_t{1} << 30;
  h.fast_cells =
      h.width == 2 && h.zero + negative_count() <= kMaxCount - kRoom ? h.cells : uint16_t{0};
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

Status Distribution::add_negative(uint64_t magnitude, uint64_t n) {
  if (n == 0) return {};
  if (magnitude == 0) return add_zero(n);
  if (n > kMaxCount - header_->count) return too_many();
  WEIR_TRY(rare().negative.add(magnitude, n));
  header_->count += n;
  header_->sum -= static_cast<Int128>(magnitude) * static_cast<Int128>(n);
  settle();
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

Status Distribution::add_negative_bucket(int32_t index, uint64_t n) {
  if (n > kMaxCount - header_->count) return too_many();
  WEIR_TRY(rare().negative.add_bucket(index, n));
  header_->count += n;
  settle();
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

bool Distribution::ends(const Header& header, int32_t& first, int32_t& last) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&header + 1);
  const size_t size = size_t{header.cells} * header.width;
  const auto word = [bytes](size_t at) {
    uint64_t out = 0;
    std::memcpy(&out, bytes + at, sizeof out);
    return out;
  };
  // A bit for each of four words that is not 0: where in them the ends lie has no pattern that a
  // branch could follow.
  const auto filled = [&](size_t at) {
    const auto bit = [&](size_t i) { return static_cast<unsigned>(word(at + 8 * i) != 0) << i; };
    return bit(0) | bit(1) | bit(2) | bit(3);
  };
  constexpr size_t kStep = 32;  // divides a group of cells of any width
  size_t lo = 0;
  while (lo < size && filled(lo) == 0) lo += kStep;
  if (lo >= size) return false;
  size_t hi = size - kStep;
  while (filled(hi) == 0) hi -= kStep;
  lo += 8 * static_cast<size_t>(std::countr_zero(filled(lo)));
  lo += static_cast<size_t>(std::countr_zero(word(lo))) / 8;
  hi += 8 * (static_cast<size_t>(std::bit_width(filled(hi))) - 1);
  hi += (std::bit_width(word(hi)) - 1) / 8;
  const int shift = std::countr_zero(static_cast<unsigned>(header.width));
  first = header.base + static_cast<int32_t>(lo >> shift);
  last = header.base + static_cast<int32_t>(hi >> shift);
  return true;
}

void Distribution::merge_cells(const Distribution& other) {
  if (other.header_->cells == 0) return;
  cover(other.header_->base, other.header_->base + other.header_->cells - 1);
  if (header_->width < other.header_->width) {
    reshape(header_->base, header_->cells, other.header_->width);
  }
  const auto shift = static_cast<size_t>(other.header_->base - header_->base);
  const auto each = [&](auto&& add) {
    return with_cells(*header_, [&](auto to) {
      return with_cells(*other.header_, [&](auto cells) {
        using From = typename decltype(cells)::value_type;
        if constexpr (sizeof to[0] < sizeof(From))
          return false;  // it was widened
        else
          return add(to.data() + shift, std::span<const From>(cells));
      });
    });
  };
  const auto add = [](auto* to, auto from) {
    add_cells(to, from);
    return true;
  };
  // No cell can pass its width while the total fits it. Twice the width holds any sum.
  if (bytes_for(count() + other.count()) > header_->width) {
    const auto try_add = [](auto* to, auto from) {
      if constexpr (sizeof to[0] == 8)
        return false;
      else
        return try_add_cells(to, from);
    };
    if (each(try_add)) return;
    reshape(header_->base, header_->cells, static_cast<uint8_t>(2 * header_->width));
  }
  WEIR_CHECK(each(add));
}

Status Distribution::merge(const Distribution& other) {
  if (other.scale() != scale() || other.quantum() != quantum()) {
    return invalid("distributions of different scale or quantum do not merge");
  }
  if (other.count() > kMaxCount - count()) return too_many();
  if (&other == this) return merge(Distribution(other));
  merge_cells(other);
  Header& h = *header_;
  const Header& o = *other.header_;
  h.zero += o.zero;
  h.sum += o.sum;
  h.min = std::min(h.min, o.min);
  h.max = std::max(h.max, o.max);
  h.count += o.count;
  if (other.rare_ != nullptr) {
    const Rare& from = *other.rare_;
    WEIR_TRY(rare().negative.merge(from.negative));  // fits: both counts together do
    raise_zero_threshold(from.zero_threshold);
    for (const Exemplar& each : from.exemplars) keep(rare_->exemplars, each);
    for (const Exemplar& each : from.negative_exemplars) keep(rare_->negative_exemplars, each);
  }
  settle();
  return {};
}

void Distribution::raise_zero_threshold(uint64_t quanta) {
  if (quanta > zero_threshold()) rare().zero_threshold = quanta;
}

size_t Distribution::memory_bytes() const {
  size_t bytes = sizeof(Header) + size_t{header_->cells} * header_->width;
  if (rare_ != nullptr) {
    bytes += sizeof(Rare) + rare_->negative.memory_bytes();
    bytes += sizeof(Exemplar) * rare_->exemplars.capacity();
    bytes += sizeof(Exemplar) * rare_->negative_exemplars.capacity();
  }
  return bytes;
}

Distribution::Groups Distribution::filled() const {
  int32_t first = 0;
  int32_t last = 0;
  if (!ends(first, last)) return {};
  return {group_of(first), static_cast<uint32_t>(group_of(last) - group_of(first) + 1)};
}

}  // namespace weir
