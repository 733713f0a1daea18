// Two tiers in one process: what global holds equals the plain merge, and an edge's batch is
// released exactly when the rollup that contains it is at the last tier. Windows close once.

#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/fault_vfs.h"
#include "tests/fakes/outbox_rows.h"

namespace weir::aggregator::store_test {
namespace {

using Release = StoreTest;

AcceptedBatch edge(uint8_t host, uint64_t seq, int64_t start_s, uint64_t n) {
  const Labels labels{{"host", "h" + std::to_string(host)}, {"service", "cart"}};
  return batch_of(host, seq, {start_s, 60},
                  {requests(labels, n), latency(labels, {n * 1000, n * 77})});
}

TEST_F(Release, GlobalEqualsThePlainMergeOfEverything) {
  open(region_tier());
  const TempDir global_dir;
  const std::string global_path = global_dir.file("weir.db");
  auto global = Store::open(global_path, global_tier(), {}, kHour);
  ASSERT_TRUE(global.ok()) << global.error().message;
  std::mt19937_64 random(5);
  Direct expected;
  const Labels kept{{"region", "eu-1"}, {"service", "cart"}};
  for (uint64_t seq = 1; seq <= 40; ++seq) {
    for (uint8_t host = 1; host <= 3; ++host) {
      const int64_t start = kHour + 60 * static_cast<int64_t>(random() % 60);
      const uint64_t n = random() % 1000 + 1;
      drain({edge(host, seq, start, n)});
      const Window hour{kHour, 3600};
      expected.add(kRequests, kept, hour, Counter{n});
      expected.add(kLatency, kept, hour, latency({}, {n * 1000, n * 77}).value);
    }
    if (random() % 3 == 0) fold();
    // Global sees some of the outbox, sometimes twice.
    const auto pending = unassigned_rows(store_->outbox());
    for (const OutboxEntry& entry : pending) {
      if (random() % 2 == 0) continue;
      const auto batch = from_outbox(store_->outbox().source(), entry);
      ASSERT_TRUE((*global)->drain(meant_for(**global, {batch})).ok());
    }
    if (random() % 3 == 0) {
      ASSERT_TRUE((*global)->fold(INT64_MAX).ok());
    }
  }
  fold();
  const auto pending = unassigned_rows(store_->outbox());
  for (const OutboxEntry& entry : pending) {
    const auto batch = from_outbox(store_->outbox().source(), entry);
    ASSERT_TRUE((*global)->drain(meant_for(**global, {batch})).ok());
  }
  ASSERT_TRUE((*global)->fold(INT64_MAX).ok());
  auto reader = Reader::open(global_path, global_tier(), clock_);
  ASSERT_TRUE(reader.ok());
  SelectRequest by_hour = ask();
  by_hour.needs_all_labels = false;
  by_hour.label_use = LabelUse::kOnly;
  const auto answer = (*reader)->select(by_hour, {});
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(books_of(*answer), expected.books());
}

TEST_F(Release, EdgeIsReleasedWhenTheGroupOfItsWindowIsAtTheLastTier) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1), edge(1, 2, kHour + 300, 2)});  // two coarse windows: two groups
  fold();
  const auto out = unassigned_rows(store_->outbox());
  ASSERT_EQ(out.size(), 2U);
  EXPECT_EQ(number("SELECT count(DISTINCT grp) FROM block_open"), 2);
  for (const size_t i : {1U, 0U}) {
    const std::vector<SeqSpan> span{{out[i].epoch, out[i].seq, out[i].seq}};
    acknowledge(store_->outbox(), span);
    const auto released = *store_->release(span);
    ASSERT_EQ(released.size(), 1U);
    EXPECT_EQ(released[0].level, FrameType::kAckG);
    EXPECT_EQ(released[0].source, source_of(1));
    EXPECT_EQ(released[0].epoch, 7U);
    EXPECT_EQ(std::pair(released[0].lo, released[0].hi), std::pair(i + 1, i + 1));
    EXPECT_TRUE(store_->release(span)->empty());
  }
  EXPECT_EQ(number("SELECT count(*) FROM release"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM block_open"), 0);
}

TEST_F(Release, CrashBetweenTheOutboxAndTheReleaseIsMadeGoodAtStart) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1)});
  fold();
  drain({edge(1, 2, kHour, 1)});
  fold();
  const auto out = unassigned_rows(store_->outbox());
  acknowledge(store_->outbox(), {{out[0].epoch, out[0].seq, out[0].seq}});
  reopen();
  const auto released = *store_->release_all();
  ASSERT_EQ(released.size(), 1U);
  EXPECT_EQ(std::pair(released[0].lo, released[0].hi), std::pair(uint64_t{1}, uint64_t{1}));
  EXPECT_TRUE(store_->release_all()->empty());
}

