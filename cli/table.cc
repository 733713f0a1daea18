#include "cli/table.h"

#include <algorithm>
#include <numeric>

#include "cli/terminal.h"
#include "common/check.h"

namespace weir::cli {
namespace {

size_t width_of(const std::string& text) {  // code points: bytes that do not continue one
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

}  // namespace

Table::Table(std::vector<std::string> header) {
  for (auto& cell : header) cell = printable(cell);  // label names come from outside too
  rows_.push_back(std::move(header));
}

void Table::add(std::vector<std::string> cells) {
  WEIR_CHECK(cells.size() == rows_.front().size());
  for (auto& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::vector<size_t> Table::widths() const {
  std::vector<size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  return widths;
}

size_t Table::width() const {
  const auto columns = widths();
  return std::accumulate(columns.begin(), columns.end(), 2 * (columns.size() - 1));
}

std::string Table::csv() const {
  std::string out;
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) out += (i > 0 ? "," : "") + csv_cell(row[i]);
    out += '\n';
  }
  return out;
}

std::string Table::text() const {
  const auto columns = widths();
  std::string out;
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(columns[i] - width_of(row[i]) + 2, ' ');
    }
    while (!out.empty() && out.back() == ' ') out.pop_back();
    out += '\n';
  }
  return out;
}

}  // namespace weir::cli
