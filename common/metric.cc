#include "common/metric.h"

namespace weir {

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
      return "counter";
    case Kind::kGauge:
      return "gauge";
    case Kind::kDistribution:
      return "distribution";
    case Kind::kDistinct:
      return "distinct";
    case Kind::kTopk:
      return "topk";
    case Kind::kProfile:
      return "profile";
  }
  return "unknown";
}

}  // namespace weir
