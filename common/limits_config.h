#pragma once
// The keys of limits in configuration files that are the same for the edge and the tiers: of
// cardinality (docs/cardinality.md) and of the disk (docs/disk.md). Pure; a mistake goes to the
// reader.

#include "common/disk_budget.h"
#include "common/limiter.h"
#include "common/yaml_reader.h"

namespace weir {

// labels, label_name, label_value, values_per_label, series_per_metric, dry_run. What is absent
// keeps the value it has in `limits`.
void read_limits(YamlSection& section, Limits& limits);

// disk_reserve, disk_step.
void read_disk_limits(YamlSection& section, DiskBudgetOptions& disk);

// "metrics": a list of {name, series, values_per_label, scale, dry_run}.
void read_metric_rules(YamlSection& root, MetricRules& rules);

}  // namespace weir
