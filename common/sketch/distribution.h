#pragma once
// Distribution: a base-2 exponential histogram of fixed scale with exact integer sum, min and max.
//
// Owner and thread: one owner, one thread; a value type. Promise: merging is commutative,
// associative and exact (integers only), so any merge tree gives the same encoded bytes; quantiles
// carry the interval that contains the true value. Cost: one allocation, a 64-byte header and 2 B
// per index between the lowest and highest filled group of 16 (one spare group after growth),
// widened to 4 and 8 B as counts grow. Negative samples, exemplars and an import's zero threshold
// are rare: the first of them allocates a side part, the others never pay for it.
//
// Bucket i at scale s holds 2^(i/N) < x <= 2^((i+1)/N) with N = 2^s and x in the metric's unit;
// samples arrive as integers in quanta of 10^quantum units (common/sketch/index_table.h). Negative
// samples have buckets of their own, by magnitude.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "common/sketch/index_table.h"

namespace weir {

inline constexpr uint8_t kDefaultScale = 6;
inline constexpr uint64_t kMaxCount = (uint64_t{1} << 63) - 1;  // per row, all buckets together

// The true value lies in [lo, hi], in the metric's unit; value is the stated answer
// 2*lo*hi/(lo+hi) clamped to [min, max]. Both ends are 0 in the zero bucket, or its threshold.
struct Estimate {
  double value = 0;
  double lo = 0;
  double hi = 0;
};

// A sample that somebody traced.
struct Exemplar {
  std::array<std::byte, 16> trace_id{};
  int64_t time_ns = 0;
  uint64_t value = 0;  // quanta; of a negative sample the magnitude

  friend bool operator==(const Exemplar&, const Exemplar&) = default;
};

class Distribution {
 public:
  // Everything but the buckets, as the codec carries it.
  struct Totals {
    uint64_t zero = 0;
    Int128 sum = 0;  // quanta, as min, max and the threshold
    Int128 min = 0;
    Int128 max = 0;
    uint64_t zero_threshold = 0;
  };

  // Scale and quantum must be index_supported().
  explicit Distribution(int8_t quantum, uint8_t scale = kDefaultScale);
  Distribution(const Distribution& other);
  Distribution& operator=(const Distribution& other);
  Distribution(Distribution&&) noexcept;  // the source may only be assigned or destroyed
  Distribution& operator=(Distribution&&) noexcept;
  ~Distribution();

  // Adds n samples of `quanta` each. Fails (kLimit), adding nothing, if the count would pass
  // kMaxCount.
  Status add(uint64_t quanta, uint64_t n = 1) {
    Header& h = *header_;
    if (quanta != 0 && n <= UINT16_MAX) [[likely]] {
      const auto at = static_cast<uint32_t>(index_of(h.slots, h.scale, quanta) - h.base);
      if (at < h.fast_cells) [[likely]] {
        uint16_t& cell = reinterpret_cast<uint16_t*>(&h + 1)[at];
        if (cell <= UINT16_MAX - n) [[likely]] {
          cell = static_cast<uint16_t>(cell + n);
          h.count += n;
          h.sum += static_cast<Int128>(quanta) * static_cast<Int128>(n);
          if (quanta < h.min) h.min = quanta;
          if (quanta > h.max) h.max = quanta;
          return {};
        }
      }
    }
    return add_slow(quanta, n);
  }

  // The same for n samples of -magnitude; and for samples of either sign.
  Status add_negative(uint64_t magnitude, uint64_t n = 1);

  Status add_signed(int64_t quanta, uint64_t n = 1) {
    if (quanta >= 0) return add(static_cast<uint64_t>(quanta), n);
    return add_negative(-static_cast<uint64_t>(quanta), n);
  }

  // Loops over many series call the first 16 samples ahead of add() and the second 8 ahead.
  void prefetch() const { __builtin_prefetch(header_.get(), 1); }

  void prefetch(uint64_t quanta) const {
    const Header& h = *header_;
    const int32_t at = quanta == 0 ? 0 : index_of(h.slots, h.scale, quanta) - h.base;
    __builtin_prefetch(reinterpret_cast<const char*>(&h + 1) + int64_t{at} * int64_t{h.width}, 1);
  }

  // Adds n samples to bucket `index` whose values are only known through add_totals() (kernel
  // cells, imports), which must follow. kInvalid: no sample can have this index. kLimit as add().
  Status add_bucket(int32_t index, uint64_t n);
  Status add_negative_bucket(int32_t index, uint64_t n);
  Status add_zero(uint64_t n);
  // Afterwards the totals are clamped to what the buckets allow (min in the lowest filled bucket,
  // max in the highest, count*min <= sum <= count*max), so that a source read in mid-update cannot
  // make a value that decoders refuse.
  void add_totals(Int128 sum, Int128 min, Int128 max);
  // States that samples of the zero bucket were anything in [-quanta, quanta] (imports). The
  // greatest one said holds; it widens what quantile() says, not what it counts.
  void raise_zero_threshold(uint64_t quanta);

