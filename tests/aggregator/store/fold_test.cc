// Folds: whatever the order, the grouping and the interruptions, the store holds the plain merge.

#include <filesystem>

#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/file_size_limit.h"
#include "tests/fakes/outbox_rows.h"

namespace weir::aggregator::store_test {
namespace {

Labels at(const std::string& host, const std::string& service) {
  return {{"host", host}, {"service", service}};
}

Labels with_region(Labels labels) { return with_added(region_tier(), std::move(labels)); }

Labels without_host(const Labels& labels) {
  return without_dropped(region_tier(), with_region(labels));
}

// Batches of three hosts over an hour, and what they add up to.
struct Traffic {
  std::vector<AcceptedBatch> batches;
  Direct fine;
  Direct coarse;
};

Traffic traffic(uint64_t seed, int windows = 12, int parts = 2) {
  std::mt19937_64 random(seed);
  Traffic out;
  std::map<uint8_t, uint64_t> seq;
  for (uint8_t host = 1; host <= 3; ++host) {
    for (int w = 0; w < windows; ++w) {
      for (int part = 0; part < parts; ++part) {
        const Window window{kHour + 60 * w, 60};
        std::vector<Sample> samples;
        for (const char* service : {"cart", "pay"}) {
          const Labels labels = at("h" + std::to_string(host), service);
          samples.push_back(requests(labels, random() % 1000 + 1));
          samples.push_back(latency(labels, {random() % 1'000'000'000, random() % 1'000'000}));
        }
        for (const Sample& s : samples) {
          out.fine.add(s.metric, with_region(s.labels), window, s.value);
          out.coarse.add(s.metric, without_host(s.labels), window_at(window.start_s, 300), s.value);
        }
        out.batches.push_back(batch_of(host, ++seq[host], window, samples));
      }
    }
  }
  return out;
}

using Fold = StoreTest;

TEST_F(Fold, EqualsThePlainMergeByteForByteInEveryOrderAndGrouping) {
  const Traffic all = traffic(1);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    file_ = "order-" + std::to_string(seed);
    open(region_tier(), {.fold_bytes = seed % 2 == 0 ? size_t{1} : size_t{16} << 20});
    std::mt19937_64 random(seed);
    auto batches = all.batches;
    std::shuffle(batches.begin(), batches.end(), random);
    for (size_t from = 0; from < batches.size();) {
      const size_t n = std::min<size_t>(random() % 20 + 1, batches.size() - from);
      drain({batches.begin() + static_cast<long>(from),
             batches.begin() + static_cast<long>(from + n)});
      from += n;
      if (random() % 2 == 0) fold();
      if (random() % 4 == 0) reopen();
    }
    EXPECT_EQ(all_fine(), all.fine.books());
    EXPECT_EQ(all_coarse(), all.coarse.books());
    fold();
    EXPECT_EQ(all_fine(), all.fine.books());
    EXPECT_EQ(all_coarse(), all.coarse.books());
    EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
  }
}

TEST_F(Fold, CoarseWindowsLackTheHostAndCarryTheRegion) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests(at("a", "cart"), 1)}),
         batch_of(2, 1, {kHour, 60}, {requests(at("b", "cart"), 2)})});
  fold();
  Direct expected;
  expected.add(kRequests, {{"region", "eu-1"}, {"service", "cart"}}, {kHour, 300}, Counter{3});
  EXPECT_EQ(all_coarse(), expected.books());
}

TEST_F(Fold, SenderCannotChooseItsRegion) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests({{"region", "us-9"}}, 1)})});
  fold();
  Direct expected;
  expected.add(kRequests, {{"region", "eu-1"}}, {kHour, 60}, Counter{1});
  EXPECT_EQ(all_fine(), expected.books());
}

TEST_F(Fold, LateDataAfterCloseGoesToBothGrainsAndUpwardAgain) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests(at("a", "cart"), 1)})});
  fold();
  ASSERT_TRUE(store_->close({kHour, 300}, {}).ok());
  drain({batch_of(1, 2, {kHour, 60}, {requests(at("a", "cart"), 10)})});
  fold();
  Direct fine;
  fine.add(kRequests, with_region(at("a", "cart")), {kHour, 60}, Counter{11});
  Direct coarse;
  coarse.add(kRequests, without_host(at("a", "cart")), {kHour, 300}, Counter{11});
  EXPECT_EQ(all_fine(), fine.books());
  EXPECT_EQ(all_coarse(), coarse.books());
  const auto out = unassigned_rows(store_->outbox());
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(out[0].mass, 1U);
  EXPECT_EQ(out[1].mass, 10U);
}

