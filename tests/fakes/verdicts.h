#pragma once
// What a door checks and what a store decodes must agree on what is good, on why not, and on what a
// batch says of itself.

#include <string>

#include "common/batch.h"
#include "common/batch_check.h"

namespace weir {

// Empty, or where the two differ.
inline std::string difference(const Result<CheckedBatch>& checked,
                              const Result<DecodedBatch>& decoded) {
  const auto verdict = [](const auto& result) {
    return result.ok() ? std::string("good") : "refused: " + result.error().message;
  };
  if (verdict(checked) != verdict(decoded)) {
    return "checked: " + verdict(checked) + "; decoded: " + verdict(decoded);
  }
  if (!checked.ok()) {
    return checked.error().code == decoded.error().code ? "" : "the errors have other codes";
  }
  if (checked->window != decoded->window) return "window";
  if (checked->mass != decoded->mass) return "mass";
  if (checked->rows != decoded->rows.size()) return "rows";
  if (checked->manifest != decoded->manifest) return "manifest";
  if (checked->cum_mass != decoded->cum_mass) return "cum_mass";
  if (checked->part != decoded->part || checked->parts != decoded->parts) return "part";
  return "";
}

}  // namespace weir
