#pragma once
// The aggregator's configuration file (deploy/weir-region.yaml and weir-global.yaml show all keys).
//
// A plain value, read once at start. Promise: every mistake in the file is told at once, with its
// place; what is not said keeps the default below.

#include <cstdint>
#include <string>
#include <vector>

#include "aggregator/store/fence_policy.h"
#include "aggregator/store/names.h"
#include "aggregator/tier.h"
#include "common/disk_budget.h"
#include "common/log.h"
#include "common/result.h"
#include "common/upstream_config.h"

namespace weir::aggregator {

struct Config {
  Tier tier;
  std::string listen = "tcp://127.0.0.1:7401";
  std::string http = "127.0.0.1:7480";
  KeysConfig keys{.dir = {}, .allow = "/etc/weir/allow.d"};
  std::vector<std::string> upstream_keys;  // the next tier's
  std::string data_dir;
  Limits limits = tier_limits();
  FencePolicy fences;  // read again on SIGHUP, as `limits`
  size_t catalog_rows = kCatalogRows;
  uint64_t outbox_bytes = uint64_t{4} << 30;
  uint64_t inbox_bytes = uint64_t{1} << 30;
  size_t lives = 4096;
  DiskBudgetOptions disk{};
  log::Level log_level = log::Level::kInfo;
};

Result<Config> read_config(const std::string& path);
Result<Config> parse_config(const std::string& name, const std::string& text);

}  // namespace weir::aggregator