TEST_F(Fold, OneWindowTakesAnyNumberOfParts) {
  open(region_tier());
  Direct fine;
  for (uint64_t seq = 1; seq <= 150; ++seq) {
    const Sample sample = latency(at("a", "cart"), {seq * 1'000'000});
    fine.add(sample.metric, with_region(sample.labels), {kHour, 60}, sample.value);
    drain({batch_of(1, seq, {kHour, 60}, {sample})});
    fold();
  }
  EXPECT_EQ(all_fine(), fine.books());
  EXPECT_LE(number("SELECT count(*) FROM block"), 2 * 64);
}

TEST_F(Fold, RestartBetweenDrainAndFoldLosesNothing) {
  const Traffic all = traffic(2);
  open(region_tier());
  drain(all.batches);
  reopen();
  EXPECT_EQ(store_->inbox_rows(), all.batches.size());
  fold();
  EXPECT_EQ(store_->inbox_rows(), 0U);
  EXPECT_EQ(store_->inbox_bytes(), 0U);
  EXPECT_EQ(all_fine(), all.fine.books());
}

TEST_F(Fold, DuplicatesAreAcknowledgedAndCountedOnce) {
  const Traffic all = traffic(3);
  open(region_tier());
  const auto first = drain(all.batches);
  auto twice = all.batches;
  twice.insert(twice.end(), all.batches.begin(), all.batches.end());
  const auto second = drain(twice);
  ASSERT_EQ(first.size(), 3U);  // one range per host
  ASSERT_EQ(second.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(first[i].level, FrameType::kAckR);
    EXPECT_EQ(std::pair(first[i].lo, first[i].hi), std::pair(second[i].lo, second[i].hi));
  }
  fold();
  reopen();
  drain(all.batches);
  fold();
  EXPECT_EQ(all_fine(), all.fine.books());
}

TEST_F(Fold, LastTierAcknowledgesBothLevelsAtOnce) {
  open(global_tier());
  const auto acks = drain({batch_of(1, 1, {kHour, 300}, {requests({{"service", "cart"}}, 1)})});
  ASSERT_EQ(acks.size(), 2U);
  EXPECT_EQ(acks[0].level, FrameType::kAckR);
  EXPECT_EQ(acks[1].level, FrameType::kAckG);
  fold();
  EXPECT_TRUE(unassigned_rows(store_->outbox()).empty());
}

TEST_F(Fold, FullOutboxKeepsTheInboxAndTheAnswersWhole) {
  const Traffic all = traffic(4);
  open(region_tier(), {.outbox_max_bytes = 1});
  drain(all.batches);
  auto result = store_->fold(INT64_MAX);
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_NE(result->blocked_by.find("outbox: it is full"), std::string::npos);
  EXPECT_EQ(store_->inbox_rows(), all.batches.size());
  EXPECT_EQ(number("SELECT count(*) FROM block"), 0);
  EXPECT_EQ(all_fine(), all.fine.books());
  EXPECT_EQ(all_coarse(), all.coarse.books());
}

TEST_F(Fold, DamagedInboxRowIsQuarantinedAndTheRestCountsUntilItIsSentAgain) {
  open(region_tier());
  const auto first = batch_of(1, 1, {kHour, 60}, {requests(at("a", "cart"), 1)});
  drain({first, batch_of(1, 2, {kHour, 60}, {requests(at("a", "cart"), 2)})});
  damage_body(1);
  reopen();
  EXPECT_EQ(select(ask()).notes.damaged_blocks, 1U);
  const FoldResult folded = fold();
  EXPECT_EQ(folded.quarantined, 1U);
  ASSERT_EQ(folded.acks.size(), 1U);
  EXPECT_EQ(folded.acks[0].level, FrameType::kNack);
  EXPECT_EQ(folded.acks[0].refusal, Refusal::kForNow);
  EXPECT_EQ(folded.acks[0].lo, 1U);
  EXPECT_EQ(counter("weir_store_quarantined_batches_total"), 1U);
  EXPECT_EQ(counter("weir_store_lost_batches_total"), 0U);
  EXPECT_EQ(number("SELECT count(*) FROM inbox_bad"), 1);
  Direct expected;
  expected.add(kRequests, with_region(at("a", "cart")), {kHour, 60}, Counter{2});
  EXPECT_EQ(all_fine(), expected.books());
  reopen();
  drain({first});  // the sender has kept it, because no ACK_G came
  fold();
  expected.add(kRequests, with_region(at("a", "cart")), {kHour, 60}, Counter{1});
  EXPECT_EQ(all_fine(), expected.books());
}

