#pragma once
// TierStatus: one moment of an aggregator, for /api/v1/status/weir, /metrics and `weir status`.
// A plain value, made by the aggregator under a lock and handed to HTTP threads by copy.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "aggregator/intake.h"
#include "aggregator/store/accounts.h"
#include "common/outbox.h"
#include "common/uplink.h"

namespace weir::aggregator {

struct WindowStatus {
  uint32_t width_s = 0;
  int64_t newest_start_s = 0;  // newest window with data
  int64_t closed_until_s = 0;  // windows ending at or before this are closed
  uint64_t windows = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};

// The accounts of the last tier: what each source said it sent, against what is here.
struct LedgerStatus {
  static constexpr size_t kWorst = 20;

  struct Source {
    SourceId id{};
    uint64_t imbalance = 0;
  };

  uint64_t sources = 0;  // with an account
  uint64_t unbalanced = 0;
  uint64_t imbalance = 0;     // of all, each as a distance: 0, or a bug
  std::vector<Source> worst;  // of the unbalanced
  uint64_t gapped = 0;        // sources with numbers missing: up to there the account is proved
  uint64_t gaps = 0;          // of all
  std::vector<Accounts::Gaps> most_gaps;  // of the gapped, kWorst
};

struct TierStatus {
  std::string tier;  // "region", "global"
  std::string name;
  std::string version;
  int64_t now_s = 0;
  int64_t started_s = 0;
  bool has_upstream = false;
  UplinkStats upstream;
  OutboxStats outbox;
  LedgerStatus ledger;               // of the last tier
  std::vector<WindowStatus> widths;  // finest first
  uint64_t inbox_rows = 0;           // committed, not folded yet
  uint64_t inbox_bytes = 0;
  std::vector<SeenSource> sources;
  std::map<std::string, uint64_t> counters;  // weir_*
};

}  // namespace weir::aggregator
