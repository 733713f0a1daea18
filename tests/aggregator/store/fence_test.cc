// Epochs, fences, groups and accounts: what the last tier lets in, and what a fenced tier takes
// back.

#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/outbox_rows.h"

namespace weir::aggregator::store_test {
namespace {

const SourceId kRegion = source_of(100);
constexpr uint64_t kEdgeEpoch = 7;

class Fence : public StoreTest {
 protected:
  uint64_t greet(uint64_t current) {
    const auto greeted = store_->greet({kRegion, "eu-1", current});
    EXPECT_TRUE(greeted.ok());
    return greeted.ok() ? greeted->your_epoch : 0;
  }

  // One group of two batches: batches lo..hi of source 1 with their mass.
  static std::vector<AcceptedBatch> group(uint64_t epoch, uint64_t first_seq, uint64_t lo,
                                          uint64_t hi) {
    std::vector<Sample> samples;
    for (int i = 0; i < 40; ++i) {
      samples.push_back(requests({{"path", std::string(100, 'a') + std::to_string(i)}}, 1));
    }
    std::vector<BatchRow> rows;
    for (const Sample& s : samples) rows.push_back({&s.metric, &s.labels, &s.value});
    const uint64_t each = 10;
    const ManifestEntry entry{
        {source_of(1), kEdgeEpoch, lo, hi}, (hi - lo + 1) * each, hi * each, false};
    auto encoded = encode_batches({{kHour, 300}, {}, {entry}}, rows, 4000);
    EXPECT_EQ(encoded.size(), 2U);
    std::vector<AcceptedBatch> out;
    for (EncodedBatch& batch : encoded) {
      const OutboxEntry row{.epoch = epoch,
                            .seq = first_seq + out.size(),
                            .window = {kHour, 300},
                            .mass = batch.mass,
                            .crc32c = crc32c(batch.body),
                            .reason = {},
                            .body = batch.body};
      out.push_back(from_outbox(kRegion, row));
    }
    return out;
  }

  Answers tell(uint64_t epoch, uint64_t lo, uint64_t hi, int64_t silent_s = 0) {
    auto told = store_->tell(
        {source_of(1), {kRegion, epoch, source_of(1), kEdgeEpoch, lo, hi}, silent_s}, kHour);
    EXPECT_TRUE(told.ok());
    return *std::move(told);
  }

  static std::vector<FrameType> levels(const std::vector<Acknowledgement>& acks) {
    std::vector<FrameType> out;
    for (const Acknowledgement& ack : acks) out.push_back(ack.level);
    return out;
  }

