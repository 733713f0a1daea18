#pragma once
// Symbols: label texts, each held once and counted, as a u32.
//
// Owner: SeriesTable; one thread. Promise: equal texts have equal symbols; a symbol and its text
// stay until the last acquire() is released, then the number may name another text. Never sent or
// stored. Cost: one hash lookup by text, one array access by symbol.

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/byte_table.h"

namespace weir {

using Symbol = uint32_t;

class Symbols {
 public:
  // The symbol of a text that has one, or ByteTable::kNone.
  [[nodiscard]] Symbol find(std::string_view text) const { return table_.find(0, as_bytes(text)); }

  Symbol acquire(std::string_view text);
  void release(Symbol symbol);

  [[nodiscard]] std::string_view text(Symbol symbol) const { return entries_[symbol].key->text(); }

  [[nodiscard]] size_t size() const { return table_.size(); }

  [[nodiscard]] size_t memory_bytes() const {
    return table_.memory_bytes() + heap_bytes(entries_.capacity() * sizeof(Entry));
  }

 private:
  struct Entry {
    ByteTable::Key* key = nullptr;
    uint32_t uses = 0;
    Symbol next_free = ByteTable::kNone;
  };

  ByteTable table_;
  std::vector<Entry> entries_;  // by symbol
  Symbol free_ = ByteTable::kNone;
};

}  // namespace weir
