#include "common/limiter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "common/hash.h"

namespace weir {

namespace {

using Row = Limiter::Row;

// An owner as small as can be: rows are label texts, values are counts.
class Owner {
 public:
  explicit Owner(Limits limits) : limiter(std::move(limits)) {}

  // One event; true if it was counted under its own name.
  bool event(const std::string& metric, const std::vector<LabelView>& labels, uint64_t n = 1) {
    total += n;
    auto known = metrics_.find(metric);
    if (known == metrics_.end()) {
      const auto admission = limiter.admit_metric(metric, n, next_random());
      if (admission.victim) evict(*admission.victim);
      if (!admission.named) return other += n, false;
      known = metrics_.emplace(metric, take(free_metrics_, metric_numbers_)).first;
      limiter.add_metric(known->second, metric);
    }
    const auto number = known->second;
    const auto fitted = limiter.fit(number, labels, n);
    if (!fitted.fits) return to_overflow(metric, number, n), false;
    const std::string key = metric + text_of(fitted.labels);
    stable = fitted.stable;
    if (const auto row = rows_.find(key); row != rows_.end()) {
      limiter.hit(row->second, n);
      counts_[row->second] += n;
      return fitted.stable;
    }
    const auto admission = limiter.admit(number, fitted.labels, n, next_random());
    if (!admission.named) return to_overflow(metric, number, n), false;
    missed = admission.missed_upper_bound;
    const Row row = take(free_rows_, row_numbers_);
    const std::vector<LabelView> copy(fitted.labels.begin(), fitted.labels.end());
    limiter.add(row, number, copy);
    if (admission.victim) evict(*admission.victim);
    rows_.emplace(key, row);
    keys_[row] = {key, metric};
    ++used_[number];
    counts_[row] = n;
    limiter.hit(row, n);
    return fitted.stable;
  }

  void close(uint32_t idle_windows = 60) {
    for (const Row row : limiter.close(idle_windows)) evict(row);
  }

  [[nodiscard]] bool named(const std::string& metric, const std::vector<LabelView>& labels) const {
    return rows_.contains(metric + text_of(labels));
  }

  [[nodiscard]] uint64_t in_overflow(const std::string& metric) const {
    const auto at = overflow_.find(metric);
    return at == overflow_.end() ? 0 : at->second.second;
  }

  [[nodiscard]] uint64_t sum() const {
    uint64_t all = other;
    for (const auto& [row, n] : counts_) all += n;
    for (const auto& [metric, entry] : overflow_) all += entry.second;
    return all;
  }

  [[nodiscard]] size_t rows() const { return rows_.size(); }

  [[nodiscard]] size_t metrics() const { return metrics_.size(); }

  void evict(Row row) {
    ++evictions;
    const auto key = keys_.extract(row);
    const std::string& metric = key.mapped().second;
    const auto number = metrics_.at(metric);
    const size_t in_use = --used_[number];
    free_rows_.push_back(row);
    if (const auto at = overflow_.find(metric); at != overflow_.end() && at->second.first == row) {
      other += at->second.second;
      overflow_.erase(at);
    } else {
      rows_.erase(key.mapped().first);
      const uint64_t n = counts_.extract(row).mapped();
      if (limiter.rows(number) == 0 && !limiter.overflow_row(number)) {
        other += n;
      } else {
        to_overflow(metric, number, n);
      }
    }
    if (limiter.rows(number) > 0 || limiter.overflow_row(number)) return;
    if (in_use > 0) return;  // more victims of the same close follow
    limiter.remove_metric(number);
    free_metrics_.push_back(number);
    metrics_.erase(metric);
  }

  Limiter limiter;
  uint64_t total = 0;
  uint64_t other = 0;
  uint64_t missed = 0;
  size_t evictions = 0;
  bool stable = false;

 private:
  static std::string text_of(std::span<const LabelView> labels) {
    std::string out;
    for (const LabelView& label : labels) {
      out += ',';
      out += label.name;
      out += '=';
      out += label.value;
    }
    return out;
  }

