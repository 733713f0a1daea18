#include "common/symbols.h"

#include "common/check.h"

namespace weir {

Symbol Symbols::acquire(std::string_view text) {
  Symbol symbol = find(text);
  if (symbol == ByteTable::kNone) {
    if (free_ == ByteTable::kNone) {
      free_ = static_cast<Symbol>(entries_.size());
      entries_.emplace_back();
    }
    symbol = free_;
    free_ = entries_[symbol].next_free;
    entries_[symbol] = {.key = table_.insert(0, as_bytes(text), symbol)};
  }
  ++entries_[symbol].uses;
  return symbol;
}

void Symbols::release(Symbol symbol) {
  Entry& entry = entries_[symbol];
  WEIR_CHECK(entry.uses > 0);
  if (--entry.uses > 0) return;
  table_.erase(entry.key);
  entry = {.key = nullptr, .uses = 0, .next_free = free_};
  free_ = symbol;
}

}  // namespace weir