// One bit of it says that more batches are above than are, and it still decodes.
TEST_F(Release, ADamagedManifestReleasesNothingAndIsCuredByANewEpoch) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1)});
  fold();
  tamper(
      "UPDATE release SET manifest = CAST(substr(manifest, 1, 33) || x'09' || "
      "substr(manifest, 35) AS BLOB)");
  acknowledge(store_->outbox(), {{store_->epoch(), 1, INT64_MAX}});
  reopen();
  const auto released = store_->release_all();
  ASSERT_TRUE(released.ok()) << released.error().message;
  EXPECT_TRUE(released->empty());
  EXPECT_TRUE(store_->ledger().all(LedgerLevel::kLastTier)->empty());
  EXPECT_TRUE(store_->take_damage());
  EXPECT_FALSE(store_->take_damage());
  EXPECT_TRUE(store_->release_all()->empty());
  ASSERT_TRUE(store_->begin_epoch(2).ok());
  EXPECT_FALSE(store_->take_damage());
  EXPECT_EQ(number("SELECT count(*) FROM release"), 0);
}

TEST_F(Release, ANewEpochThatFindsNoRoomIsNotBegunByHalf) {
  FaultDisk disk;
  options_.database.vfs = disk.vfs();
  open(region_tier(), options_);
  drain({edge(1, 1, kHour, 1)});
  fold();
  drain({edge(1, 2, kHour, 1)});
  disk.arm(DiskFault::kFull, 1, FaultDisk::Strikes::kFromThere);
  const auto begun = store_->begin_epoch(2);
  ASSERT_FALSE(begun.ok());
  EXPECT_EQ(begun.error().code, Errc::kLimit);
  EXPECT_EQ(store_->epoch(), 1U);
  EXPECT_EQ(store_->inbox_rows(), 1U);
  disk.disarm();
  ASSERT_TRUE(store_->begin_epoch(2).ok());
  EXPECT_EQ(store_->epoch(), 2U);
  EXPECT_EQ((*store_->outbox().stats()).rows, 0U);
  store_.reset();
  reader_.reset();
}

TEST_F(Release, DuplicateOfAReleasedBatchIsToldSoAgain) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1)});
  fold();
  const auto out = unassigned_rows(store_->outbox());
  acknowledge(store_->outbox(), {{out[0].epoch, 1, out[0].seq}});
  ASSERT_EQ(store_->release_all()->size(), 1U);
  const auto again = drain({edge(1, 1, kHour, 1)});
  ASSERT_EQ(again.size(), 2U);
  EXPECT_EQ(again[0].level, FrameType::kAckR);
  EXPECT_EQ(again[1].level, FrameType::kAckG);
}

TEST_F(Release, ManifestTravelsWithTheRollup) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1), edge(1, 2, kHour, 1), edge(2, 1, kHour + 300, 1)});
  fold();
  const auto out = unassigned_rows(store_->outbox());
  std::vector<SeqRange> manifest;
  for (const OutboxEntry& entry : out) {
    const auto batch = decode_batch(entry.body);
    ASSERT_TRUE(batch.ok()) << batch.error().message;
    for (const ManifestEntry& held : batch->manifest) manifest.push_back(held.range);
  }
  EXPECT_EQ(manifest, (std::vector<SeqRange>{{source_of(1), 7, 1, 2}, {source_of(2), 7, 1, 1}}));
}

TEST_F(Release, WindowsCloseInOrderAndOnce) {
  open(region_tier());
  EXPECT_FALSE(store_->closable(kHour + 86400)->has_value());
  drain({edge(1, 1, kHour, 1), edge(1, 2, kHour + 600, 1)});
  fold();
  EXPECT_FALSE(store_->closable(kHour + 309)->has_value());
  ASSERT_EQ(*store_->closable(kHour + 310), (Window{kHour, 300}));
  const Anomaly anomaly{.window = {kHour, 300},
                        .detector = "band",
                        .signal = "p99",
                        .labels = {{"service", "cart"}},
                        .score = 6.5,
                        .value = 2,
                        .expected = 1,
                        .summary = "p99 of cart doubled"};
  ASSERT_TRUE(store_->close({kHour, 300}, {anomaly}).ok());
  EXPECT_FALSE(store_->closable(kHour + 310)->has_value());
  reopen();
  EXPECT_FALSE(store_->closable(kHour + 310)->has_value());
  EXPECT_EQ(*store_->closable(kHour + 3600), (Window{kHour + 300, 300}));
  EXPECT_EQ(*reader_->anomalies(kHour, kHour + 300, 10), std::vector<Anomaly>{anomaly});
  EXPECT_TRUE(reader_->anomalies(kHour + 300, kHour + 3600, 10)->empty());
}

TEST_F(Release, WindowWithUnfoldedDataIsNotReady) {
  open(region_tier());
  drain({edge(1, 1, kHour, 1)});
  EXPECT_TRUE(*store_->has_inbox({kHour, 300}));
  EXPECT_FALSE(*store_->has_inbox({kHour + 300, 300}));
  fold();
  EXPECT_FALSE(*store_->has_inbox({kHour, 300}));
}

}  // namespace
}  // namespace weir::aggregator::store_test