  // Names a trace for a sample counted before. Of each octave, octave(value), one exemplar stays:
  // the greatest by (hash of trace id, trace id, time, value), so neither the order nor the
  // grouping of arrivals matters, nor the scale. kInvalid: the octave has no sample, or the trace
  // id is 0.
  Status add_exemplar(const Exemplar& exemplar);
  Status add_negative_exemplar(const Exemplar& exemplar);

  [[nodiscard]] int32_t octave(uint64_t quanta) const {  // quanta > 0
    return index_of(header_->slots, header_->scale, quanta) >> header_->scale;
  }

  // Same scale and quantum, else kInvalid. On failure nothing is changed.
  Status merge(const Distribution& other);

  // The same samples with wider buckets, exactly as if they had been counted so from the first.
  // scale <= scale(), and supported.
  [[nodiscard]] Distribution coarsened(uint8_t scale) const;

  // First bucket whose cumulative count, from the most negative on, is >= phi * n, in integers;
  // phi in parts per billion. kNotFound when empty.
  [[nodiscard]] Result<Estimate> quantile(uint32_t parts_per_billion) const;

  [[nodiscard]] uint64_t count() const { return header_->count; }

  [[nodiscard]] uint64_t zero_count() const { return header_->zero; }

  [[nodiscard]] uint64_t negative_count() const;
  [[nodiscard]] uint64_t zero_threshold() const;  // quanta

  [[nodiscard]] Int128 sum() const { return header_->sum; }  // quanta

  [[nodiscard]] Int128 min() const;  // quanta, 0 when empty
  [[nodiscard]] Int128 max() const;

  [[nodiscard]] uint8_t scale() const { return header_->scale; }

  [[nodiscard]] int8_t quantum() const { return static_cast<int8_t>(-3 * header_->thirds); }

  [[nodiscard]] bool empty() const { return count() == 0; }

  [[nodiscard]] double relative_error() const;  // of quantile(): 0.00542 at scale 6

  // Calls fn(index, count) for each filled bucket of positive samples, ascending; and of negative
  // samples, by ascending magnitude.
  template <class F>
  void for_each_bucket(F&& fn) const;
  template <class F>
  void for_each_negative_bucket(F&& fn) const;
  // By ascending octave.
  [[nodiscard]] std::span<const Exemplar> exemplars() const;
  [[nodiscard]] std::span<const Exemplar> negative_exemplars() const;
  [[nodiscard]] size_t memory_bytes() const;

  // The buckets between the first and last filled group of 16, as the canonical codec holds them:
  // one width byte a group, then its counts in that many bits each (common/sketch/packed_counts.h).
  struct Groups {
    int32_t first = 0;  // index >> 4 of the first group
    uint32_t number = 0;
  };

  // What unpack() takes of the positive and of the negative buckets.
  struct PackedGroups {
    int32_t first = 0;
    ByteView widths;
    ByteView packed;  // may be longer: unpack() takes its bytes off the front
  };

  [[nodiscard]] Groups pack(Bytes& widths, Bytes& packed) const;  // appends
  [[nodiscard]] Groups pack_negative(Bytes& widths, Bytes& packed) const;
  // The inverse; refuses (kInvalid) whatever those and the accessors cannot have given.
  static Result<Distribution> unpack(int8_t quantum, uint8_t scale, const Totals& totals,
                                     PackedGroups& positive, PackedGroups& negative);
  // The count of what unpack() makes of these totals and positive buckets, taken in the same way,
  // for who only checks: nothing is allocated. Nothing (and none taken) if that would be refused or
  // has counts beyond 16 bits: unpack() knows.
  static std::optional<uint64_t> narrow_count(int8_t quantum, uint8_t scale, const Totals& totals,
                                              PackedGroups& positive);

  friend bool operator==(const Distribution& a, const Distribution& b);

 private:
  // One cache line; `cells` counters of `width` bytes follow in the same allocation.
  struct alignas(64) Header {
    Int128 sum = 0;  // of all samples
    const IndexSlot* slots = nullptr;
    uint64_t count = 0;  // of all samples
    uint64_t zero = 0;
    uint64_t min = UINT64_MAX;  // of those not negative; as is while there are none
    uint64_t max = 0;
    int16_t base = 0;  // index of the first cell, a multiple of 16
    uint16_t cells = 0;
    // What add() may use without further checks: `cells` while they are of two bytes and the count
    // cannot pass its limit before one of them is full, else 0.
    uint16_t fast_cells = 0;
    uint8_t scale = kDefaultScale;
    uint8_t width : 4 = 2;    // bytes: 2, 4 or 8
    uint8_t padding : 2 = 0;  // 16-byte units of the allocation in front of this header
    uint8_t thirds : 2 = 0;   // quantum / -3
  };

  static_assert(sizeof(Header) == 64);

  struct Free {
    void operator()(Header* header) const;
  };

  using Owner = std::unique_ptr<Header, Free>;

