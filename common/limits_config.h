#pragma once
// The keys of cardinality limits in configuration files, the same for the edge and the tiers
// (docs/cardinality.md). Pure; a mistake goes to the reader.

#include "common/limiter.h"
#include "common/yaml_reader.h"

namespace weir {

// labels, label_name, label_value, values_per_label, series_per_metric, dry_run. What is absent
// keeps the value it has in `limits`.
void read_limits(YamlSection& section, Limits& limits);

// "metrics": a list of {name, series, values_per_label, scale, dry_run}.
void read_metric_rules(YamlSection& root, MetricRules& rules);

}  // namespace weir
