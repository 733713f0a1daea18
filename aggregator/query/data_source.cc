#include "aggregator/query/data_source.h"

#include <algorithm>

namespace weir::aggregator {

std::string_view match_op_text(MatchOp op) {
  switch (op) {
    case MatchOp::kEqual:
      return "=";
    case MatchOp::kNotEqual:
      return "!=";
    case MatchOp::kRegex:
      return "=~";
    case MatchOp::kNotRegex:
      return "!~";
  }
  return "?";
}

bool needs_label(const SelectRequest& request, Kind kind, std::string_view label) {
  if (request.needs_all_labels || kind == Kind::kGauge) return true;
  if (std::ranges::any_of(request.matchers, [&](const Matcher& m) { return m.label == label; })) {
    return true;
  }
  const bool named = std::ranges::find(request.label_names, label) != request.label_names.end();
  switch (request.label_use) {
    case LabelUse::kAll:
      return true;
    case LabelUse::kOnly:
      return named;
    case LabelUse::kAllBut:
      return !named;
  }
  return true;
}

}  // namespace weir::aggregator