  uint64_t total() {
    uint64_t sum = 0;
    for (const auto& series : select(ask("requests_total")).series) {
      for (const auto& w : series.windows) sum += std::get<Counter>(w.value).delta;
    }
    return sum;
  }
};

TEST_F(Fence, EachEpochIsHandedOutOnceAndOnlyTheLastIsGood) {
  open(global_tier());
  EXPECT_EQ(greet(0), 1U);
  EXPECT_EQ(greet(1), 1U);
  EXPECT_EQ(greet(0), 2U);  // it lost its disk
  reopen();
  EXPECT_EQ(greet(2), 2U);
  EXPECT_EQ(greet(1), 3U);   // an old copy of that disk
  EXPECT_EQ(greet(9), 10U);  // of a last tier that lost its own
  EXPECT_EQ(greet(3), 11U);
}

TEST_F(Fence, AGroupCountsWhenAllOfItIsHere) {
  open(global_tier());
  greet(0);
  const auto parts = group(1, 1, 1, 4);
  drain({parts[1]});
  fold();
  EXPECT_EQ(store_->inbox_rows(), 1U);
  EXPECT_EQ(total(), 0U);
  EXPECT_EQ(number("SELECT count(*) FROM account WHERE epoch = 7"), 0);
  reopen();
  drain({parts[0], parts[1]});
  EXPECT_EQ(total(), 40U);  // in the inbox, whole
  fold();
  EXPECT_EQ(store_->inbox_rows(), 0U);
  EXPECT_EQ(total(), 40U);
  EXPECT_EQ(number("SELECT count(*) FROM part"), 0);
  EXPECT_EQ(number("SELECT lo * 100 + hi FROM account WHERE epoch = 7"), 104);
}

TEST_F(Fence, AHealthyTierIsNotFencedUntilItIsSilentOrNamed) {
  open(global_tier());
  greet(0);
  EXPECT_FALSE(tell(1, 1, 9).told.at(0).included.fenced);
  EXPECT_FALSE(tell(1, 1, 9, 899).told.at(0).included.fenced);
  EXPECT_EQ(counter("weir_store_fences_total"), 0U);
  EXPECT_EQ(drain({group(1, 1, 1, 4)[0]}).at(0).level, FrameType::kAckR);
  EXPECT_TRUE(tell(1, 1, 9, 900).told.at(0).included.fenced);
  EXPECT_EQ(greet(1), 2U);
  store_->set_fences({.named = {"us-1", "eu-1"}});
  EXPECT_TRUE(tell(2, 1, 9).told.at(0).included.fenced);
  EXPECT_EQ(counter("weir_store_fences_total"), 2U);
}

TEST_F(Fence, WhatIsSupersededIsFencedAtOnce) {
  open(global_tier());
  greet(0);
  greet(0);
  EXPECT_TRUE(tell(1, 1, 9).told.at(0).included.fenced);
  EXPECT_FALSE(tell(2, 1, 9).told.at(0).included.fenced);
}

TEST_F(Fence, TheAnswerNamesWholeGroupsAndThePartsOfOthersAreDiscarded) {
  open(global_tier());
  greet(0);
  drain(group(1, 1, 1, 4));
  const auto half = group(1, 3, 5, 8);
  drain({half[0]});
  drain(group(1, 5, 11, 12));
  const Answers answers = tell(1, 2, 20, 900);
  const Included& told = answers.told.at(0).included;
  EXPECT_TRUE(told.fenced);
  EXPECT_EQ(told.complete_to, 20U);
  EXPECT_EQ(told.spans, (std::vector<SeqSpan>{{kEdgeEpoch, 2, 4}, {kEdgeEpoch, 11, 12}}));
  EXPECT_EQ(answers.gone, (std::vector<SeqRange>{{kRegion, 1, 3, 3}}));
  EXPECT_EQ(counter("weir_store_discarded_parts_total"), 1U);
  EXPECT_EQ(store_->inbox_rows(), 4U);
  // From now on nothing new of it; what is held is acknowledged as ever.
  EXPECT_EQ(levels(drain(half)), (std::vector<FrameType>{FrameType::kFenced}));
  EXPECT_EQ(levels(drain(group(1, 1, 1, 4))),
            (std::vector<FrameType>{FrameType::kAckR, FrameType::kAckG}));
  reopen();
  EXPECT_EQ(levels(drain(half)), (std::vector<FrameType>{FrameType::kFenced}));
  EXPECT_EQ(tell(1, 2, 20).told.at(0).included.spans, told.spans);
}

TEST_F(Fence, AGroupWithADamagedPartIsDiscardedAtTheNextStartAndItsTierFenced) {
  open(global_tier());
  greet(0);
  drain(group(1, 1, 1, 4));
  const auto parts = group(1, 3, 5, 8);
  drain({parts[1]});  // the manifest is in the last one
  tamper(
      "UPDATE part SET manifest = CAST(substr(manifest, 1, 33) || x'63' || "
      "substr(manifest, 35) AS BLOB)");  // it would say that 5..99 are here
  const auto failed = store_->drain(meant_for(*store_, {parts[0]}));
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Errc::kIo);
  reopen();
  EXPECT_EQ(levels(drain({parts[0]})), (std::vector<FrameType>{FrameType::kFenced}));
  EXPECT_EQ(store_->inbox_rows(), 2U);
  EXPECT_EQ(number("SELECT count(*) FROM part"), 0);
  const Included told = tell(1, 1, 99).told.at(0).included;
  EXPECT_TRUE(told.fenced);
  EXPECT_EQ(told.spans, (std::vector<SeqSpan>{{kEdgeEpoch, 1, 4}}));
  EXPECT_EQ(greet(1), 2U);
}

TEST_F(Fence, AnAnswerIsBoundedAndSaysHowFarItGoes) {
  open(global_tier());
  greet(0);
  for (uint64_t i = 0; i < kMaxRanges + 10; ++i) {
    auto one = group(1, 1 + 2 * i, 1 + 2 * i, 1 + 2 * i);
    drain(one);
  }
  const Included first = tell(1, 1, 10'000, 900).told.at(0).included;
  EXPECT_EQ(first.spans.size(), kMaxRanges);
  EXPECT_EQ(first.complete_to, 2 * kMaxRanges);
  const Included rest = tell(1, first.complete_to + 1, 10'000).told.at(0).included;
  EXPECT_EQ(rest.spans.size(), 10U);
  EXPECT_EQ(rest.complete_to, 10'000U);
}

TEST_F(Fence, AQuestionAboutAnEpochThatWasNeverHandedOutFencesNothing) {
  open(global_tier());
  greet(0);
  for (const uint64_t made_up : {2U, 3U, 1000000U}) {
    const Included told = tell(made_up, 1, 9).told.at(0).included;
    EXPECT_TRUE(told.fenced);  // whoever has it must greet anew
    EXPECT_EQ(told.complete_to, 9U);
  }
  EXPECT_EQ(counter("weir_store_fences_total"), 0U);
  EXPECT_EQ(number("SELECT count(*) FROM fence"), 0);
  EXPECT_EQ(greet(1), 1U);
  EXPECT_EQ(greet(0), 2U);
  EXPECT_FALSE(tell(2, 1, 9).told.at(0).included.fenced);
}

TEST_F(Fence, WhatCameByAnotherWayIsIncludedToo) {
  open(global_tier());
  greet(0);
  drain(group(1, 1, 3, 4));
  greet(0);
  drain(group(2, 1, 6, 6));
  const std::vector<SeqSpan> all{{kEdgeEpoch, 3, 4}, {kEdgeEpoch, 6, 6}};
  EXPECT_EQ(tell(1, 1, 9).told.at(0).included.spans, all);
  EXPECT_EQ(tell(0, 1, 9).told.at(0).included.spans, all);  // of rows that are nobody's
}

TEST_F(Fence, WhatAFencedEpochDidNotDeliverIsNoGap) {
  open(global_tier());
  greet(0);
  drain(group(1, 1, 1, 1));
  drain(group(1, 5, 2, 2));
  ASSERT_EQ(store_->gaps()->size(), 1U);
  EXPECT_EQ(store_->gaps()->at(0).source, kRegion);
  tell(1, 1, 9, 900);  // fenced
  EXPECT_TRUE(store_->gaps()->empty());
}

TEST_F(Fence, FencesThatAreForgottenMakeRoomAndStayInForce) {
  open(global_tier());
  greet(0);
  greet(0);
  tell(1, 1, 9);
  drain(group(2, 1, 1, 1));
  fold();
  for (const int hours : {0, 145}) {
    ASSERT_TRUE(store_->maintain(kHour, MonoTime(std::chrono::hours(hours))).ok());
  }
  EXPECT_EQ(number("SELECT count(*) FROM fence"), 0);
  EXPECT_TRUE(tell(1, 1, 9).told.at(0).included.fenced);
  EXPECT_EQ(counter("weir_store_fences_total"), 1U);  // not once more
  EXPECT_EQ(greet(2), 2U);
}

TEST_F(Fence, AboutAnEarlierLifeOfTheLastTierNothingIsIncluded) {
  open(global_tier());
  const auto ask = [&](uint64_t epoch) {
    return store_->tell({source_of(1), {store_->source(), epoch, source_of(1), 7, 1, 9}, 0}, kHour)
        ->told.at(0)
        .included;
  };
  EXPECT_FALSE(ask(store_->epoch()).fenced);
  EXPECT_TRUE(ask(store_->epoch() + 1).fenced);
  EXPECT_EQ(ask(store_->epoch() + 1).complete_to, 9U);
}

TEST_F(Fence, BatchesForAnotherLifeOfThisTierAreRefusedForNow) {
  open(region_tier());
  auto batch = batch_of(1, 1, {kHour, 60}, {requests({{"service", "cart"}}, 3)});
  batch.target_epoch = 2;
  const auto acks = store_->drain(std::span(&batch, 1));
  ASSERT_TRUE(acks.ok());
  EXPECT_EQ(acks->at(0).level, FrameType::kNack);
  EXPECT_EQ(acks->at(0).refusal, Refusal::kForNow);
  EXPECT_EQ(acks->at(0).reason, kNackTargetEpoch);
  EXPECT_EQ(store_->inbox_rows(), 0U);
}

TEST_F(Fence, AFencedTierKeepsExactlyWhatTheLastTierHas) {
  open(region_tier());
  const auto minute = [&](uint64_t seq, int64_t start_s) {
    return batch_of(1, seq, {start_s, 60}, {requests({{"service", "cart"}}, seq)});
  };
  drain({minute(1, kHour)});
  fold();
  const auto rows = unassigned_rows(store_->outbox());
  acknowledge(store_->outbox(), {{rows[0].epoch, rows[0].seq, rows[0].seq}});
  ASSERT_EQ(store_->release_all()->size(), 1U);
  drain({minute(2, kHour)});  // the same window: apart from what is released
  fold();
  drain({minute(4, kHour + 300)});
  EXPECT_EQ(total(), 7U);
  ASSERT_TRUE(store_->begin_epoch(2).ok());
  EXPECT_EQ(store_->epoch(), 2U);
  EXPECT_EQ(total(), 1U);
  EXPECT_EQ(store_->inbox_rows(), 0U);
  EXPECT_EQ((*store_->outbox().stats()).rows, 0U);
  EXPECT_EQ(*store_->ledger().all(LedgerLevel::kHere),
            (std::vector<SeqRange>{{source_of(1), kEdgeEpoch, 1, 1}}));
  drain({minute(2, kHour), minute(4, kHour + 300)});  // brought again
  fold();
  EXPECT_EQ(total(), 7U);
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

// ---- limits ----

TEST_F(Fence, OneEpochTooManyOfASourceWaitsAndOthersDoNot) {
  open(region_tier(), {.lives = 2});
  const auto batch = [](uint8_t source, uint64_t epoch, uint64_t seq) {
    auto out = batch_of(source, seq, {kHour, 60}, {requests({{"host", "a"}}, 1)});
    out.epoch = epoch;
    return out;
  };
  drain({batch(1, 11, 1), batch(1, 12, 1)});
  reopen();
  const auto acks = drain({batch(1, 13, 1), batch(1, 11, 2), batch(2, 13, 1)});
  ASSERT_EQ(acks.size(), 3U);
  EXPECT_EQ(levels(acks), (std::vector{FrameType::kAckR, FrameType::kAckR, FrameType::kNack}));
  EXPECT_EQ(acks[2].source, source_of(1));
  EXPECT_EQ(acks[2].epoch, 13U);
  EXPECT_EQ(acks[2].refusal, Refusal::kForNow);
  EXPECT_NE(acks[2].reason.find("limits.lives"), std::string::npos);
  EXPECT_EQ(counter("weir_store_refused_lives_total"), 1U);
  EXPECT_EQ(total(), 4U);
  // The old ones are forgotten: nothing of it was lost, it comes again.
  fold();
  release_everything();
  ASSERT_TRUE(store_->maintain(kHour, MonoTime{}).ok());
  ASSERT_TRUE(store_->maintain(kHour, MonoTime(std::chrono::hours(146))).ok());
  EXPECT_EQ(drain({batch(1, 13, 1)}).at(0).level, FrameType::kAckR);
}

TEST_F(Fence, AnEpochIsNotForgottenWhileItsBatchesWaitForTheTierAbove) {
  open(region_tier());
  const auto batch = batch_of(1, 1, {kHour, 60}, {requests({{"host", "a"}}, 1)});
  drain({batch});
  ASSERT_TRUE(store_->maintain(kHour, MonoTime{}).ok());
  ASSERT_TRUE(store_->maintain(kHour, MonoTime(std::chrono::hours(146))).ok());
  EXPECT_EQ(number("SELECT count(*) FROM ledger"), 1);  // it is in the inbox
  fold();
  ASSERT_TRUE(store_->maintain(kHour, MonoTime(std::chrono::hours(293))).ok());
  EXPECT_EQ(number("SELECT count(*) FROM ledger"), 1);  // its rollup is not above
  EXPECT_EQ(drain({batch}).at(0).level, FrameType::kAckR);
  EXPECT_EQ(counter("weir_store_duplicates_total"), 1U);
  release_everything();
  ASSERT_TRUE(store_->maintain(kHour, MonoTime(std::chrono::hours(440))).ok());
  EXPECT_EQ(number("SELECT count(*) FROM ledger"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM used"), 0);
}

TEST_F(Fence, BeyondItsShareOnlyTheOldestUnfinishedGroupOfATierGoesOn) {
  const auto first = group(1, 1, 1, 4);
  const auto second = group(1, 3, 5, 8);
  const uint64_t held = first[1].raw_len + second[1].raw_len;
  open(global_tier(), {.inbox_max_bytes = 16 * held});  // a share of what is held here
  greet(0);
  drain({first[1]});
  EXPECT_EQ(store_->unfinished_bytes(), first[1].raw_len);
  drain({first[1], second[1]});
  EXPECT_EQ(store_->unfinished_bytes(), held);
  reopen();
  EXPECT_EQ(store_->unfinished_bytes(), held);
  const auto acks = drain({second[0], second[1]});
  ASSERT_EQ(acks.size(), 3U);  // one is held, and is answered again
  const auto refused = std::ranges::find(acks, FrameType::kNack, &Acknowledgement::level);
  ASSERT_NE(refused, acks.end());
  EXPECT_EQ(refused->lo, 3U);
  EXPECT_EQ(refused->refusal, Refusal::kForNow);
  EXPECT_EQ(counter("weir_store_refused_parts_total"), 1U);
  drain({first[0]});  // the oldest
  EXPECT_EQ(total(), 40U);
  drain({second[0]});
  EXPECT_EQ(total(), 80U);
  EXPECT_EQ(store_->unfinished_bytes(), 0U);
}

TEST_F(Fence, WhatIsNotWholeDoesNotFillTheInboxOfOthers) {
  open(global_tier(), {.inbox_max_bytes = 1000});
  greet(0);
  const auto parts = group(1, 1, 1, 4);
  ASSERT_GT(parts[0].raw_len, 1000U);
  drain({parts[0]});
  EXPECT_FALSE(store_->inbox_full());
  EXPECT_EQ(counter("weir_store_unfinished_bytes"), parts[0].raw_len);
  tell(1, 1, 9, 900);  // fenced
  EXPECT_EQ(store_->unfinished_bytes(), 0U);
  greet(1);
  drain({group(2, 1, 1, 4)[0], group(2, 1, 1, 4)[1]});
  EXPECT_TRUE(store_->inbox_full());
}

// ---- accounts ----

class Account : public StoreTest {
 protected:
  AcceptedBatch data(uint64_t seq, uint64_t mass, uint64_t cum_mass) {
    auto batch = batch_of(1, seq, {kHour, tier_.in_s}, {requests({{"service", "cart"}}, mass)});
    batch.cum_mass = cum_mass;
    stamp_cum_mass(batch.body, cum_mass);
    batch.crc32c = crc32c(batch.body);
    return batch;
  }

  AcceptedBatch tombstone(uint64_t seq, uint64_t mass, uint64_t cum_mass) const {
    const Window window{kHour, tier_.in_s};
    AcceptedBatch out;
    out.type = FrameType::kTombstone;
    out.source = source_of(1);
    out.epoch = 7;
    out.seq = seq;
    out.window = window;
    out.mass = mass;
    out.cum_mass = cum_mass;
    out.body = encode_control(Tombstone{window, mass, cum_mass, "outbox_age", {{"host", "a"}}});
    out.raw_len = static_cast<uint32_t>(out.body.size());
    out.crc32c = crc32c(out.body);
    return out;
  }

  uint64_t imbalance() {
    uint64_t sum = 0;
    const auto unbalanced = store_->unbalanced();
    for (const auto& off : *unbalanced) sum += off.imbalance;
    return sum;
  }

  uint64_t sum_of(const std::string& metric) {
    uint64_t sum = 0;
    for (const auto& series : select(ask(metric)).series) {
      for (const auto& w : series.windows) sum += std::get<Counter>(w.value).delta;
    }
    return sum;
  }
};

TEST_F(Account, BalancesInAnyOrderOfWhatCameAndWhatWasGivenUp) {
  open(global_tier());
  drain({data(3, 30, 60)});
  EXPECT_EQ(imbalance(), 0U);  // the prefix is not there yet
  drain({data(1, 10, 10)});
  drain({tombstone(2, 20, 30)});
  EXPECT_EQ(imbalance(), 0U);
  EXPECT_EQ(*store_->accounted_sources(), 1U);
  EXPECT_EQ(number("SELECT count(*) FROM account"), 1);
  EXPECT_EQ(number("SELECT merged * 1000 + lost FROM account"), 40'020);
  fold();
  EXPECT_EQ(sum_of("requests_total"), 40U);
  EXPECT_EQ(sum_of("weir_dropped_total"), 20U);
  EXPECT_EQ(counter("weir_store_tombstones_total{reason=\"outbox_age\"}"), 1U);
}

TEST_F(Account, ABatchThatIsMissingIsAGapUntilItComes) {
  open(global_tier());
  EXPECT_TRUE(store_->gaps()->empty());
  drain({data(2, 10, 20), data(3, 10, 30), data(6, 10, 60)});
  auto gaps = *store_->gaps();
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0].source, source_of(1));
  EXPECT_EQ(gaps[0].gaps, 2U);  // before 2, and between 3 and 6
  drain({data(1, 10, 10)});
  EXPECT_EQ(store_->gaps()->at(0).gaps, 1U);
  drain({data(5, 10, 50), tombstone(4, 10, 40)});
  EXPECT_TRUE(store_->gaps()->empty());
  EXPECT_EQ(imbalance(), 0U);
}

TEST_F(Account, LessThanItsSourceSaidOrMoreThanThatDoesNotBalance) {
  open(global_tier());
  drain({data(1, 10, 10), data(2, 20, 35)});  // 5 of it are not in them
  EXPECT_EQ(imbalance(), 5U);
  tamper("DELETE FROM ledger");
  reopen();
  drain({data(1, 10, 10)});
  EXPECT_EQ(imbalance(), 5U);  // 10 too much, 5 too little: of one source a difference
  EXPECT_EQ(counter("weir_ledger_overlaps_total"), 1U);
}

TEST_F(Account, ATombstoneIsDataOnceAndTravelsInTheManifestAsLost) {
  open(region_tier());
  drain({tombstone(1, 20, 20), data(2, 5, 25)});
  drain({tombstone(1, 20, 20)});
  fold();
  EXPECT_EQ(sum_of("weir_dropped_total"), 20U);
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
  const auto rows = unassigned_rows(store_->outbox());
  ASSERT_EQ(rows.size(), 1U);
  const auto batch = decode_batch(rows[0].body);
  EXPECT_EQ(batch->manifest, (std::vector<ManifestEntry>{{{source_of(1), 7, 1, 1}, 20, 20, true},
                                                         {{source_of(1), 7, 2, 2}, 5, 25, false}}));
}

TEST_F(Account, WhatIsKnownOfAnEpochGoesLongAfterItsLastUseAndNotWhenClocksAreSet) {
  open(global_tier());
  const auto after_h = [&](int64_t now_s, int64_t hours) {
    ASSERT_TRUE(store_->maintain(now_s, MonoTime(std::chrono::hours(hours))).ok());
  };
  const auto epochs = [&] { return number("SELECT count(*) FROM ledger"); };
  const int64_t week = 7 * 86400;
  after_h(kHour - 20 * week, 0);
  drain({data(1, 10, 10)});
  fold();
  after_h(kHour + 10 * week, 1);
  drain({batch_of(2, 1, {kHour + 10 * week, 300}, {requests({{"service", "cart"}}, 1)})});
  fold();
  after_h(kHour + 10 * week, 100);
  EXPECT_EQ(epochs(), 2);
  drain({batch_of(2, 2, {kHour + 10 * week, 300}, {requests({{"service", "cart"}}, 1)})});
  fold();
  after_h(kHour + 10 * week, 143);
  EXPECT_EQ(epochs(), 2);
  after_h(kHour, 145);
  EXPECT_EQ(epochs(), 1);
  EXPECT_EQ(number("SELECT count(*) FROM account"), 1);
  reopen();  // goes on from what was written down last, at 100 h
  after_h(kHour + 30 * week, 1000);
  after_h(kHour + 30 * week, 1143);
  EXPECT_EQ(epochs(), 1);
  after_h(kHour + 30 * week, 1145);
  EXPECT_EQ(epochs(), 0);
}

}  // namespace
}  // namespace weir::aggregator::store_test
