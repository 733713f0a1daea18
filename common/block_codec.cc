#include "common/block_codec.h"

#include <algorithm>
#include <array>
#include <string>

#include "common/block_columns.h"
#include "common/check.h"

namespace weir {

namespace {

constexpr uint8_t kVersion = 1;

using block::ColumnReader;
using block::Columns;
using block::Encoding;
using block::kAbsent;
using block::kMaxColumns;
using block::Layout;
using block::Readers;

const Layout* layout_of(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return &block::kCounterLayout;
    case Kind::kGauge:
      return &block::kGaugeLayout;
    case Kind::kDistribution:
      return &block::kDistributionLayout;
    case Kind::kDistinct:
      return &block::kDistinctLayout;
    case Kind::kTopk:
      return &block::kTopkLayout;
    case Kind::kProfile:
      return &block::kProfileLayout;
  }
  return nullptr;
}

// Every default is 0, so a column of defaults is a column of zero bytes.
bool all_default(ByteView bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// Constructed where it stays: moving variants about costs more than reading a small row.
template <class T>
Status put_row(Result<T> row, std::vector<Value>& values) {
  if (!row.ok()) return std::move(row).error();
  values.emplace_back(*std::move(row));
  return {};
}

Status decode_row(const Metric& metric, Readers& columns, std::vector<Value>& values) {
  switch (metric.kind) {
    case Kind::kCounter:
      return put_row(block::decode_counter(columns), values);
    case Kind::kGauge:
      return put_row(block::decode_gauge(columns), values);
    case Kind::kDistribution:
      return put_row(block::decode_distribution(metric, columns), values);
    case Kind::kDistinct:
      return put_row(block::decode_distinct(columns), values);
    case Kind::kTopk:
      return put_row(block::decode_topk(columns), values);
    case Kind::kProfile:
      return put_row(block::decode_profile(columns), values);
  }
  return invalid("a kind this version does not know");
}

// Adds its mass; `values` are its own.
Status check_row(const Metric& metric, Readers& columns, std::vector<Value>& values,
                 uint64_t& total) {
  if (metric.kind == Kind::kDistribution) {  // most of what comes
    WEIR_TRY_ASSIGN(const uint64_t count, block::check_distribution(metric, columns));
    total += count;
    return {};
  }
  values.clear();
  WEIR_TRY(decode_row(metric, columns, values));
  total += mass(values.front());
  return {};
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

// Calls take(columns) for each row; an error may come after some of them.
template <class F>
Status each_row(const Metric& metric, ByteView payload, F&& take) {
  ByteReader in(payload);
  WEIR_TRY_ASSIGN(const Header header, read_header(in));
  const Layout* layout = layout_of(metric.kind);
  if (layout == nullptr || header.kind != static_cast<uint8_t>(metric.kind)) {
    return invalid("block is of another kind than its metric");
  }
  Readers columns;
  WEIR_TRY(read_columns(in, *layout, columns));
  for (size_t row = 0; row < header.rows; ++row) {
    Status status = take(columns);
    if (!status.ok()) return std::move(status).error().with("block row " + std::to_string(row));
  }
  for (const ColumnReader& column : columns) {
    if (!column.done()) return invalid("block holds a column with more entries than rows");
  }
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
    std::visit([&](const auto& value) { block::encode_row(value, columns); }, *row);
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
  WEIR_TRY_ASSIGN(const size_t rows, block_rows(payload));
  std::vector<Value> values;
  values.reserve(rows);
  WEIR_TRY(each_row(metric, payload,
                    [&](Readers& columns) { return decode_row(metric, columns, values); }));
  for (size_t row = 0; row < values.size(); ++row) sink(row, std::move(values[row]));
  return {};
}

Result<uint64_t> check_block(const Metric& metric, ByteView payload) {
  uint64_t total = 0;
  std::vector<Value> values;
  WEIR_TRY(each_row(metric, payload,
                    [&](Readers& columns) { return check_row(metric, columns, values, total); }));
  return total;
}

Result<size_t> block_rows(ByteView payload) {
  ByteReader in(payload);
  WEIR_TRY_ASSIGN(const Header header, read_header(in));
  return header.rows;
}

}  // namespace weir
