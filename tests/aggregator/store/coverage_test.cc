// Coverage: what was expected of every window and what of it came, exact whatever came when.

#include <algorithm>

#include "common/own_metrics.h"
#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/outbox_rows.h"

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
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

TEST_F(CoverageTest, ASourceWhoseNameIsDamagedOwesNothingAndIsKnownAgainWhenItComes) {
  open(region_tier());
  for (int w = 0; w < 3; ++w) drain({host_minute(1, w), host_minute(2, w)});
  fold();
  settle_at(kHour + 180 + tier_.close_after_s);
  tamper("UPDATE source SET labels = x'ff01' WHERE id = 2");
  drain({host_minute(1, 3)});
  fold();
  settle_at(kHour + 240 + tier_.close_after_s);
  EXPECT_EQ(window(3), (Sums{1, 1}));
  drain({host_minute(1, 4), host_minute(2, 4), host_minute(1, 5)});
  fold();
  settle_at(kHour + 360 + tier_.close_after_s);
  EXPECT_EQ(window(4), (Sums{2, 2}));
  EXPECT_EQ(window(5), (Sums{1, 2}));
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
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
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
  const auto sent = unassigned_rows(store_->outbox());
  for (const auto& entry : sent) {
    const auto batch = *decode_batch(entry.body);
    for (const auto& row : batch.rows) {
      if (batch.metrics[row.metric].name != kSourceWindowsMissing) continue;
      EXPECT_EQ(row.labels, (Labels{{"region", "eu-1"}}));
      up += std::get<Counter>(row.value).delta;
    }
  }
  EXPECT_EQ(up, 7U);
  acknowledge(store_->outbox(), {{sent.front().epoch, 1, sent.size()}});
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

SelectRequest with_truth(const std::string& metric, TimeRange range) {
  SelectRequest request;
  request.metric = metric;
  request.range = range;
  request.with_truth = true;
  return request;
}

TEST_F(CoverageTest, AnswerCarriesTheCoverageOfItsOwnRangeAndHosts) {
  open(region_tier());
  for (int w = 0; w < 12; ++w) {
    const Window window{kHour + 60 * w, 60};
    drain({host_minute(1, w),
           batch_of(9, static_cast<uint64_t>(++seq_), window, {requests({{"host", "h1"}}, 1)})});
    if (w < 3) drain({host_minute(2, w)});
  }
  fold();
  settle_at(kHour + 720 + tier_.close_after_s);
  const auto coverage = [&](TimeRange range, std::vector<Matcher> matchers = {}) {
    SelectRequest request = with_truth("requests_total", range);
    request.matchers = std::move(matchers);
    const SourceWindows got = select(request).notes.coverage;
    return Sums{got.merged, got.expected};
  };
  EXPECT_EQ(coverage({kHour, kHour + 720}), (Sums{15, 24}));
  EXPECT_EQ(coverage({kHour, kHour + 180}), (Sums{6, 6}));
  EXPECT_EQ(coverage({kHour + 120, kHour + 240}), (Sums{3, 4}));
  const Matcher second{"host", MatchOp::kEqual, "h2"};
  EXPECT_EQ(coverage({kHour, kHour + 720}, {second}), (Sums{3, 12}));
  const Matcher other{"service", MatchOp::kEqual, "cart"};  // says nothing of hosts
  EXPECT_EQ(coverage({kHour, kHour + 720}, {other}), (Sums{15, 24}));
  const Matcher nobody{"region", MatchOp::kEqual, "us-1"};
  EXPECT_EQ(coverage({kHour, kHour + 720}, {nobody}), (Sums{0, 0}));
  SelectRequest plain = ask("requests_total");
  EXPECT_EQ(select(plain).notes.coverage.expected, 0U);  // nobody asked
}

TEST_F(CoverageTest, MarksNotFoldedYetDoNotMakeItMoreThanAll) {
  open(region_tier());
  drain({host_minute(1, 0), host_minute(2, 0), host_minute(1, 1)});
  fold();
  settle_at(kHour + 120 + tier_.close_after_s);
  drain({host_minute(2, 1)});
  const auto before = select(with_truth("requests_total", range_)).notes.coverage;
  EXPECT_EQ((Sums{before.merged, before.expected}), (Sums{3, 4}));
  fold();
  const auto after = select(with_truth("requests_total", range_)).notes.coverage;
  EXPECT_EQ((Sums{after.merged, after.expected}), (Sums{4, 4}));
}

TEST_F(CoverageTest, AnswerCarriesWhatItsHostsLost) {
  open(region_tier());
  const auto lost = [&](int host, int w, const std::string& reason, uint64_t n) {
    const Labels labels{
        {"host", "h" + std::to_string(host)}, {"reason", reason}, {"where", "outbox"}};
    return batch_of(static_cast<uint8_t>(host), static_cast<uint64_t>(++seq_), {kHour + 60 * w, 60},
                    {{own(kDropped), labels, Counter{n}}});
  };
  drain({lost(1, 0, "full", 5), lost(2, 0, "full", 7), lost(1, 1, "failed", 0)});
  fold();
  drain({lost(1, 2, "failed", 2)});  // in the inbox
  const auto losses = [&](const SelectRequest& request) {
    std::string out;
    for (const Loss& loss : select(request).notes.losses) {
      out += loss.where + " " + loss.reason + " " + std::to_string(loss.events) + ";";
    }
    return out;
  };
  EXPECT_EQ(losses(with_truth("requests_total", range_)), "outbox failed 2;outbox full 12;");
  SelectRequest one = with_truth("requests_total", range_);
  one.matchers = {{"host", MatchOp::kEqual, "h2"}, {"service", MatchOp::kEqual, "cart"}};
  EXPECT_EQ(losses(one), "outbox full 7;");
  const auto itself = select(with_truth(kDropped, range_));  // selecting them is nothing special
  EXPECT_EQ(itself.series.size(), 3U);
  EXPECT_EQ(itself.notes.losses.size(), 2U);
}

TEST_F(CoverageTest, RowsBeyondALimitThatTheMatchersLeaveOutAreBrought) {
  open(region_tier());
  const auto row = [](Labels labels, uint64_t n) {
    std::ranges::sort(labels);
    return requests(std::move(labels), n);
  };
  drain(
      {batch_of(1, 1, {kHour, 60},
                {row({{"host", "h1"}, {"route", "/a"}, {"service", "cart"}}, 1),
                 row({{"host", "h1"}, {"otel.metric.overflow", "true"}}, 10),
                 row({{"host", "h1"}, {"route", "__other__"}, {"service", "cart"}}, 100),
                 row({{"host", "h1"}, {"route", "__other__"}, {"service", "shop"}}, 1000)}),
       batch_of(2, 1, {kHour, 60}, {row({{"host", "h2"}, {"otel.metric.overflow", "true"}}, 7)})});
  for (int pass = 0; pass < 2; ++pass) {  // in the inbox, in blocks
    SelectRequest request = with_truth("requests_total", range_);
    request.matchers = {{"host", MatchOp::kEqual, "h1"},
                        {"service", MatchOp::kEqual, "cart"},
                        {"route", MatchOp::kRegex, "/.*"}};
    const Selection got = select(request);
    ASSERT_EQ(got.series.size(), 1U);
    uint64_t sum = 0;
    for (const auto& series : got.unnamed) sum += std::get<Counter>(series.windows[0].value).delta;
    EXPECT_EQ(sum, 110U);
    request.with_truth = false;
    EXPECT_TRUE(select(request).unnamed.empty());
    fold();
  }
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
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
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