  enum class Cells : uint8_t { kZero, kUnset };
  static Header header_of(const IndexTable& table);
  static Owner allocate(const Header& header, Cells cells = Cells::kZero);  // copies the header

  explicit Distribution(Owner header) : header_(std::move(header)) {}

  // Where the cells of these groups belong, yet to be unpacked, and how long those are.
  static Status read_groups(const IndexTable& table, const PackedGroups& in, Header& header,
                            size_t& packed);
  static Result<Distribution> unpack_cells(int8_t quantum, uint8_t scale, PackedGroups& in);

  template <class F>
  static auto with_cells(Header& header, F&& f);  // f(span of uint16_t, uint32_t or uint64_t)
  [[nodiscard]] const IndexTable& table() const;
  [[nodiscard]] uint64_t at(int32_t index) const;  // 0 outside the cells
  [[nodiscard]] Groups filled() const;
  [[nodiscard]] bool same_cells(const Distribution& other) const;
  void settle();  // fast_cells, after cells, width, zero or negative counts changed
  void reshape(int32_t base, uint32_t cells, uint8_t width);
  void cover(int32_t first, int32_t last);  // makes room for these indices
  Status add_slow(uint64_t quanta, uint64_t n);
  void bump(int32_t index, uint64_t n);
  void merge_cells(const Distribution& other);
  void coarsen_cells_into(Distribution& out) const;
  // The filled buckets' ends; false when there are none. The cells lie behind their header.
  static bool ends(const Header& header, int32_t& first, int32_t& last);

  bool ends(int32_t& first, int32_t& last) const { return ends(*header_, first, last); }

  // Is this the bucket of `quanta`? And the value of a bucket nearest to `quanta`.
  static bool in_bucket(const Header& header, uint64_t quanta, int32_t index);
  [[nodiscard]] uint64_t clamp_into(uint64_t quanta, int32_t index) const;
  [[nodiscard]] bool consistent() const;
  [[nodiscard]] static bool consistent(const Header& header);  // without negative samples
  Groups pack_cells(Bytes& widths, Bytes& packed) const;

  [[nodiscard]] bool has_octave(int32_t octave) const;  // any cell of it filled
  [[nodiscard]] Status check_exemplar(const Exemplar& exemplar) const;
  void keep(std::vector<Exemplar>& kept, const Exemplar& exemplar) const;

  struct Rare;
  Rare& rare();  // made when it is first needed

  Owner header_;
  std::unique_ptr<Rare> rare_;
};

// What few distributions have.
struct Distribution::Rare {
  explicit Rare(int8_t quantum, uint8_t scale) : negative(quantum, scale) {}

  // The negative samples by magnitude: its cells, count, min and max. The sum is kept above: the
  // split into a negative and a positive part is not encoded, so nothing may depend on it. For the
  // same reason its min is used only while there is no other sample, and the header's min above
  // only while there is no negative one.
  Distribution negative;
  std::vector<Exemplar> exemplars;  // ascending octaves, each once
  std::vector<Exemplar> negative_exemplars;
  uint64_t zero_threshold = 0;
};

inline Distribution::Distribution(Distribution&&) noexcept = default;
inline Distribution& Distribution::operator=(Distribution&&) noexcept = default;
inline Distribution::~Distribution() = default;

inline uint64_t Distribution::negative_count() const {
  return rare_ == nullptr ? 0 : rare_->negative.count();
}

inline uint64_t Distribution::zero_threshold() const {
  return rare_ == nullptr ? 0 : rare_->zero_threshold;
}

inline std::span<const Exemplar> Distribution::exemplars() const {
  return rare_ == nullptr ? std::span<const Exemplar>() : rare_->exemplars;
}

inline std::span<const Exemplar> Distribution::negative_exemplars() const {
  return rare_ == nullptr ? std::span<const Exemplar>() : rare_->negative_exemplars;
}

inline Int128 Distribution::min() const {
  if (negative_count() != 0) return -static_cast<Int128>(rare_->negative.header_->max);
  return empty() ? Int128{0} : static_cast<Int128>(header_->min);
}

inline Int128 Distribution::max() const {
  if (count() != negative_count() || empty()) return static_cast<Int128>(header_->max);
  return -static_cast<Int128>(rare_->negative.header_->min);
}

template <class F>
auto Distribution::with_cells(Header& header, F&& f) {
  void* cells = &header + 1;
  if (header.width == 2) return f(std::span(static_cast<uint16_t*>(cells), header.cells));
  if (header.width == 4) return f(std::span(static_cast<uint32_t*>(cells), header.cells));
  return f(std::span(static_cast<uint64_t*>(cells), header.cells));
}

template <class F>
void Distribution::for_each_bucket(F&& fn) const {
  with_cells(*header_, [&](auto cells) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (cells[i] != 0) fn(header_->base + static_cast<int32_t>(i), uint64_t{cells[i]});
    }
  });
}

template <class F>
void Distribution::for_each_negative_bucket(F&& fn) const {
  if (rare_ != nullptr) rare_->negative.for_each_bucket(std::forward<F>(fn));
}

}  // namespace weir
