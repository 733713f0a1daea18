// Coverage: what was expected of every window and what of it came, exact whatever came when.

#include "common/own_metrics.h"
#include "tests/aggregator/store/store_fixture.h"

namespace weir::aggregator::store_test {
namespace {

Metric own(const char* name) { return {name, Kind::kCounter, "", 0}; }

Sample mark(const Labels& labels, uint64_t n = 1) {
  return {own(kSourceWindows), labels, Counter{n}};
}

class CoverageTest : public StoreTest {
 protected:
  AcceptedBatch host_minute(int host, int w) {
    const Labels labels{{"host", "h" + std::to_string(host)}};
    return batch_of(static_cast<uint8_t>(host), static_cast<uint64_t>(++seq_), {kHour + 60 * w, 60},
                    {mark(labels)});
  }

  // As the store thread does at this time.
  void settle_at(int64_t now_s) {
    while (const auto window = store_->unsettled(now_s)) {
      if (*store_->has_inbox(*window)) fold();
      ASSERT_TRUE(*store_->settle());
    }
  }

  struct Sums {
    uint64_t merged = 0;
    uint64_t expected = 0;
    friend bool operator==(const Sums&, const Sums&) = default;
  };

  uint64_t sum(const char* name, TimeRange range, const std::string& host = "") {
    SelectRequest request = ask(name);
    request.range = range;
    if (!host.empty()) request.matchers = {{"host", MatchOp::kEqual, host}};
    uint64_t out = 0;
    for (const auto& series : select(request).series) {
      for (const auto& w : series.windows) out += std::get<Counter>(w.value).delta;
    }
    return out;
  }

  Sums sums(TimeRange range, const std::string& host = "") {
    const uint64_t merged = sum(kSourceWindows, range, host);
    return {merged, merged + sum(kSourceWindowsMissing, range, host) -
                        sum(kSourceWindowsRecovered, range, host)};
  }

  Sums window(int w, const std::string& host = "") {
    return sums({kHour + 60 * w, kHour + 60 * (w + 1)}, host);
  }

  int seq_ = 0;
};

TEST_F(CoverageTest, SourceThatFallsSilentIsMissingUntilItIsForgotten) {
  Tier tier = region_tier();
  tier.expect_for_s = 300;
  open(tier);
  for (int w = 0; w < 20; ++w) {
    drain({host_minute(1, w)});
    if (w < 3) drain({host_minute(2, w)});
    fold();
    settle_at(kHour + 60 * (w + 1) + tier.close_after_s);
  }
  EXPECT_EQ(window(2), (Sums{2, 2}));
  for (int w = 3; w < 8; ++w) EXPECT_EQ(window(w), (Sums{1, 2})) << w;
  EXPECT_EQ(window(8), (Sums{1, 1}));
  EXPECT_EQ(sums({kHour, kHour + 1200}), (Sums{23, 28}));
  EXPECT_EQ(sums({kHour, kHour + 1200}, "h2"), (Sums{3, 8}));
  EXPECT_EQ(counter("weir_ledger_imbalance"), 0U);
}

TEST_F(CoverageTest, WindowIsNotMissedBeforeItHasSettled) {
  open(region_tier());
  drain({host_minute(1, 0), host_minute(2, 0), host_minute(1, 1)});
  fold();
  settle_at(kHour + 120 + tier_.close_after_s - 1);
  EXPECT_EQ(window(1), (Sums{1, 1}));
  settle_at(kHour + 120 + tier_.close_after_s);
  EXPECT_EQ(window(1), (Sums{1, 2}));
}

TEST_F(CoverageTest, WhatComesLateIsMissingNoMoreAndCountsOnce) {
  open(region_tier());
  for (int w = 0; w < 10; ++w) {
    drain({host_minute(1, w)});
    if (w < 3) drain({host_minute(2, w)});
  }
  fold();
  settle_at(kHour + 600 + tier_.close_after_s);
  EXPECT_EQ(sums(range_), (Sums{13, 20}));
  for (const int w : {9, 4, 3, 8, 5, 6}) {  // its backlog, in any order and over restarts
    const auto late = host_minute(2, w);
    drain({late, late});
    fold();
    if (w == 3) reopen();
  }
  EXPECT_EQ(sums(range_), (Sums{19, 20}));
  EXPECT_EQ(window(7), (Sums{1, 2}));
  EXPECT_EQ(window(4), (Sums{2, 2}));
  settle_at(kHour + 3600);
  EXPECT_EQ(counter("weir_ledger_imbalance"), 0U);
}

TEST_F(CoverageTest, SourceThatComesBackAfterALongSilenceOwesNothingForIt) {
  Tier tier = region_tier();
  tier.expect_for_s = 120;
  open(tier);
  for (int w = 0; w < 20; ++w) {
    drain({host_minute(1, w)});
    if (w < 3 || w >= 15) drain({host_minute(2, w)});
    fold();
    settle_at(kHour + 60 * (w + 1));  // one window behind: w has not settled
  }
  settle_at(kHour + 1200 + tier.close_after_s);
  EXPECT_EQ(sums({kHour, kHour + 1200}, "h2"), (Sums{8, 10}));
}

TEST_F(CoverageTest, BacklogOfATierThatWasDownEndsUpAsIfItHadNotBeen) {
  open(region_tier());
  for (int w = 0; w < 3; ++w) drain({host_minute(1, w), host_minute(2, w)});
  fold();
  settle_at(kHour + 180 + tier_.close_after_s);
  reopen();
  settle_at(kHour + 10 * 3600);
  EXPECT_EQ(sums({kHour, kHour + 86400}), (Sums{6, 6 + 2 * 60}));
  for (int w = 3; w < 100; ++w) {
    drain({host_minute(1, w), host_minute(2, w)});
    if (w % 10 == 0) fold();
  }
  fold();
  EXPECT_EQ(sums({kHour, kHour + 86400}), (Sums{200, 200}));
}

TEST_F(CoverageTest, ClockThatJumpsAheadCallsNoMoreMissingThanASilence) {
  open(region_tier());
  for (int w = 0; w < 3; ++w) drain({host_minute(1, w)});
  fold();
  settle_at(kHour + 400 * 86400);
  EXPECT_EQ(sums({kHour, kHour + 401 * 86400}), (Sums{3, 63}));
}

TEST_F(CoverageTest, SettlingSurvivesEveryRestartAndGoesUpOnce) {
  open(region_tier());
  for (int w = 0; w < 10; ++w) {
    drain({host_minute(1, w)});
    if (w < 3) drain({host_minute(2, w)});
    fold();
    settle_at(kHour + 60 * (w + 1) + tier_.close_after_s);
    reopen();
  }
  EXPECT_EQ(sums(range_), (Sums{13, 20}));
  uint64_t up = 0;
  const auto sent = *store_->outbox().pending(0, 0, SIZE_MAX);
  for (const auto& entry : sent) {
    const auto batch = *decode_batch(entry.body);
    for (const auto& row : batch.rows) {
      if (batch.metrics[row.metric].name != kSourceWindowsMissing) continue;
      EXPECT_EQ(row.labels, (Labels{{"region", "eu-1"}}));
      up += std::get<Counter>(row.value).delta;
    }
  }
  EXPECT_EQ(up, 7U);
  ASSERT_TRUE(store_->outbox().acknowledged({{sent.front().epoch, 1, sent.size()}}).ok());
  EXPECT_TRUE(store_->release_all().ok());
  EXPECT_EQ(number("SELECT count(*) FROM release"), 0);
}

TEST_F(CoverageTest, WithoutFlushesWindowsSettleWhenTheirCoarseOneHasClosed) {
  Tier tier = region_tier();
  tier.flush_every = std::chrono::milliseconds(0);
  open(tier);
  drain({host_minute(1, 0), host_minute(2, 0), host_minute(1, 1)});
  fold();
  settle_at(kHour + 300 + tier.close_after_s - 1);
  EXPECT_EQ(window(1), (Sums{1, 1}));
  drain({host_minute(1, 2), host_minute(1, 3), host_minute(1, 4)});
  settle_at(kHour + 300 + tier.close_after_s);
  EXPECT_EQ(sums({kHour, kHour + 300}), (Sums{6, 10}));
}

// A region's 5-minute window: `merged` of its hosts' windows, `missing` others, `back` of earlier.
class GlobalCoverageTest : public CoverageTest {
 protected:
  AcceptedBatch region_window(uint8_t region, int w, uint64_t merged, uint64_t missing = 0) {
    const Labels labels{{"region", "r" + std::to_string(region)}};
    std::vector<Sample> samples{mark(labels, merged)};
    if (missing > 0) samples.push_back({own(kSourceWindowsMissing), labels, Counter{missing}});
    return batch_of(region, static_cast<uint64_t>(++seq_), {kHour + 300 * w, 300}, samples);
  }

