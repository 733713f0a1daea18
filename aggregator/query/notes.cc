#include "aggregator/query/notes.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace weir::aggregator {
namespace {

// Less of it is there; where nothing is expected, nothing is known to be missing.
bool is_worse(const SourceWindows& a, const SourceWindows& b) {
  if (a.expected == 0 || b.expected == 0) return a.expected > b.expected;
  const double x = static_cast<double>(a.merged) / static_cast<double>(a.expected);
  const double y = static_cast<double>(b.merged) / static_cast<double>(b.expected);
  return x != y ? x < y : a.expected > b.expected;
}

std::string losses_text(const std::vector<Loss>& losses) {
  std::string out;
  for (const Loss& loss : losses) {
    out += fmt::format("{}{} {} {}", out.empty() ? "" : ", ", loss.where, loss.reason, loss.events);
  }
  return out;
}

}  // namespace

void add_truth(QueryNotes& notes, const SelectNotes& selected) {
  if (is_worse(selected.coverage, notes.coverage)) notes.coverage = selected.coverage;
  if (selected.ledger) notes.ledger = selected.ledger;
  for (const Loss& loss : selected.losses) {
    const auto known = std::ranges::find_if(notes.losses, [&](const Loss& other) {
      return other.where == loss.where && other.reason == loss.reason;
    });
    if (known == notes.losses.end()) {
      notes.losses.push_back(loss);
    } else {
      known->events = std::max(known->events, loss.events);
    }
  }
}

void add_overflow(QueryNotes& notes, const Overflow& overflow) {
  const auto known = std::ranges::find(notes.overflow, overflow.metric, &Overflow::metric);
  if (known == notes.overflow.end()) {
    notes.overflow.push_back(overflow);
  } else if (known->events < overflow.events) {
    *known = overflow;
  }
}

void say_truth(QueryNotes& notes, Attribution attribution) {
  const auto [merged, expected] = notes.coverage;
  if (expected > merged) {
    // Never rounded up to all of it.
    const double share = static_cast<double>(merged) / static_cast<double>(expected);
    notes.warnings.insert(fmt::format("coverage: {} of {} source-windows ({:.1f} %), {} missing",
                                      merged, expected, std::floor(share * 1000) / 10,
                                      expected - merged));
  } else if (expected > 0) {
    notes.infos.insert(fmt::format("coverage: {} of {} source-windows", merged, expected));
  }
  if (!notes.losses.empty()) {
    notes.warnings.insert(
        fmt::format("lost: {} events ({})", events_lost(notes), losses_text(notes.losses)));
  }
  if (attribution == Attribution::kExact) notes.overflow.clear();
  for (const Overflow& overflow : notes.overflow) {
    notes.warnings.insert(fmt::format(
        "overflow: up to {} more events of \"{}\" ({:.1f} %) are in series beyond the limits",
        overflow.events, overflow.metric, 100 * share_of(overflow)));
  }
}

double share_of(const Overflow& overflow) {
  return static_cast<double>(overflow.events) / static_cast<double>(overflow.total);
}

uint64_t events_lost(const QueryNotes& notes) {
  uint64_t sum = 0;
  for (const Loss& loss : notes.losses) sum += loss.events;
  return sum;
}

}  // namespace weir::aggregator
