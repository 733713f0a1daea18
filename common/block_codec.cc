#include "common/block_codec.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "common/check.h"

namespace weir {

namespace {

constexpr uint8_t kVersion = 1;

enum class Encoding : uint8_t { kVarint = 1, kZigzag = 2, kBytes = 3 };  // wire values

constexpr Encoding kAbsent{};  // a column this version does not write

// Column numbers are wire values, counted from 1 in each kind.
constexpr size_t kMaxColumns = 16;
using Layout = std::array<Encoding, kMaxColumns>;

enum CounterColumn : size_t { kDelta = 1 };

constexpr Layout kCounterLayout = {kAbsent, Encoding::kVarint};

enum GaugeColumn : size_t {
  kGaugeN = 1,
  kGaugeSum,
  kGaugeMin,
  kGaugeSpread,  // max - min
  kGaugeLastTime,
  kGaugeLastSource,
  kGaugeLastValue,
};

constexpr Layout kGaugeLayout = {kAbsent,           Encoding::kVarint, Encoding::kZigzag,
                                 Encoding::kZigzag, Encoding::kVarint, Encoding::kZigzag,
                                 Encoding::kVarint, Encoding::kZigzag};

enum DistributionColumn : size_t {
  kScale = 1,  // less kDefaultScale
  kZero = 3,   // 2 is kept for flags, 11..15 for negative buckets and exemplars
  kSum,
  kMin,
  kSpread,  // max - min
  kFirstGroup,
  kGroups,
  kWidths,
  kPacked,
};

constexpr Layout kDistributionLayout = {kAbsent,           Encoding::kZigzag, kAbsent,
                                        Encoding::kVarint, Encoding::kZigzag, Encoding::kVarint,
                                        Encoding::kVarint, Encoding::kZigzag, Encoding::kVarint,
                                        Encoding::kBytes,  Encoding::kBytes};

enum ProfileColumn : size_t {
  kSamples = 1,
  kLost,
  kTruncated,
  kUnresolved,
  kFrames,      // of this row's dictionary
  kFrameKinds,  // one byte a frame
  kFrameTexts,  // module and name, each length-prefixed, frames ascending
  kNodes,       // without the root; depth first, siblings ascending by frame
  kParentDelta,
  kFrame,
  kSelf,
};

constexpr Layout kProfileLayout = {kAbsent,           Encoding::kVarint, Encoding::kVarint,
                                   Encoding::kVarint, Encoding::kVarint, Encoding::kVarint,
                                   Encoding::kBytes,  Encoding::kBytes,  Encoding::kVarint,
                                   Encoding::kVarint, Encoding::kVarint, Encoding::kVarint};

const Layout* layout_of(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return &kCounterLayout;
    case Kind::kGauge:
      return &kGaugeLayout;
    case Kind::kDistribution:
      return &kDistributionLayout;
    case Kind::kProfile:
      return &kProfileLayout;
    case Kind::kDistinct:
    case Kind::kTopk:
      return nullptr;
  }
  return nullptr;
}

// Every default is 0, so a column of defaults is a column of zero bytes.
bool all_default(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// ---- encoding ----

using Columns = std::array<ByteWriter, kMaxColumns>;

void encode_row(const Counter& counter, Columns& columns) {
  WEIR_CHECK(counter.delta <= kMaxCount);
  columns[kDelta].varint(counter.delta);
}

bool consistent(const Gauge& gauge) {
  const auto n = static_cast<Int128>(gauge.n);
  return gauge.n > 0 && gauge.n <= kMaxCount && gauge.min <= gauge.max &&
         n * gauge.min <= gauge.sum && gauge.sum <= n * gauge.max;
}

void encode_row(const Gauge& gauge, Columns& columns) {
  WEIR_CHECK(consistent(gauge));
  columns[kGaugeN].varint(gauge.n);
  columns[kGaugeSum].zigzag(gauge.sum);
  columns[kGaugeMin].zigzag(gauge.min);
  columns[kGaugeSpread].varint(static_cast<uint64_t>(gauge.max) - static_cast<uint64_t>(gauge.min));
  columns[kGaugeLastTime].zigzag(gauge.last.time_ns);
  columns[kGaugeLastSource].varint(gauge.last.source);
  columns[kGaugeLastValue].zigzag(gauge.last.value);
}

void encode_row(const Distribution& distribution, Columns& columns) {
  Bytes widths;
  Bytes packed;
  const auto groups = distribution.pack(widths, packed);
  columns[kScale].zigzag(distribution.scale() - kDefaultScale);
  columns[kZero].varint(distribution.zero_count());
  columns[kSum].zigzag(distribution.sum());
  columns[kMin].varint(distribution.min());
  columns[kSpread].varint(distribution.max() - distribution.min());
  columns[kFirstGroup].zigzag(groups.first);
  columns[kGroups].varint(groups.number);
  columns[kWidths].append(widths);
  columns[kPacked].append(packed);
}

void encode_row(const Profile& profile, Columns& columns) {
  const auto form = profile.canonical();
  columns[kSamples].varint(profile.samples());
  columns[kLost].varint(profile.quality().lost);
  columns[kTruncated].varint(profile.quality().truncated);
  columns[kUnresolved].varint(profile.quality().unresolved);
  columns[kFrames].varint(form.frames.size());
  for (const Frame* frame : form.frames) {
    columns[kFrameKinds].put(frame->kind);
    columns[kFrameTexts].text(frame->module);
    columns[kFrameTexts].text(frame->name);
  }
  columns[kNodes].varint(form.nodes.size() - 1);
  for (size_t i = 1; i < form.nodes.size(); ++i) {
    const Profile::Node& node = form.nodes[i];
    columns[kParentDelta].varint(i - node.parent);
    columns[kFrame].varint(node.frame);
    columns[kSelf].varint(node.self);
  }
}

// ---- decoding ----

// One column; an absent one reads as zeros for ever.
class ColumnReader {
 public:
  ColumnReader() : reader_(ByteView{}) {}

  explicit ColumnReader(ByteView bytes) : present_(true), reader_(bytes) {}

  [[nodiscard]] bool varint(uint64_t& value) {
    value = 0;
    return !present_ || reader_.varint(value);
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

  [[nodiscard]] bool text(std::string& out, size_t max) {
    std::string_view text;
    if (present_ && !reader_.text(text, max)) return false;
    out = text;
    return true;
  }

  [[nodiscard]] bool done() const { return reader_.remaining() == 0; }

 private:
  bool present_ = false;
  ByteReader reader_;
};

using Readers = std::array<ColumnReader, kMaxColumns>;

Error damaged() { return invalid("an entry is missing, not minimal or out of range"); }

Result<Value> decode_counter(Readers& columns) {
  Counter counter;
  if (!columns[kDelta].varint(counter.delta)) return damaged();
  if (counter.delta > kMaxCount) return invalid("a counter passes 2^63-1");
  return Value(counter);
}

Result<Value> decode_gauge(Readers& columns) {
  Gauge gauge;
  uint64_t spread = 0;
  if (!columns[kGaugeN].varint(gauge.n) || !columns[kGaugeSum].zigzag128(gauge.sum) ||
      !columns[kGaugeMin].zigzag(gauge.min) || !columns[kGaugeSpread].varint(spread) ||
      !columns[kGaugeLastTime].zigzag(gauge.last.time_ns) ||
      !columns[kGaugeLastSource].varint(gauge.last.source) ||
      !columns[kGaugeLastValue].zigzag(gauge.last.value)) {
    return damaged();
  }
  const Int128 max = static_cast<Int128>(gauge.min) + static_cast<Int128>(spread);
  if (max > std::numeric_limits<int64_t>::max())
    return invalid("a gauge's maximum is out of range");
  gauge.max = static_cast<int64_t>(max);
  if (!consistent(gauge)) return invalid("a gauge's n, sum, min and max contradict each other");
  return Value(gauge);
}

Result<Value> decode_distribution(const Metric& metric, Readers& columns) {
  Distribution::Totals totals;
  int8_t scale = 0;
  uint64_t spread = 0;
  int32_t first_group = 0;
  uint64_t groups = 0;
  ByteView widths;
  ByteView packed;
  if (!columns[kScale].zigzag(scale) || !columns[kZero].varint(totals.zero) ||
      !columns[kSum].zigzag128(totals.sum) || !columns[kMin].varint(totals.min) ||
      !columns[kSpread].varint(spread) || !columns[kFirstGroup].zigzag(first_group) ||
      !columns[kGroups].varint(groups) || !columns[kWidths].view(groups, widths)) {
    return damaged();
  }
  size_t bytes = 0;
  for (const std::byte width : widths) bytes += 2 * static_cast<size_t>(width);
  if (!columns[kPacked].view(bytes, packed)) return damaged();
  const int real_scale = scale + kDefaultScale;
  if (real_scale < 0 || real_scale > std::numeric_limits<uint8_t>::max() ||
      spread > std::numeric_limits<uint64_t>::max() - totals.min) {
    return invalid("a distribution's scale or maximum is out of range");
  }
  totals.max = totals.min + spread;
  WEIR_TRY_ASSIGN(auto distribution,
                  Distribution::unpack(metric.quantum, static_cast<uint8_t>(real_scale), totals,
                                       first_group, widths, packed));
  return Value(std::move(distribution));
}

// Every frame and node takes at least one byte of its column, so neither count is trusted.
Result<Value> decode_profile(Readers& columns) {
  uint64_t samples = 0;
  ProfileQuality quality;
  uint64_t frame_count = 0;
  uint64_t node_count = 0;
  ByteView kinds;
  if (!columns[kSamples].varint(samples) || !columns[kLost].varint(quality.lost) ||
      !columns[kTruncated].varint(quality.truncated) ||
      !columns[kUnresolved].varint(quality.unresolved) || !columns[kFrames].varint(frame_count) ||
      !columns[kFrameKinds].view(frame_count, kinds) || !columns[kNodes].varint(node_count)) {
    return damaged();
  }
  std::vector<Frame> frames;
  for (const std::byte kind : kinds) {
    Frame& frame = frames.emplace_back();
    frame.kind = static_cast<FrameKind>(kind);
    if (kind < std::byte{1} || kind > std::byte{3} ||
        !columns[kFrameTexts].text(frame.module, Profile::kMaxFrameText) ||
        !columns[kFrameTexts].text(frame.name, Profile::kMaxFrameText)) {
      return damaged();
    }
  }
  std::vector<Profile::Node> nodes(1);
  for (uint64_t i = 1; i <= node_count; ++i) {
    uint64_t delta = 0;
    uint64_t frame = 0;
    Profile::Node& node = nodes.emplace_back();
    if (!columns[kParentDelta].varint(delta) || !columns[kFrame].varint(frame) ||
        !columns[kSelf].varint(node.self) || delta == 0 || delta > i || frame >= frames.size()) {
      return damaged();
    }
    node.parent = static_cast<uint32_t>(i - delta);
    node.frame = static_cast<uint32_t>(frame);
  }
  WEIR_TRY_ASSIGN(auto profile, Profile::rebuild(std::move(frames), nodes, samples, quality));
  return Value(std::move(profile));
}

Result<Value> decode_row(const Metric& metric, Readers& columns) {
  switch (metric.kind) {
    case Kind::kCounter:
      return decode_counter(columns);
    case Kind::kGauge:
      return decode_gauge(columns);
    case Kind::kDistribution:
      return decode_distribution(metric, columns);
    case Kind::kProfile:
      return decode_profile(columns);
    case Kind::kDistinct:
    case Kind::kTopk:
      break;
  }
  return invalid("a kind this version does not know");
}

struct Header {
  uint8_t kind = 0;
  size_t rows = 0;
};

Result<Header> read_header(ByteReader& in) {
  uint8_t version = 0;
  Header header;
  uint64_t rows = 0;
  if (!in.get(version) || version != kVersion) return invalid("block of an unknown version");
  if (!in.get(header.kind)) return invalid("block ends in its header");
  if (!in.varint(rows) || rows < 1 || rows > kMaxBlockRows) {
    return invalid("block rows are not 1 to " + std::to_string(kMaxBlockRows));
  }
  header.rows = rows;
  return header;
}

Status read_columns(ByteReader& in, const Layout& layout, Readers& columns) {
  struct Entry {
    uint8_t column = 0;
    uint64_t length = 0;
  };

  std::array<Entry, kMaxColumns> entries;
  uint64_t count = 0;
  if (!in.varint(count) || count >= kMaxColumns) return invalid("block has too many columns");
  uint8_t previous = 0;
  for (size_t i = 0; i < count; ++i) {
    Entry& entry = entries[i];
    Encoding encoding{};
    if (!in.get(entry.column) || !in.get(encoding) || !in.varint(entry.length)) {
      return invalid("block ends in its directory");
    }
    if (entry.column <= previous || entry.column >= kMaxColumns ||
        layout[entry.column] == kAbsent || layout[entry.column] != encoding) {
      return invalid("block column " + std::to_string(entry.column) +
                     " is unknown, out of order or in another encoding");
    }
    previous = entry.column;
  }
  for (size_t i = 0; i < count; ++i) {
    ByteView bytes;
    if (!in.view(entries[i].length, bytes)) return invalid("block is shorter than its columns");
    if (all_default(bytes)) return invalid("block holds a column of defaults");
    columns[entries[i].column] = ColumnReader(bytes);
  }
  if (in.remaining() != 0) return invalid("block is longer than its columns");
  return {};
}

}  // namespace

Bytes encode_block(const Metric& metric, std::span<const Value* const> rows) {
  WEIR_CHECK(!rows.empty() && rows.size() <= kMaxBlockRows);
  const Layout* layout = layout_of(metric.kind);
  WEIR_CHECK(layout != nullptr);
  Columns columns;
  for (const Value* row : rows) {
    WEIR_CHECK(kind_of(*row) == metric.kind);
    std::visit([&](const auto& value) { encode_row(value, columns); }, *row);
  }
  ByteWriter out;
  out.put(kVersion);
  out.put(metric.kind);
  out.varint(rows.size());
  const auto present = [&](const ByteWriter& column) { return !all_default(column.bytes()); };
  out.varint(static_cast<size_t>(std::count_if(columns.begin(), columns.end(), present)));
  for (size_t i = 0; i < kMaxColumns; ++i) {
    if (!present(columns[i])) continue;
    out.put(static_cast<uint8_t>(i));
    out.put((*layout)[i]);
    out.varint(columns[i].size());
  }
  for (const ByteWriter& column : columns) {
    if (present(column)) out.append(column.bytes());
  }
  return std::move(out).take();
}

Status decode_block(const Metric& metric, ByteView payload,
                    const std::function<void(size_t, Value&&)>& sink) {
  ByteReader in(payload);
  WEIR_TRY_ASSIGN(const Header header, read_header(in));
  const Layout* layout = layout_of(metric.kind);
  if (layout == nullptr || header.kind != static_cast<uint8_t>(metric.kind)) {
    return invalid("block is of another kind than its metric");
  }
  Readers columns;
  WEIR_TRY(read_columns(in, *layout, columns));
  std::vector<Value> values;
  values.reserve(header.rows);
  for (size_t row = 0; row < header.rows; ++row) {
    auto value = decode_row(metric, columns);
    if (!value.ok()) return std::move(value).error().with("block row " + std::to_string(row));
    values.push_back(*std::move(value));
  }
  for (const ColumnReader& column : columns) {
    if (!column.done()) return invalid("block holds a column with more entries than rows");
  }
  for (size_t row = 0; row < header.rows; ++row) sink(row, std::move(values[row]));
  return {};
}

Result<size_t> block_rows(ByteView payload) {
  ByteReader in(payload);
  WEIR_TRY_ASSIGN(const Header header, read_header(in));
  return header.rows;
}

}  // namespace weir
