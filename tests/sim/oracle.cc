#include "tests/sim/oracle.h"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "common/check.h"

namespace weir::sim {

void Oracle::pushed(const SourceId& source, uint64_t epoch, uint64_t seq, int64_t window_s,
                    uint64_t mass) {
  std::vector<Push>& of_epoch = pushes_[{source, epoch}];
  if (of_epoch.size() < seq) of_epoch.resize(seq);
  Push& push = of_epoch[seq - 1];
  if (push.mass != 0) {
    violation(fmt::format("{} used epoch {} seq {} twice", name_of(source), epoch, seq));
  }
  push = {window_s, mass, false};
  ++batches_;
  mass_ += mass;
}

Oracle::Push* Oracle::find(const SourceId& source, uint64_t epoch, uint64_t seq) {
  const auto found = pushes_.find({source, epoch});
  if (found == pushes_.end() || seq == 0 || seq > found->second.size()) return nullptr;
  Push& push = found->second[seq - 1];
  return push.mass == 0 ? nullptr : &push;
}

bool Oracle::knows(const SourceId& source, uint64_t epoch, uint64_t seq) const {
  const auto found = pushes_.find({source, epoch});
  return found != pushes_.end() && seq > 0 && seq <= found->second.size() &&
         found->second[seq - 1].mass != 0;
}

void Oracle::may_vanish(const SourceId& source, uint64_t epoch, uint64_t seq) {
  Push* const push = find(source, epoch, seq);
  WEIR_CHECK(push != nullptr);
  push->may_vanish = true;
}

void Oracle::named(const SourceId& source, uint64_t epoch, uint64_t lo, uint64_t hi,
                   uint64_t merged, uint64_t lost) {
  named_[{source, epoch}].push_back({lo, hi});
  if (merged > 0) by_accounts_[0][{name_of(source), 0}] += merged;
  if (lost > 0) by_accounts_[1][{name_of(source), 0}] += lost;
}

void Oracle::merged(const std::string& edge, int64_t window_s, uint64_t mass) {
  merged_[{edge, window_s}] += mass;
}

void Oracle::lost(const std::string& edge, int64_t window_s, uint64_t mass) {
  lost_[{edge, window_s}] += mass;
}

std::string Oracle::name_of(const SourceId& source) const {
  const auto found = names_.find(source);
  return found == names_.end() ? "a stranger" : found->second;
}

Oracle::Totals Oracle::by_source(const Totals& totals) {
  Totals sums;
  for (const auto& [key, mass] : totals) sums[{key.first, 0}] += mass;
  return sums;
}

void Oracle::judge(Grain grain, uint32_t width_s) {
  Totals expected;
  for (const auto& [key, of_epoch] : pushes_) {
    const auto& [source, epoch] = key;
    std::vector<uint8_t> times(of_epoch.size(), 0);
    for (const Range& range : named_[key]) {
      for (uint64_t seq = range.lo; seq <= range.hi; ++seq) {
        if (seq > of_epoch.size() || of_epoch[seq - 1].mass == 0) {
          violation(fmt::format("{} epoch {} seq {} is in the accounts and was never pushed",
                                name_of(source), epoch, seq));
          break;
        }
        ++times[seq - 1];
      }
    }
    for (size_t i = 0; i < of_epoch.size(); ++i) {
      const Push& push = of_epoch[i];
      if (push.mass == 0) continue;
      if (times[i] == 0 && push.may_vanish) {
        ++vanished_;
        continue;
      }
      if (times[i] != 1) {
        violation(fmt::format("{} epoch {} seq {} (window {}, mass {}) is {} times in the accounts",
                              name_of(source), epoch, i + 1, push.window_s, push.mass, times[i]));
      }
      if (times[i] > 0) {
        expected[{name_of(source), window_at(push.window_s, width_s).start_s}] += push.mass;
      }
    }
  }
  for (const auto& [key, ranges] : named_) {
    if (!ranges.empty() && !pushes_.contains(key)) {
      violation(fmt::format("the accounts name epoch {} of {}, which pushed nothing in it",
                            key.second, name_of(key.first)));
    }
  }
  compare("is merged, by the accounts", by_source(merged_), by_accounts_[0]);
  compare("is known as lost, by the accounts", by_source(lost_), by_accounts_[1]);
  Totals found = merged_;
  for (const auto& [key, mass] : lost_) {
    found[key] += mass;
    lost_mass_ += mass;
  }
  const bool by_window = grain == Grain::kWindows;
  compare("was pushed, merged and lost", by_window ? expected : by_source(expected),
          by_window ? found : by_source(found));
}

void Oracle::compare(const char* what, const Totals& expected, const Totals& found) {
  std::set<std::pair<std::string, int64_t>> keys;
  for (const auto& [key, mass] : expected) keys.insert(key);
  for (const auto& [key, mass] : found) keys.insert(key);
  const auto at = [](const Totals& totals, const auto& key) {
    const auto entry = totals.find(key);
    return entry == totals.end() ? 0 : entry->second;
  };
  for (const auto& key : keys) {
    const uint64_t want = at(expected, key);
    const uint64_t have = at(found, key);
    if (want == have) continue;
    violation(fmt::format("{}, window {}: {} {} {}", key.first, key.second, want, what, have));
  }
}

void Oracle::violation(std::string sentence) {
  ++count_;
  if (violations_.size() < kMaxViolations) violations_.push_back(std::move(sentence));
}

}  // namespace weir::sim