  Sums window(int w) { return sums({kHour + 300 * w, kHour + 300 * (w + 1)}); }

  void settle_window(int w) { settle_at(kHour + 300 * (w + 1) + tier_.close_after_s); }
};

TEST_F(GlobalCoverageTest, SilentRegionOwesWhatItsLastWholeWindowHad) {
  open(global_tier());
  drain({region_window(1, 0, 49, 1), region_window(2, 0, 10)});
  drain({region_window(1, 1, 20)});  // it fell silent in the middle of this one
  drain({region_window(2, 1, 10), region_window(2, 2, 10)});
  fold();
  settle_window(2);
  EXPECT_EQ(window(0), (Sums{59, 60}));
  EXPECT_EQ(window(2), (Sums{10, 60}));
}

TEST_F(GlobalCoverageTest, RegionsLateWindowReplacesWhatWasGuessed) {
  open(global_tier());
  drain({region_window(1, 0, 50), region_window(2, 0, 10), region_window(2, 1, 10)});
  fold();
  settle_window(1);
  EXPECT_EQ(window(1), (Sums{10, 60}));
  drain({region_window(1, 1, 30)});  // comes in parts, and two hosts were gone for good
  fold();
  reopen();
  drain({region_window(1, 1, 9, 1)});
  fold();
  EXPECT_EQ(window(1), (Sums{49, 50}));
  EXPECT_EQ(counter("weir_ledger_imbalance"), 0U);
}

TEST_F(GlobalCoverageTest, RegionWithoutHostsIsForgottenWithThem) {
  Tier tier = global_tier();
  tier.expect_for_s = 900;
  open(tier);
  drain({region_window(2, 0, 10), region_window(1, 0, 50)});
  fold();
  for (int w = 1; w < 12; ++w) {
    drain({region_window(2, w, 10)});
    if (w <= 3) drain({region_window(1, w, 0, 50)});  // the region itself waits so long
    fold();
    settle_window(w);
  }
  EXPECT_EQ(window(3), (Sums{10, 60}));
  EXPECT_EQ(window(4), (Sums{10, 10}));
}

}  // namespace
}  // namespace weir::aggregator::store_test