  static uint32_t take(std::vector<uint32_t>& free, uint32_t& next) {
    if (free.empty()) return next++;
    const uint32_t number = free.back();
    free.pop_back();
    return number;
  }

  void to_overflow(const std::string& metric, uint32_t number, uint64_t n) {
    const auto [at, is_new] = overflow_.try_emplace(metric);
    if (is_new) {
      at->second.first = take(free_rows_, row_numbers_);
      keys_[at->second.first] = {"", metric};
      ++used_[number];
      limiter.add_overflow(at->second.first, number);
    }
    limiter.hit(at->second.first, n);
    at->second.second += n;
  }

  uint64_t next_random() { return random_ = hash64(random_, 1); }

  std::map<std::string, uint32_t> metrics_;
  std::map<std::string, Row> rows_;
  std::map<Row, std::pair<std::string, std::string>> keys_;  // row: its key and metric
  std::map<uint32_t, size_t> used_;                          // rows by metric, overflow too
  std::map<Row, uint64_t> counts_;
  std::map<std::string, std::pair<Row, uint64_t>> overflow_;
  std::vector<uint32_t> free_rows_;
  std::vector<uint32_t> free_metrics_;
  uint32_t row_numbers_ = 0;
  uint32_t metric_numbers_ = 0;
  uint64_t random_ = 1;
};

Limits small(size_t per_metric, size_t series = 10'000) {
  Limits limits;
  limits.series_per_metric = per_metric;
  limits.series = series;
  return limits;
}

// Rank r of n with a weight of 1 / r.
class Zipf {
 public:
  explicit Zipf(size_t n) {
    double sum = 0;
    for (size_t rank = 1; rank <= n; ++rank)
      below_.push_back(sum += 1.0 / static_cast<double>(rank));
  }

  size_t operator()(std::mt19937_64& random) const {
    const double at = below_.back() * static_cast<double>(random() >> 11) * 0x1p-53;
    return static_cast<size_t>(std::upper_bound(below_.begin(), below_.end(), at) - below_.begin());
  }

