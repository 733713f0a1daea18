#pragma once
// heavy_hitters(k, v): the k most frequent keys of each topk of a vector, as samples. Pure.

#include "aggregator/query/notes.h"
#include "aggregator/query/value.h"

namespace weir::aggregator {

// Greatest first; ties in the order of the keys. The key is the label `key` beside the topk's own
// labels; the value is its count, and the bound holds the true one.
Vector heavy_hitters(double k, const Vector& vector, LabelSets& sets, QueryNotes& notes);

}  // namespace weir::aggregator
