#pragma once
// The columns of a block, kind by kind: what common/block_codec.cc frames and the block_*.cc files
// fill and read. Internal to the codec; nothing else includes it.
//
// Pure. Column numbers are wire values, counted from 1 in each kind; every default is 0.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/metric.h"
#include "common/result.h"
#include "common/value.h"

namespace weir::block {

enum class Encoding : uint8_t { kVarint = 1, kZigzag = 2, kBytes = 3 };  // wire values

inline constexpr Encoding kAbsent{};  // a column this version does not write

inline constexpr size_t kMaxColumns = 24;
using Layout = std::array<Encoding, kMaxColumns>;
using Columns = std::array<ByteWriter, kMaxColumns>;

// One column; an absent one reads as zeros for ever.
class ColumnReader {
 public:
  ColumnReader() : reader_(ByteView{}) {}

  explicit ColumnReader(ByteView bytes) : present_(true), reader_(bytes) {}

  [[nodiscard]] bool varint(uint64_t& value) {
    value = 0;
    return !present_ || reader_.varint(value);
  }

  [[nodiscard]] bool varint128(UInt128& value) {
    value = 0;
    return !present_ || reader_.varint128(value);
  }

  [[nodiscard]] bool zigzag128(Int128& value) {
    value = 0;
    return !present_ || reader_.zigzag(value);
  }

  template <class T>
  [[nodiscard]] bool zigzag(T& value) {
    Int128 wide = 0;
    if (!zigzag128(wide) || wide < std::numeric_limits<T>::min() ||
        wide > std::numeric_limits<T>::max()) {
      return false;
    }
    value = static_cast<T>(wide);
    return true;
  }

  [[nodiscard]] bool view(size_t size, ByteView& out) { return reader_.view(size, out); }

  // A view into the block.
  [[nodiscard]] bool text(std::string_view& out, size_t max) {
    out = {};
    return !present_ || reader_.text(out, max);
  }

  // What is left, for those who find the end themselves; `used` of it is taken.
  [[nodiscard]] ByteView rest() const { return reader_.rest(); }

  [[nodiscard]] bool skip(size_t used) {
    ByteView skipped;
    return reader_.view(used, skipped);
  }

  [[nodiscard]] bool text(std::string& out, size_t max) {
    std::string_view view;
    if (!text(view, max)) return false;
    out = view;
    return true;
  }

  [[nodiscard]] bool absent() const { return !present_; }

  [[nodiscard]] bool done() const { return reader_.remaining() == 0; }

 private:
  bool present_ = false;
  ByteReader reader_;
};

using Readers = std::array<ColumnReader, kMaxColumns>;

inline Error damaged() { return invalid("an entry is missing, not minimal or out of range"); }

extern const Layout kCounterLayout;
extern const Layout kGaugeLayout;
extern const Layout kDistributionLayout;
extern const Layout kDistinctLayout;
extern const Layout kTopkLayout;
extern const Layout kProfileLayout;

// Appends one row; the value holds something (common/block_codec.h).
void encode_row(const Counter& counter, Columns& columns);
void encode_row(const Gauge& gauge, Columns& columns);
void encode_row(const Distribution& distribution, Columns& columns);
void encode_row(const Distinct& distinct, Columns& columns);
void encode_row(const Topk& topk, Columns& columns);
void encode_row(const Profile& profile, Columns& columns);

// Takes the next row; kInvalid says what is wrong with it.
Result<Value> decode_counter(Readers& columns);
Result<Value> decode_gauge(Readers& columns);
Result<Distribution> decode_distribution(const Metric& metric, Readers& columns);
// The same checks and errors; its count.
Result<uint64_t> check_distribution(const Metric& metric, Readers& columns);
Result<Value> decode_distinct(Readers& columns);
Result<Value> decode_topk(Readers& columns);
Result<Value> decode_profile(Readers& columns);

}  // namespace weir::block
