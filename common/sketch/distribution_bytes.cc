// A distribution's canonical form: what may be packed, and what of it decoders take.

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/sketch/distribution.h"
#include "common/sketch/packed_counts.h"

namespace weir {

namespace {

bool in_range(uint64_t count, Int128 sum, Int128 min, Int128 max) {
  const auto n = static_cast<Int128>(count);
  return count != 0 && count <= kMaxCount && min <= max && n * min <= sum && sum <= n * max;
}

}  // namespace

uint64_t Distribution::clamp_into(uint64_t quanta, int32_t index) const {
  // The smallest sample of a bucket is the first one the table puts there.
  const auto smallest = [this](int32_t wanted) {
    uint64_t lo = 1;
    uint64_t hi = UINT64_MAX;
    while (lo < hi) {
      const uint64_t middle = lo + (hi - lo) / 2;
      if (index_of(header_->slots, header_->scale, middle) >= wanted) {
        hi = middle;
      } else {
        lo = middle + 1;
      }
    }
    return lo;
  };
  const uint64_t top = index >= table().highest() ? UINT64_MAX : smallest(index + 1) - 1;
  return std::clamp(quanta, smallest(index), top);
}

void Distribution::add_totals(Int128 sum, Int128 min, Int128 max) {
  Header& h = *header_;
  if (h.count == 0) return;
  const auto magnitude = [](Int128 quanta) {
    return static_cast<uint64_t>(std::clamp<Int128>(quanta, 0, UINT64_MAX));
  };
  const bool others = h.count != negative_count();
  int32_t first = 0;
  int32_t last = 0;
  if (negative_count() != 0) {
    const Distribution& below = rare_->negative;
    Header& b = *below.header_;
    b.max = std::max(b.max, magnitude(-min));
    if (!others) b.min = std::min(b.min, magnitude(-max));
    WEIR_CHECK(below.ends(first, last));
    b.max = below.clamp_into(b.max, last);
    if (!others) b.min = below.clamp_into(b.min, first);
  } else {
    h.min = h.zero != 0 ? 0 : std::min(h.min, magnitude(min));
  }
  if (others) {
    h.max = std::max(h.max, magnitude(max));
    if (ends(first, last)) {
      if (h.zero == 0 && negative_count() == 0) h.min = clamp_into(h.min, first);
      h.max = clamp_into(h.max, last);
    } else {
      h.max = 0;
    }
  }
  const auto n = static_cast<Int128>(h.count);
  const Int128 lowest = n * this->min();
  const Int128 highest = n * this->max();
  // A wild sum may not overflow before it is clamped: the limits themselves are within 2^127.
  if (__builtin_add_overflow(h.sum, sum, &h.sum)) h.sum = sum < 0 ? lowest : highest;
  h.sum = std::clamp(h.sum, lowest, highest);
}

bool Distribution::in_bucket(const Header& header, uint64_t quanta, int32_t index) {
  return quanta != 0 && index_of(header.slots, header.scale, quanta) == index;
}

// What decoders demand of every row; holds for whatever add(), merge() and add_totals() made.
bool Distribution::consistent() const {
  const Header& h = *header_;
  if (negative_count() == 0) return consistent(h);
  const Distribution& below = rare_->negative;
  int32_t first = 0;
  int32_t last = 0;
  if (!below.ends(first, last) || !in_bucket(h, below.header_->max, last)) return false;
  if (negative_count() == h.count) {
    if (!in_bucket(h, below.header_->min, first)) return false;
  } else if (ends(first, last) ? !in_bucket(h, h.max, last) : h.max != 0) {
    return false;
  }
  return in_range(h.count, h.sum, min(), max());
}

bool Distribution::consistent(const Header& h) {
  int32_t first = 0;
  int32_t last = 0;
  const bool positives = ends(h, first, last);
  if (positives ? !in_bucket(h, h.max, last) : h.max != 0) return false;
  if (h.zero != 0 ? h.min != 0 : !in_bucket(h, h.min, first)) return false;
  return in_range(h.count, h.sum, static_cast<Int128>(h.min), static_cast<Int128>(h.max));
}

Distribution::Groups Distribution::pack_cells(Bytes& widths, Bytes& packed) const {
  const Groups groups = filled();
  if (groups.number == 0) return groups;
  with_cells(*header_, [&](auto all) {
    const auto first = static_cast<size_t>(first_of(groups.first) - header_->base);
    const auto cells = all.subspan(first, groups.number * kGroupCounts);
    if constexpr (sizeof cells[0] == 2) {
      pack_counts16(cells, widths, packed);
    } else {
      for (size_t at = 0; at < cells.size(); at += kGroupCounts) {
        CountGroup counts;
        for (size_t i = 0; i < kGroupCounts; ++i) counts[i] = cells[at + i];
        const uint8_t width = packed_width(counts);
        widths.push_back(static_cast<std::byte>(width));
        pack_counts(counts, width, packed);
      }
    }
  });
  return groups;
}

Distribution::Groups Distribution::pack(Bytes& widths, Bytes& packed) const {
  WEIR_CHECK(consistent());
  return pack_cells(widths, packed);
}

Distribution::Groups Distribution::pack_negative(Bytes& widths, Bytes& packed) const {
  if (negative_count() == 0) return {};
  return rare_->negative.pack_cells(widths, packed);
}

Status Distribution::read_groups(const IndexTable& table, const PackedGroups& in, Header& header,
                                 size_t& packed) {
  const auto groups = static_cast<int64_t>(in.widths.size());
  if (groups == 0 ? in.first != 0
                  : in.first < group_of(table.lowest()) ||
                        in.first + groups > group_of(table.highest()) + 1) {
    return invalid("bucket groups outside the range of their scale");
  }
  const RunSize size = run_size(in.widths);
  if (size.cell_bytes == 0) return invalid("a bucket width passes 64 bits");
  if (size.packed > in.packed.size()) return invalid("packed counts end too early");
  if (groups != 0 && (in.widths.front() == std::byte{0} || in.widths.back() == std::byte{0})) {
    return invalid("the first or last bucket group is empty");
  }
  packed = size.packed;
  header.base = static_cast<int16_t>(first_of(in.first));
  header.cells = static_cast<uint16_t>(groups * kGroupCounts);
  header.width = size.cell_bytes & 15U;
  return {};
}

// Cells and their count alone.
Result<Distribution> Distribution::unpack_cells(int8_t quantum, uint8_t scale, PackedGroups& in) {
  const IndexTable& table = index_table(scale, quantum);
  Header header = header_of(table);
  size_t packed_bytes = 0;
  WEIR_TRY(read_groups(table, in, header, packed_bytes));
  Distribution out(allocate(header, Cells::kUnset));
  UInt128 count = 0;
  const bool minimal = with_cells(*out.header_, [&](auto cells) {
    using Cell = typename decltype(cells)::value_type;
    if constexpr (sizeof(Cell) == 2) {
      uint64_t sum = 0;
      const bool ok = unpack_counts16(in.widths, in.packed, cells.data(), sum);
      count = sum;
      return ok;
    } else {
      Cell* to = cells.data();
      ByteView packed = in.packed;
      for (const std::byte raw : in.widths) {
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
  in.packed = in.packed.subspan(packed_bytes);
  if (!minimal) return invalid("a bucket width is not the smallest");
  if (count > kMaxCount) return invalid("a distribution's count is out of range");
  out.header_->count = static_cast<uint64_t>(count);
  return out;
}

Result<Distribution> Distribution::unpack(int8_t quantum, uint8_t scale, const Totals& totals,
                                          PackedGroups& positive, PackedGroups& negative) {
  if (!index_supported(scale, quantum)) return invalid("no buckets for this scale and quantum");
  WEIR_TRY_ASSIGN(Distribution out, unpack_cells(quantum, scale, positive));
  Header& h = *out.header_;
  UInt128 count = static_cast<UInt128>(h.count) + totals.zero;
  if (!negative.widths.empty()) {
    WEIR_TRY_ASSIGN(Distribution below, unpack_cells(quantum, scale, negative));
    count += below.count();
    // Magnitudes beyond 64 bits are no samples: consistent() finds 0 in no bucket.
    const auto magnitude = [](Int128 quanta) {
      return quanta < 0 && -quanta <= UINT64_MAX ? static_cast<uint64_t>(-quanta) : uint64_t{0};
    };
    below.header_->max = magnitude(totals.min);
    if (below.count() == count) below.header_->min = magnitude(totals.max);
    below.settle();
    out.rare().negative = std::move(below);
  } else if (totals.min < 0 || negative.first != 0) {
    return invalid("a minimum or a bucket of no negative sample");
  } else {
    h.min = static_cast<uint64_t>(totals.min);
  }
  if (count == 0 || count > kMaxCount) return invalid("a distribution's count is out of range");
  h.count = static_cast<uint64_t>(count);
  if (h.count != out.negative_count()) {
    if (totals.max < 0 || totals.max > UINT64_MAX) return invalid("a maximum is out of range");
    h.max = static_cast<uint64_t>(totals.max);
  }
  h.zero = totals.zero;
  h.sum = totals.sum;
  out.raise_zero_threshold(totals.zero_threshold);
  out.settle();
  if (!out.consistent()) return invalid("sum, min or max contradict the buckets");
  return out;
}

std::optional<uint64_t> Distribution::narrow_count(int8_t quantum, uint8_t scale,
                                                   const Totals& totals, PackedGroups& positive) {
  struct Narrow {
    explicit Narrow(const IndexTable& table) : header(header_of(table)) {}

    Header header;
    std::array<uint16_t, kMaxRun * kGroupCounts> cells;  // as many as there are groups are set
  };

  if (!index_supported(scale, quantum) || totals.min < 0 || totals.max > UINT64_MAX) return {};
  const IndexTable& table = index_table(scale, quantum);
  Narrow narrow(table);
  Header& h = narrow.header;
  size_t packed = 0;
  if (!read_groups(table, positive, h, packed).ok() || h.width != 2) return {};
  uint64_t count = 0;
  if (!unpack_counts16(positive.widths, positive.packed, narrow.cells.data(), count)) return {};
  if (totals.zero > kMaxCount - count) return {};
  h.count = count + totals.zero;
  h.zero = totals.zero;
  h.sum = totals.sum;
  h.min = static_cast<uint64_t>(totals.min);
  h.max = static_cast<uint64_t>(totals.max);
  if (!consistent(h)) return {};
  positive.packed = positive.packed.subspan(packed);
  return h.count;
}

}  // namespace weir