TEST_F(Fold, DamagedInboxRowOfTheLastTierIsCountedAsLost) {
  open(global_tier());
  drain({batch_of(1, 1, {kHour, 300}, {requests(at("a", "cart"), 1)})});
  damage_body(1);
  EXPECT_TRUE(fold().acks.empty());
  EXPECT_EQ(counter("weir_store_lost_batches_total"), 1U);
  EXPECT_EQ(number("SELECT count(*) FROM inbox_bad"), 1);
}

TEST_F(Fold, ASeriesWhoseNameIsDamagedStopsNoStartAndKeepsItsData) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests(at("a", "cart"), 1)})});
  fold();
  tamper("UPDATE series SET labels = x'ff01' WHERE row = 0");
  reopen();
  EXPECT_GE(counter("weir_store_damaged_series"), 1U);
  drain({batch_of(1, 2, {kHour, 60}, {requests(at("a", "cart"), 2)})});
  fold();
  Direct expected;
  expected.add(kRequests, {{"damaged", "row 0"}}, {kHour, 60}, Counter{1});
  expected.add(kRequests, with_region(at("a", "cart")), {kHour, 60}, Counter{2});
  EXPECT_EQ(all_fine(), expected.books());
}

TEST_F(Fold, MetricsOfOneNameAndTwoKindsAreKeptApart) {
  open(region_tier());
  const Metric gauge{"requests_total", Kind::kGauge, "", 0};
  const Gauge one{.n = 1, .sum = 5, .min = 5, .max = 5, .last = {kHour * 1'000'000'000, 1, 5}};
  drain({batch_of(1, 1, {kHour, 60},
                  {requests({{"service", "x"}}, 1), {gauge, {{"service", "x"}}, one}})});
  fold();
  Direct expected;
  expected.add(kRequests, with_region({{"service", "x"}}), {kHour, 60}, Counter{1});
  expected.add(gauge, with_region({{"service", "x"}}), {kHour, 60}, one);
  EXPECT_EQ(all_fine(), expected.books());
}

TEST_F(Fold, SeriesBeyondTheLimitShareTheOverflowRowAndTotalsStayExact) {
  open(region_tier(), {.limits = tier_limits(10)});
  std::vector<Sample> samples;
  for (int i = 0; i < 100; ++i) samples.push_back(requests({{"path", std::to_string(i)}}, 1));
  drain({batch_of(1, 1, {kHour, 60}, samples)});
  fold();
  uint64_t total = 0;
  for (const auto& series : select(ask("requests_total")).series) {
    for (const auto& w : series.windows) total += std::get<Counter>(w.value).delta;
  }
  EXPECT_EQ(total, 100U);
  EXPECT_EQ(counter("weir_store_overflow_rows_total"), 90U);
}

TEST_F(Fold, WriteThatFailsAcknowledgesNothingAndLosesNothing) {
  const Traffic all = traffic(5);
  open(region_tier());
  const auto half = all.batches.begin() + static_cast<long>(all.batches.size() / 2);
  drain({all.batches.begin(), half});
  {
    const FileSizeLimit limit(std::filesystem::file_size(path() + "-wal"));
    const auto refused = store_->drain(meant_for(*store_, {half, all.batches.end()}));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, Errc::kIo);
    EXPECT_FALSE(store_->fold(INT64_MAX).ok());
  }
  reopen();  // what a new process finds
  EXPECT_EQ(store_->inbox_rows(), all.batches.size() / 2);
  drain(all.batches);
  fold();
  EXPECT_EQ(all_fine(), all.fine.books());
  EXPECT_EQ(all_coarse(), all.coarse.books());
}

TEST_F(Fold, OnlyClosedWindowsAreFoldedWhenAsked) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests(at("a", "cart"), 1)}),
         batch_of(1, 2, {kHour + 300, 60}, {requests(at("a", "cart"), 2)})});
  ASSERT_TRUE(store_->fold(kHour + 300).ok());
  EXPECT_EQ(store_->inbox_rows(), 1U);
}

}  // namespace
}  // namespace weir::aggregator::store_test