 private:
  std::vector<double> below_;
};

struct Flood {
  double named = 0;  // of the legitimate events
  size_t top_named = 0;
};

// Five windows of 1,500 routes among label sets that are never seen again, 60 %; the junk comes
// first and fills every place.
Flood flood(Owner& owner, size_t events, bool by_metric_name) {
  std::mt19937_64 random(7);
  const Zipf zipf(1500);
  size_t junk = 0;
  size_t legit = 0;
  size_t named = 0;
  const auto push = [&](const std::string& route) {
    return by_metric_name ? owner.event(route, {}) : owner.event("m", {{"route", route}});
  };
  for (size_t i = 0; i < 4'000; ++i) push("junk" + std::to_string(junk++));
  for (size_t i = 0; i < events; ++i) {
    if (random() % 100 < 60) {
      push("junk" + std::to_string(junk++));
    } else {
      ++legit;
      named += push("route" + std::to_string(zipf(random))) ? 1U : 0U;
    }
    if ((i + 1) % (events / 5) == 0) owner.close();
  }
  Flood out{.named = static_cast<double>(named) / static_cast<double>(legit), .top_named = 0};
  for (size_t rank = 0; rank < 100; ++rank) {
    const std::string route = "route" + std::to_string(rank);
    out.top_named += by_metric_name ? owner.named(route, {}) : owner.named("m", {{"route", route}});
  }
  return out;
}

}  // namespace

TEST(Limiter, JunkFloodLeavesTheTrafficOfRoutesNamed) {
  Limits limits = small(2'000);
  limits.values_per_label = 1'000'000;
  Owner owner(limits);
  const Flood result = flood(owner, 1'000'000, false);
  EXPECT_GE(result.named, 0.99);
  EXPECT_EQ(result.top_named, 100U);
  EXPECT_EQ(owner.sum(), owner.total);
  EXPECT_EQ(owner.rows(), 2'000U);
}

// The shorter the run, the more the first events count that it takes to earn a place.
TEST(Limiter, JunkFloodOfMetricNamesLeavesTheOthersTheirPlaces) {
  Owner owner(small(2'000, 2'000));
  const Flood result = flood(owner, 400'000, true);
  EXPECT_GE(result.named, 0.97);
  EXPECT_EQ(result.top_named, 100U);
  EXPECT_EQ(owner.sum(), owner.total);
  EXPECT_LE(owner.metrics(), 2'000U);
}

TEST(Limiter, NamesSeenOnceLeaveThoseInUseAndStayWithinBytes) {
  Owner owner(small(2'000, 1'000));
  for (int i = 0; i < 500; ++i) {
    for (int event = 0; event < 20; ++event) owner.event("legit" + std::to_string(i), {});
  }
  size_t named = 0;
  for (int i = 0; i < 200'000; ++i) {
    owner.event("junk" + std::to_string(i), {});
    if (i % 10 == 0) named += owner.event("legit" + std::to_string(i / 10 % 500), {}) ? 1U : 0U;
  }
  EXPECT_EQ(named, 20'000U);
  EXPECT_EQ(owner.sum(), owner.total);
  EXPECT_LE(owner.limiter.memory_bytes(), 1'000U * 256 + 65'536 + 10'000);
}

TEST(Limiter, AMetricThatComesAfterTheFloodEarnsItsNameWithinAFewEvents) {
  Owner owner(small(2'000, 1'000));
  for (int i = 0; i < 5'000; ++i) owner.event("junk" + std::to_string(i), {});
  int events = 1;
  while (!owner.event("orders", {{"kind", "book"}})) ++events;
  EXPECT_LE(events, 4);
  EXPECT_LE(owner.metrics(), 1'000U);
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, LabelsBeyondTheLimitGoToOverflow) {
  Owner owner(small(100));
  std::vector<LabelView> labels;
  for (const char* name : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}) {
    labels.push_back({name, "1"});
  }
  labels.push_back({"empty", ""});  // an empty value is no label
  EXPECT_TRUE(owner.event("m", labels));
  labels.push_back({"k", "1"});
  EXPECT_FALSE(owner.event("m", labels, 7));
  EXPECT_EQ(owner.in_overflow("m"), 7U);
  EXPECT_EQ(owner.limiter.counts().many_labels, 1U);
}

TEST(Limiter, ValuesBeyondTheLimitBecomeOtherAndTheLabelStays) {
  Limits limits = small(1'000);
  limits.values_per_label = 3;
  Owner owner(limits);
  for (const char* user : {"a", "b", "c"}) EXPECT_TRUE(owner.event("m", {{"user", user}}));
  EXPECT_FALSE(owner.event("m", {{"user", "d"}, {"code", "500"}}, 5));
  EXPECT_FALSE(owner.stable);
  EXPECT_TRUE(owner.named("m", {{"code", "500"}, {"user", kOther}}));
  EXPECT_TRUE(owner.event("m", {{"user", "a"}, {"code", "500"}}));
  EXPECT_TRUE(owner.event("other_metric", {{"user", "d"}}));
  EXPECT_EQ(owner.limiter.counts().other_values, 1U);
  for (int i = 0; i < 9; ++i) {
    const std::string host = "h" + std::to_string(i);
    EXPECT_TRUE(owner.event("m", {{"host", host}})) << "upper tiers set it";
  }
}

TEST(Limiter, HeavyValuesTakeThePlacesOfLightOnesAtWindowClose) {
  Limits limits = small(1'000);
  limits.values_per_label = 10;
  Owner owner(limits);
  for (int i = 0; i < 10; ++i) owner.event("m", {{"user", "first" + std::to_string(i)}});
  for (int i = 0; i < 2'000; ++i) {
    owner.event("m", {{"user", "junk" + std::to_string(i)}});
    owner.event("m", {{"user", "heavy" + std::to_string(i % 5)}});
  }
  EXPECT_FALSE(owner.named("m", {{"user", "heavy0"}}));
  owner.close();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(owner.event("m", {{"user", "heavy" + std::to_string(i)}})) << i;
  }
  EXPECT_FALSE(owner.event("m", {{"user", "late"}})) << "the places are taken";
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, ALoweredLimitActsAtTheNextCloseAndKeepsTheHeaviest) {
  Owner owner(small(100));
  for (int i = 0; i < 100; ++i) {
    owner.event("m", {{"k", std::to_string(i)}}, static_cast<uint64_t>(i) + 1);
  }
  owner.limiter.set_limits(small(10));
  EXPECT_TRUE(owner.event("m", {{"k", "0"}}));
  EXPECT_EQ(owner.rows(), 100U);
  owner.close();
  EXPECT_EQ(owner.rows(), 10U);
  for (int i = 90; i < 100; ++i) EXPECT_TRUE(owner.named("m", {{"k", std::to_string(i)}}));
  EXPECT_EQ(owner.sum(), owner.total);
  owner.limiter.set_limits(small(50, 5));
  owner.close();
  EXPECT_EQ(owner.rows(), 5U);
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, ALoweredValueLimitEvictsTheSeriesOfTheLightest) {
  Owner owner(small(1'000));
  for (int i = 0; i < 50; ++i) {
    owner.event("m", {{"k", std::to_string(i)}}, static_cast<uint64_t>(i) + 1);
  }
  Limits limits = small(1'000);
  limits.values_per_label = 5;
  owner.limiter.set_limits(limits);
  owner.close();
  EXPECT_EQ(owner.rows(), 5U);
  EXPECT_TRUE(owner.named("m", {{"k", "49"}}));
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, DryRunCountsAndDoesNothing) {
  Limits limits = small(10);
  limits.values_per_label = 5;
  limits.dry_run = true;
  Owner owner(limits);
  std::vector<LabelView> many;
  const std::string names = "abcdefghijklmnop";
  for (size_t i = 0; i < 12; ++i) many.push_back({std::string_view(names).substr(i, 1), "1"});
  EXPECT_TRUE(owner.event("m", many));
  const std::string longest(500, 'x');
  EXPECT_TRUE(owner.event("m", {{"long", longest}}));
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(owner.event("m", {{"k", std::to_string(i)}}));
  owner.close();
  EXPECT_EQ(owner.rows(), 32U);
  EXPECT_TRUE(owner.named("m", {{"long", longest}}));
  const LimitCounts& dry = owner.limiter.dry_run_counts();
  EXPECT_EQ(dry.many_labels, 1U);
  EXPECT_EQ(dry.cut_texts, 1U);
  EXPECT_EQ(dry.other_values, 25U);
  EXPECT_EQ(dry.metric_full, 22U);
  EXPECT_EQ(owner.limiter.counts().metric_full + owner.limiter.counts().other_values, 0U);
  limits.dry_run = false;
  owner.limiter.set_limits(limits);
  owner.close();
  EXPECT_LE(owner.rows(), 10U);
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, ARuleNamesItsMetricsLimits) {
  Limits limits = small(10);
  limits.rules = {{.name = "big", .series = 20}, {.name = "free*", .dry_run = true}};
  Owner owner(limits);
  for (int i = 0; i < 30; ++i) {
    for (const char* metric : {"big", "freedom", "plain"}) {
      owner.event(metric, {{"k", std::to_string(i)}});
    }
  }
  EXPECT_EQ(owner.in_overflow("big"), 10U);
  EXPECT_EQ(owner.in_overflow("freedom"), 0U);
  EXPECT_EQ(owner.in_overflow("plain"), 20U);
}

TEST(Limiter, ANewcomerCarriesWhatOverflowMayHoldOfIt) {
  Owner owner(small(2));
  for (const char* k : {"a", "b"}) {
    for (int i = 0; i < 9; ++i) owner.event("m", {{"k", k}});
  }
  uint64_t refused = 0;
  while (!owner.event("m", {{"k", "c"}})) ++refused;
  EXPECT_EQ(refused, 9U);
  EXPECT_EQ(owner.missed, refused);
  EXPECT_EQ(owner.in_overflow("m"), refused + 9) << "its own, and the victim's";
}

TEST(Limiter, BeyondWhatACellHoldsTheBoundIsTheOverflow) {
  Owner owner(small(1));
  owner.event("m", {{"k", "a"}}, 65'000);
  owner.event("m", {{"k", "b"}}, 40'000);
  EXPECT_TRUE(owner.event("m", {{"k", "b"}}, 50'000));
  EXPECT_EQ(owner.missed, 40'000U);
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, RowsWithoutEventsAreForgotten) {
  Owner owner(small(100));
  owner.event("m", {{"k", "once"}});
  for (int window = 0; window < 3; ++window) {
    owner.event("m", {{"k", "always"}});
    owner.close(3);
  }
  EXPECT_TRUE(owner.named("m", {{"k", "once"}})) << "the window it came in does not count";
  owner.event("m", {{"k", "always"}});
  owner.close(3);
  EXPECT_FALSE(owner.named("m", {{"k", "once"}}));
  EXPECT_TRUE(owner.named("m", {{"k", "always"}}));
  for (int window = 0; window < 8; ++window) owner.close(3);
  EXPECT_EQ(owner.metrics(), 0U) << "a metric goes with its last row";
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, WithoutBytesNoRowMoreAndLightRowsGiveWay) {
  Owner owner(small(100));
  for (int i = 0; i < 10; ++i) {
    owner.event("m", {{"k", std::to_string(i)}}, static_cast<uint64_t>(i) + 1);
  }
  owner.limiter.set_pressure(true);
  EXPECT_FALSE(owner.event("m", {{"k", "new"}}));
  for (const Row row : owner.limiter.shed(4)) owner.evict(row);
  EXPECT_EQ(owner.rows(), 6U);
  EXPECT_TRUE(owner.named("m", {{"k", "9"}}));
  EXPECT_FALSE(owner.named("m", {{"k", "0"}}));
  EXPECT_EQ(owner.sum(), owner.total);
}

TEST(Limiter, WeirsOwnMetricsGiveWayToNobody) {
  Owner owner(small(2'000, 10));
  for (int i = 0; i < 10; ++i) owner.event("m" + std::to_string(i), {});
  EXPECT_TRUE(owner.event("weir_series_overflow_total", {{"metric", "m"}}));
  for (int i = 0; i < 5'000; ++i) owner.event("junk" + std::to_string(i % 500), {});
  EXPECT_TRUE(owner.named("weir_series_overflow_total", {{"metric", "m"}}));
  for (size_t i = 0; i < 2 * Limiter::kOwnSeries; ++i) {
    owner.event("weir_" + std::to_string(i), {});  // somebody else's
  }
  EXPECT_LE(owner.rows(), Limiter::kOwnSeries + 10);
}

// Whatever comes, in whatever order: the sum is exact, and every bound holds.
TEST(Limiter, TotalsAreExactThroughEverything) {
  std::mt19937_64 random(11);
  Owner owner(small(20, 60));
  for (int i = 0; i < 50'000; ++i) {
    const std::string metric = "m" + std::to_string(random() % 40);
    std::vector<std::string> texts;
    for (uint64_t label = random() % 13; label > 0; --label) {
      texts.push_back(std::to_string(random() % (random() % 300 + 1)));
    }
    std::vector<LabelView> labels;
    const std::string names = "abcdefghijklm";
    for (size_t l = 0; l < texts.size(); ++l) {
      labels.push_back({std::string_view(names).substr(l, 1), texts[l]});
    }
    owner.event(metric, labels, random() % 4);
    if (i % 997 == 0) owner.close(3);
    if (i % 1'500 == 0) {
      Limits limits = small(random() % 30 + 1, random() % 80 + 1);
      limits.values_per_label = random() % 20 + 1;
      limits.dry_run = random() % 5 == 0;
      owner.limiter.set_limits(limits);
    }
    if (i % 777 == 0) {
      for (const Row row : owner.limiter.shed(random() % 5)) owner.evict(row);
    }
    ASSERT_LE(owner.limiter.table_rows(), 80U + owner.metrics());
  }
  EXPECT_EQ(owner.sum(), owner.total);
}

}  // namespace weir
