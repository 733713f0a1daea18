#pragma once
// Aligned columns for people. Pure. Cells are made printable; widths count code points.

#include <string>
#include <vector>

namespace weir::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void add(std::vector<std::string> cells);  // as many as the header has
  [[nodiscard]] std::string text() const;    // columns separated by two spaces
  [[nodiscard]] std::string csv() const;     // RFC 4180, with the header
  [[nodiscard]] size_t width() const;        // of the longest line of text()

  [[nodiscard]] bool empty() const { return rows_.size() == 1; }

 private:
  [[nodiscard]] std::vector<size_t> widths() const;  // of the columns

  std::vector<std::vector<std::string>> rows_;
};

}  // namespace weir::cli
