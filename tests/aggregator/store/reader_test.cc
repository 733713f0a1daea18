// The reader: one moment, every batch once, any tiling the same, damage said aloud.

#include "common/zstd.h"
#include "tests/aggregator/store/store_fixture.h"

namespace weir::aggregator::store_test {
namespace {

using ReaderTest = StoreTest;

Labels at(int host) { return {{"host", "h" + std::to_string(host)}, {"service", "cart"}}; }

AcceptedBatch minute(int host, int w, uint64_t delta) {
  return batch_of(static_cast<uint8_t>(host), static_cast<uint64_t>(w) + 1, {kHour + 60 * w, 60},
                  {requests(at(host), delta)});
}

uint64_t total(const Selection& selection) {
  uint64_t sum = 0;
  for (const auto& series : selection.series) {
    for (const auto& w : series.windows) sum += std::get<Counter>(w.value).delta;
  }
  return sum;
}

SelectRequest by_service(TimeRange range) {
  SelectRequest request;
  request.metric = "requests_total";
  request.range = range;
  request.needs_all_labels = false;
  request.label_use = LabelUse::kOnly;
  request.label_names = {"service"};
  return request;
}

TEST_F(ReaderTest, AnyTilingAddsUpToTheSame) {
  open(region_tier());
  for (int w = 0; w < 60; ++w) {
    drain({minute(1, w, static_cast<uint64_t>(w) + 1), minute(2, w, 1000)});
    if (w % 7 == 0) fold();
  }
  for (int64_t from = kHour; from < kHour + 1200; from += 60) {
    for (int64_t to = kHour + 1800; to <= kHour + 3600; to += 300) {
      uint64_t expected = 0;
      for (int w = 0; w < 60; ++w) {
        const int64_t end = kHour + 60 * (w + 1);
        if (end > from && end <= to) expected += static_cast<uint64_t>(w) + 1 + 1000;
      }
      SelectRequest fine = ask("requests_total");
      fine.range = {from, to};
      EXPECT_EQ(total(select(fine)), expected);
      EXPECT_EQ(total(select(by_service({from, to}))), expected);
      auto stepped = by_service({from, to});
      stepped.step_s = 60;
      EXPECT_EQ(total(select(stepped)), expected);
    }
  }
}

TEST_F(ReaderTest, CoarseWindowsAnswerWhenTheirLabelsSuffice) {
  open(region_tier());
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  fold();
  const auto coarse = select(by_service({kHour, kHour + 3600}));
  ASSERT_EQ(coarse.series.size(), 1U);
  EXPECT_EQ(coarse.series[0].windows.size(), 12U);
  EXPECT_EQ(coarse.notes.finest_width_s, 300U);
  auto matched = by_service({kHour, kHour + 3600});
  matched.matchers = {{"host", MatchOp::kEqual, "h1"}};
  EXPECT_EQ(select(matched).series.at(0).windows.size(), 60U);
}

TEST_F(ReaderTest, InboxAndBlocksAreSeenOnce) {
  open(region_tier());
  drain({minute(1, 0, 1)});
  EXPECT_EQ(total(select(by_service(range_))), 1U);
  fold();
  EXPECT_EQ(total(select(by_service(range_))), 1U);
  drain({minute(1, 1, 10)});
  const auto both = select(by_service(range_));
  EXPECT_EQ(total(both), 11U);
  EXPECT_EQ(both.series.size(), 1U);
}

TEST_F(ReaderTest, ABatchThatWasStoredPackedReadsAndFoldsTheSame) {
  open(region_tier());
  AcceptedBatch packed = minute(1, 0, 3);
  packed.body = *zstd_compress(packed.body, 1);
  packed.crc32c = crc32c(packed.body);
  packed.raw_len = static_cast<uint32_t>(minute(1, 0, 3).body.size());
  ASSERT_NE(packed.body.size(), packed.raw_len);
  drain({packed, minute(2, 0, 4)});
  EXPECT_EQ(store_->inbox_bytes(), packed.raw_len + minute(2, 0, 4).body.size());
  EXPECT_EQ(total(select(ask("requests_total"))), 7U);
  fold();
  EXPECT_EQ(store_->inbox_bytes(), 0U);
  EXPECT_EQ(total(select(ask("requests_total"))), 7U);
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

TEST_F(ReaderTest, OpenWindowCounts) {
  clock_.set_unix(kHour + 90);
  open(region_tier());
  drain({minute(1, 0, 1), minute(1, 1, 10)});
  EXPECT_EQ(total(select(by_service({kHour, kHour + 90}))), 11U);
  fold();
  EXPECT_EQ(total(select(by_service({kHour, kHour + 90}))), 11U);
  EXPECT_EQ(total(select(by_service({kHour, kHour + 60}))), 1U);
}

TEST_F(ReaderTest, MatchersSelectByEqualityAndAnchoredExpressions) {
  open(region_tier());
  for (int host = 1; host <= 12; ++host) {
    drain({minute(host, 0, uint64_t{1} << host)});
    if (host == 6) fold();  // half in blocks, half in the inbox
  }
  const auto sum = [&](MatchOp op, const std::string& value) {
    return total(select(ask("host", op, value)));
  };
  EXPECT_EQ(sum(MatchOp::kEqual, "h2"), 4U);
  EXPECT_EQ(sum(MatchOp::kNotEqual, "h2"), 8190U - 4U);
  EXPECT_EQ(sum(MatchOp::kRegex, "h1"), 2U);
  EXPECT_EQ(sum(MatchOp::kRegex, "h1.*"), 2U + 1024U + 2048U + 4096U);
  EXPECT_EQ(sum(MatchOp::kNotRegex, "h1.*"), 8190U - 7170U);
  EXPECT_EQ(total(select(ask("__name__", MatchOp::kRegex, "requests_.*"))), 8190U);
  EXPECT_EQ(total(select(ask("other"))), 0U);
  EXPECT_FALSE(reader_->select(ask("a", MatchOp::kRegex, "("), {}).ok());
}

TEST_F(ReaderTest, DamagedBlockIsLeftOutCountedAndSaid) {
  open(region_tier());
  drain({minute(1, 0, 1)});
  fold();
  drain({minute(1, 1, 10)});
  fold();
  tamper("UPDATE block SET body = zeroblob(length(body)) WHERE key = (SELECT min(key) FROM block)");
  const auto selection = select(ask("requests_total"));
  EXPECT_EQ(total(selection), 10U);
  EXPECT_EQ(selection.notes.damaged_blocks, 1U);
  EXPECT_EQ(selection.notes.warnings.size(), 1U);
}

TEST_F(ReaderTest, EveryFlippedBitOfABlockIsNoticed) {
  open(region_tier());
  drain({minute(1, 0, 1)});
  fold();
  auto db = Database::open(path());
  ASSERT_TRUE(db.ok());
  auto read = db->prepare("SELECT key,body FROM block ORDER BY key LIMIT 1");
  ASSERT_TRUE(read.ok() && *read->step());
  const int64_t key = read->integer(0);
  const Bytes good(read->blob(1).begin(), read->blob(1).end());
  read->reset();
  auto write = db->prepare("UPDATE block SET body = ? WHERE key = ?");
  ASSERT_TRUE(write.ok());
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    ASSERT_TRUE(write->bind(1, ByteView(bad)).bind(2, key).run().ok());
    EXPECT_EQ(select(ask("requests_total")).notes.damaged_blocks, 1U);
  }
}

TEST_F(ReaderTest, LimitsStopASelect) {
  open(region_tier());
  for (int host = 1; host <= 20; ++host) drain({minute(host, 0, 1)});
  fold();
  const SelectRequest all = ask("requests_total");
  EXPECT_EQ(reader_->select(all, {.max_series = 19}).error().code, Errc::kLimit);
  EXPECT_EQ(reader_->select(all, {.max_rows = 19}).error().code, Errc::kLimit);
  EXPECT_EQ(reader_->select(all, {.max_bytes = 19}).error().code, Errc::kLimit);
  EXPECT_EQ(
      reader_->select(all, {.deadline = std::chrono::steady_clock::time_point::min()}).error().code,
      Errc::kUnavailable);
  EXPECT_TRUE(reader_->select(all, {.max_series = 20, .max_rows = 20}).ok());
}

TEST_F(ReaderTest, LabelNamesAndValuesComeFromTheCatalog) {
  open(region_tier());
  drain({minute(1, 0, 1), minute(2, 0, 1)});
  fold();
  using Names = std::vector<std::string>;
  EXPECT_EQ(*reader_->label_values(""), (Names{"__name__", "host", "region", "service"}));
  EXPECT_EQ(*reader_->label_values("host"), (Names{"h1", "h2"}));
  EXPECT_EQ(*reader_->label_values("__name__"), Names{"requests_total"});
  EXPECT_EQ(*reader_->label_values("none"), Names{});
}

TEST_F(ReaderTest, SealedBlocksReadTheSame) {
  open(region_tier());
  for (int w = 0; w < 60; ++w) {
    drain({minute(1, w, 1), minute(2, w, 5)});
    fold();
  }
  const auto fine = all_fine();
  const auto coarse = all_coarse();
  const int64_t blocks = number("SELECT count(*) FROM block");
  clock_.set_unix(kHour + 3600 + seal_after_s(300));
  EXPECT_FALSE(maintain(unix_seconds(clock_.now())));
  EXPECT_EQ(number("SELECT count(*) FROM block"), blocks);  // a fence may take them back
  release_everything();
  while (maintain(unix_seconds(clock_.now()))) {
  }
  EXPECT_EQ(number("SELECT count(*) FROM block WHERE codec = 0"), 0);
  EXPECT_LT(number("SELECT count(*) FROM block"), blocks);
  EXPECT_EQ(number("SELECT sum(blocks) FROM tier"), number("SELECT count(*) FROM block"));
  EXPECT_EQ(number("SELECT sum(bytes) FROM tier"), number("SELECT sum(length(body)) FROM block"));
  EXPECT_EQ(all_fine(), fine);
  EXPECT_EQ(all_coarse(), coarse);
}

TEST_F(ReaderTest, FineWindowsEndWithTheirRetentionAndCoarseOnesAnswer) {
  Tier tier = region_tier();
  tier.keep_in_s = 1800;
  open(tier);
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  fold();
  while (maintain(kHour + 3600)) {
  }
  EXPECT_EQ(number("SELECT count(*) FROM block WHERE key < (1 << 61)"), 30);
  EXPECT_EQ(total(select(by_service(range_))), 60U);
  const auto all = select(ask("requests_total"));
  EXPECT_EQ(total(all), 60U);
  EXPECT_EQ(all.notes.warnings.size(), 1U);
  const auto one_host = select(ask("host", MatchOp::kEqual, "h1"));
  EXPECT_EQ(total(one_host), 30U);
  EXPECT_EQ(one_host.notes.warnings.size(), 1U);
}

TEST_F(ReaderTest, StatusCountsTheWindowsKeptNotTheirBlocks) {
  Tier tier = region_tier();
  tier.keep_in_s = 1800;
  open(tier);
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  for (int w = 0; w < 30; ++w) drain({minute(2, 2 * w, 1)});  // late parts of half of them
  fold();
  drain({batch_of(3, 1, {kHour, 60}, {latency(at(3), {5})})});  // another metric
  fold();
  const auto windows = [&] {
    const auto widths = *store_->widths(kHour + 3600);
    return std::pair{widths[0].windows, widths[1].windows};
  };
  EXPECT_EQ(windows(), (std::pair<uint64_t, uint64_t>{60, 12}));
  while (maintain(kHour + 3600)) {
  }
  EXPECT_EQ(windows(), (std::pair<uint64_t, uint64_t>{30, 12}));
  reopen();
  EXPECT_EQ(windows(), (std::pair<uint64_t, uint64_t>{30, 12}));
}

TEST_F(ReaderTest, DamagedBlocksAreCountedOnceAndDoNotStopSealing) {
  open(region_tier());
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  fold();
  release_everything();
  tamper(
      "UPDATE block SET body = zeroblob(length(body)) WHERE key IN "
      "(SELECT key FROM block ORDER BY key LIMIT 40)");
  const int64_t later = kHour + 3600 + seal_after_s(300);
  for (int i = 0; i < 20; ++i) maintain(later);
  EXPECT_FALSE(maintain(later));
  EXPECT_EQ(number("SELECT count(*) FROM block WHERE codec = 0"), 0);
  EXPECT_EQ(counter("weir_store_damaged_blocks_total"), 40U);
  EXPECT_EQ(counter("weir_store_sealed_blocks_total"), 32U);
  EXPECT_EQ(select(ask("requests_total")).notes.damaged_blocks, 40U);
}

TEST_F(ReaderTest, RowsOfAnotherScaleAreMergedAtTheCoarserOne) {
  open(region_tier());
  Distribution fine(-9, 6);
  Distribution coarse(-9, 5);
  for (uint64_t ns = 1000; ns < 1100; ++ns) {
    ASSERT_TRUE(fine.add(ns).ok());
    ASSERT_TRUE(coarse.add(ns).ok());
  }
  drain({batch_of(1, 1, {kHour, 60}, {{kLatency, at(1), coarse}}),
         batch_of(1, 2, {kHour, 60}, {{kLatency, at(1), fine}})});
  for (int pass = 0; pass < 3; ++pass) {  // in the inbox, in parts, sealed
    const auto selection = select(ask("latency_seconds"));
    ASSERT_EQ(selection.series.size(), 1U);
    const auto& all = std::get<Distribution>(selection.series[0].windows.at(0).value);
    EXPECT_EQ(all.scale(), 5);
    EXPECT_EQ(all.count(), 200U);
    EXPECT_EQ(all.sum(), 2 * fine.sum());
    EXPECT_TRUE(selection.notes.warnings.empty());
    if (pass == 0) fold();
    if (pass == 1) maintain(kHour + seal_after_s(300) + 300);
  }
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

TEST_F(ReaderTest, RowsBeyondALimitAreLeftOutAndSaid) {
  open(region_tier());
  drain({batch_of(1, 1, {kHour, 60}, {requests(at(1), kMaxCount)}),
         batch_of(1, 2, {kHour, 60}, {requests(at(1), 2)})});
  fold();
  EXPECT_EQ(select(ask("requests_total")).notes.warnings.size(), 1U);
  EXPECT_EQ(counter("weir_store_unmerged_rows_total"), 2U);  // fine and coarse
}

TEST_F(ReaderTest, ClockThatJumpsAheadDeletesNothing) {
  open(region_tier());
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  fold();
  while (maintain(kHour + 400 * 86400)) {
  }
  EXPECT_EQ(total(select(by_service(range_))), 60U);
}

TEST_F(ReaderTest, AClockThatJumpsAheadAndTakesWindowsWithItDeletesNothingForAsLongAsItLasts) {
  const auto at_mono = [&](int64_t now_s, int64_t mono_s) {
    while (*store_->maintain(now_s, MonoTime(std::chrono::seconds(mono_s)))) {
    }
  };
  const int64_t jump_s = 40 * 86400;
  open(region_tier());
  for (int w = 0; w < 60; ++w) drain({minute(1, w, 1)});
  fold();
  at_mono(kHour + 3600, 0);
  drain({batch_of(2, 1, {kHour + jump_s, 60}, {requests(at(2), 1)})});
  fold();
  at_mono(kHour + jump_s + 60, 60);
  at_mono(kHour + jump_s + 3600, 3600);
  at_mono(kHour + 7200, 3600);  // set back
  EXPECT_EQ(total(select(by_service(range_))), 60U);
  at_mono(kHour + jump_s + 3600, 3600 + jump_s / 2);  // it was right
  EXPECT_EQ(total(select(by_service(range_))), 0U);
}

TEST_F(ReaderTest, OtherWindowWidthsThanTheStoresAreRefused) {
  open(region_tier());
  Tier other = region_tier();
  other.out_s = 600;
  const auto store = Store::open(path(), other, {}, kHour);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.error().message.find("60s and 300s"), std::string::npos);
}

TEST_F(ReaderTest, SecondsWideWindowsFitTheKey) {
  Tier tier = region_tier();
  tier.in_s = 1;
  tier.out_s = 5;
  open(tier);
  drain({batch_of(1, 1, {kHour + 7, 1}, {requests(at(1), 3)})});
  fold();
  EXPECT_EQ(total(select(ask("requests_total"))), 3U);
  EXPECT_EQ(total(select(by_service(range_))), 3U);
}

}  // namespace
}  // namespace weir::aggregator::store_test
