// Limits at the fold: who has a name at which grain, what a flood does to region and global, and
// that totals are exact whatever happens to the names.

#include <algorithm>
#include <random>

#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/outbox_rows.h"

namespace weir::aggregator::store_test {
namespace {

const Labels kRegionLabel{{"region", "eu-1"}};

struct LimitsTest : StoreTest {
  void send(uint8_t host, int64_t start_s, const std::vector<Sample>& samples) {
    for (size_t from = 0; from < samples.size(); from += 4000) {
      const auto first = samples.begin() + static_cast<std::ptrdiff_t>(from);
      const auto count = std::min<std::ptrdiff_t>(4000, samples.end() - first);
      drain({batch_of(host, ++seqs_[host], {start_s, tier_.in_s}, {first, first + count})});
    }
  }

  // One host's route, as its edge sends it.
  static Sample route(uint8_t host, const std::string& name, uint64_t delta) {
    return requests({{"host", "h" + std::to_string(host)}, {"route", name}}, delta);
  }

  using Sums = std::map<Labels, uint64_t>;  // over all windows

  static Sums sums_of(const Selection& selection) {
    Sums out;
    for (const auto& series : selection.series) {
      for (const auto& w : series.windows) out[series.labels] += mass(w.value);
    }
    return out;
  }

  Sums fine_sums() { return sums_of(select(ask("requests_total"))); }

  Sums coarse_sums(const std::string& metric = "requests_total") {
    SelectRequest request = ask(metric);
    request.needs_all_labels = false;
    request.label_use = LabelUse::kAllBut;
    request.label_names = tier_.drop_labels;
    return sums_of(select(request));
  }

  static uint64_t total(const Sums& sums) {
    uint64_t out = 0;
    for (const auto& [labels, sum] : sums) out += sum;
    return out;
  }

  static uint64_t total_of(const Sums& sums, const std::string& label, const std::string& value) {
    uint64_t out = 0;
    for (const auto& [labels, sum] : sums) {
      if (std::ranges::find(labels, Label{label, value}) != labels.end()) out += sum;
    }
    return out;
  }

  static size_t named(const Sums& sums) {
    return static_cast<size_t>(std::ranges::count_if(sums, [](const auto& series) {
      return std::ranges::find(series.first, kOverflowLabel, &Label::first) == series.first.end();
    }));
  }

  void close(int64_t start_s) { ASSERT_TRUE(store_->close({start_s, tier_.out_s}, {}).ok()); }

  std::map<uint8_t, uint64_t> seqs_;
};

Labels with(Labels labels) {
  labels.insert(labels.end(), kRegionLabel.begin(), kRegionLabel.end());
  std::ranges::sort(labels);
  return labels;
}

TEST_F(LimitsTest, FineExcessKeepsItsHostAndIsNamedInCoarseWindows) {
  open(region_tier(), {.limits = tier_limits(4)});
  for (uint8_t host = 1; host <= 8; ++host) {
    send(host, kHour, {route(host, "/a", 1), route(host, "/b", 1), route(host, "/c", 1)});
  }
  fold();
  const Sums fine = fine_sums();
  EXPECT_EQ(named(fine), 4U);
  for (int host = 1; host <= 8; ++host) {  // sums by host are exact all the same
    EXPECT_EQ(total_of(fine, "host", "h" + std::to_string(host)), 3U);
  }
  const Sums coarse{
      {with({{"route", "/a"}}), 8}, {with({{"route", "/b"}}), 8}, {with({{"route", "/c"}}), 8}};
  EXPECT_EQ(coarse_sums(), coarse);
  EXPECT_EQ(counter("weir_store_overflow_rows_total"), 20U);
  EXPECT_EQ(counter("weir_store_coarse_overflow_rows_total"), 0U);
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

TEST_F(LimitsTest, OneDeliveryOfManyEventsOutweighsManyOfOne) {
  open(region_tier(), {.limits = tier_limits(2)});
  send(1, kHour, {route(1, "/junk1", 1), route(1, "/junk2", 1)});
  send(1, kHour, {route(1, "/heavy", 500), route(1, "/junk3", 1)});
  fold();
  const Sums fine = fine_sums();
  EXPECT_EQ(fine.count(with({{"host", "h1"}, {"route", "/heavy"}})), 1U);
  EXPECT_EQ(fine.count(with({{"host", "h1"}, {"route", "/junk3"}})), 0U);
  EXPECT_EQ(total(fine), 503U);
  EXPECT_EQ(counter("weir_store_evicted_series_total"), 1U);
}

TEST_F(LimitsTest, VictimKeepsWhatIsWrittenAndEarnsItsNameAgainInItsOldRow) {
  open(region_tier(), {.limits = tier_limits(1)});
  const auto a = with({{"host", "h1"}, {"route", "/a"}});
  const auto b = with({{"host", "h1"}, {"route", "/b"}});
  send(1, kHour, {route(1, "/a", 3), route(1, "/b", 8)});
  fold();
  send(1, kHour, {route(1, "/a", 1)});
  fold();
  EXPECT_EQ(fine_sums(),
            (Sums{{a, 3}, {b, 8}, {with({{"host", "h1"}, {kOverflowLabel, "true"}}), 1}}));
  send(1, kHour, {route(1, "/a", 20)});
  fold();
  EXPECT_EQ(fine_sums().at(a), 23U);
  EXPECT_EQ(total(coarse_sums()), 32U);
  EXPECT_EQ(number("SELECT count(*) FROM series"), 6);  // two fine, two coarse, overflow of both
}

TEST_F(LimitsTest, LoweredLimitActsAtTheNextCloseAndRewritesNothing) {
  open(region_tier(), {.limits = tier_limits(50)});
  std::vector<Sample> rows;
  for (int i = 0; i < 50; ++i) rows.push_back(route(1, std::to_string(i), i < 10 ? 100 : 2));
  send(1, kHour, rows);
  fold();
  store_->set_limits(tier_limits(10));
  send(1, kHour + 60, rows);
  fold();
  EXPECT_EQ(counter("weir_store_named_series"), 50U);
  close(kHour);
  const Sums before = fine_sums();
  send(1, kHour + 300, rows);
  fold();
  const Sums after = fine_sums();
  EXPECT_EQ(named(before), 50U);
  for (int i = 0; i < 50; ++i) {
    const auto labels = with({{"host", "h1"}, {"route", std::to_string(i)}});
    EXPECT_EQ(after.at(labels), before.at(labels) + (i < 10 ? 100U : 0U)) << i;
  }
  EXPECT_EQ(total(after), 3 * 1080U);
  EXPECT_EQ(total(coarse_sums()), 3 * 1080U);
}

TEST_F(LimitsTest, DryRunOnlyCounts) {
  open(region_tier(), {.limits = {.series_per_metric = 10, .dry_run = true}});
  std::vector<Sample> rows;
  for (int i = 0; i < 100; ++i) rows.push_back(route(1, std::to_string(i), 1));
  send(1, kHour, rows);
  fold();
  EXPECT_EQ(named(fine_sums()), 100U);
  EXPECT_EQ(named(coarse_sums()), 100U);
  EXPECT_EQ(counter("weir_store_overflow_rows_total"), 0U);
  EXPECT_GE(counter("weir_store_limits_dry_run_total"), 180U);
}

TEST_F(LimitsTest, ValuesBeyondTheLimitBecomeOtherButHostsAndAddedLabelsMayBeMany) {
  open(region_tier(), {.limits = {.values_per_label = 3}});
  for (uint8_t host = 1; host <= 20; ++host) {
    std::vector<Sample> rows;
    for (int i = 0; i < 5; ++i) rows.push_back(route(host, std::to_string(i), 2));
    send(host, kHour, rows);
  }
  fold();
  const Sums coarse = coarse_sums();
  EXPECT_EQ(coarse.size(), 4U);
  EXPECT_EQ(coarse.at(with({{"route", kOther}})), 80U);
  EXPECT_EQ(fine_sums().size(), 80U);
}

TEST_F(LimitsTest, LabelsTheTierAddsDoNotCountTowardsTheirNumber) {
  open(region_tier(), {.limits = {.labels = {.count = 2}}});
  send(1, kHour,
       {requests({{"a", "1"}, {"b", "2"}, {"host", "h1"}}, 1),
        requests({{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}, {"host", "h1"}}, 1)});
  fold();
  EXPECT_EQ(fine_sums(), (Sums{{with({{"a", "1"}, {"b", "2"}, {"host", "h1"}}), 1},
                               {with({{"host", "h1"}, {kOverflowLabel, "true"}}), 1}}));
}

TEST_F(LimitsTest, OverflowOfTiersBelowIsNeverLimitedAndKeepsWhoseItIs) {
  open(region_tier(), {.limits = tier_limits(1)});
  for (uint8_t host = 1; host <= 3; ++host) {
    const Labels own{{"host", "h" + std::to_string(host)}};
    send(host, kHour,
         {route(host, "/a", 1), requests({own[0], {kOverflowLabel, "true"}}, 10U * host)});
  }
  fold();
  const Sums fine = fine_sums();
  EXPECT_EQ(fine.at(with({{"host", "h1"}, {kOverflowLabel, "true"}})), 10U);
  EXPECT_EQ(fine.at(with({{"host", "h3"}, {kOverflowLabel, "true"}})), 31U);  // and its "/a"
  EXPECT_EQ(coarse_sums(),
            (Sums{{with({{kOverflowLabel, "true"}}), 60}, {with({{"route", "/a"}}), 3}}));
  EXPECT_EQ(counter("weir_store_overflow_rows_total"), 2U);  // what arrived so is not counted
}

TEST_F(LimitsTest, OwnMetricsGiveWayToNobody) {
  open(region_tier(), {.limits = tier_limits(2)});
  const auto own = [](const std::string& reason, uint64_t n) {
    Sample out = requests({{"host", "h1"}, {"reason", reason}}, n);
    out.metric.name = "weir_dropped_total";
    return out;
  };
  send(1, kHour, {own("a", 1), own("b", 1), own("c", 500)});
  fold();
  const Sums sums = sums_of(select(ask("weir_dropped_total")));
  EXPECT_EQ(sums.at(with({{"host", "h1"}, {"reason", "a"}})), 1U);
  EXPECT_EQ(sums.at(with({{"host", "h1"}, {kOverflowLabel, "true"}})), 500U);
}

TEST_F(LimitsTest, FullCatalogSendsNewcomersToOverflowAndKeepsRowsForCoarseWindows) {
  open(region_tier(), {.limits = tier_limits(5), .catalog_rows = 20});
  uint64_t sent = 0;
  for (uint64_t round = 1; round <= 40; ++round) {  // each heavier than all before: all evict
    const auto host = static_cast<uint8_t>(round);
    send(host, kHour, {route(host, "/a", 10 * round)});
    sent += 10 * round;
    fold();
  }
  EXPECT_LE(number("SELECT count(*) FROM series"), 16);  // one of them overflow
  EXPECT_GT(counter("weir_store_catalog_full_rows_total"), 0U);
  send(50, kHour, {route(50, "/new", 7)});
  fold();
  EXPECT_EQ(coarse_sums(), (Sums{{with({{"route", "/a"}}), sent}, {with({{"route", "/new"}}), 7}}));
  EXPECT_EQ(total(fine_sums()), sent + 7);
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

TEST_F(LimitsTest, WhatLimitsDidIsReportedAsDataOfTheWindow) {
  open(region_tier(), {.limits = tier_limits(40)});
  std::vector<Sample> rows;
  for (int i = 0; i < 100; ++i) rows.push_back(route(1, "/" + std::to_string(i), 1));
  send(1, kHour, rows);
  fold();
  close(kHour);
  for (const char* grain : {"fine", "coarse"}) {
    const Labels labels =
        with({{"grain", grain}, {"metric", "requests_total"}, {"tier", "region"}});
    const auto sum = [&](const char* metric) {
      return coarse_sums(std::string("weir_series_") + metric).at(labels);
    };
    EXPECT_EQ(sum("overflow_events_total"), 60U) << grain;
    EXPECT_EQ(sum("admitted"), 1U) << grain;  // samples of the gauge
    const auto selection = select(ask("weir_series_estimated"));
    const auto estimated = std::ranges::find(selection.series, labels, &SelectedSeries::labels);
    ASSERT_NE(estimated, selection.series.end());
    EXPECT_EQ(estimated->windows.front().window, (Window{kHour + 240, 60}));
    EXPECT_EQ(std::get<Distinct>(estimated->windows.front().value).estimate().value, 100);
  }
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
}

// 20 routes on 3 hosts, and on each host junk that never comes twice, junk first; edges' overflow,
// too. Region and global hold far fewer label sets than come by.
class Flood : public LimitsTest {
 protected:
  static constexpr uint8_t kHosts = 3;
  static constexpr int kRoutes = 20;
  static constexpr int kJunk = 100;

  void minute(int64_t start_s) {
    for (uint8_t host = 1; host <= kHosts; ++host) {
      std::vector<Sample> rows;
      for (int i = 0; i < kJunk; ++i)
        rows.push_back(route(host, "/x" + std::to_string(++junk_), 1));
      for (int i = 0; i < kRoutes; ++i) {
        rows.push_back(route(host, "/r" + std::to_string(i), 20));
        legitimate_ += 20;
      }
      rows.push_back(requests({{"host", "h" + std::to_string(host)}, {kOverflowLabel, "true"}}, 5));
      sent_ += kJunk + kRoutes * 20 + 5;
      send(host, start_s, rows);
    }
    fold();
  }

  // Of the routes' traffic, what carries its name.
  static uint64_t routes(const Sums& sums) {
    uint64_t out = 0;
    for (int i = 0; i < kRoutes; ++i) out += total_of(sums, "route", "/r" + std::to_string(i));
    return out;
  }

  uint64_t junk_ = 0;
  uint64_t sent_ = 0;
  uint64_t legitimate_ = 0;
};

TEST_F(Flood, RoutesStayNamedAtBothTiersAndTotalsAreExactAtAll) {
  const StoreOptions options{.limits = tier_limits(80)};
  open(region_tier(), options);
  for (int64_t m = 0; m < 60; ++m) {
    minute(kHour + 60 * m);
    if (m % 5 == 4) close(kHour + 60 * m - 240);
    if (m == 30) reopen();  // names are found again
  }
  const Sums fine = fine_sums();
  EXPECT_EQ(total(fine), sent_);
  EXPECT_GE(routes(fine) * 100, legitimate_ * 99);
  EXPECT_EQ(total(coarse_sums()), sent_);
  EXPECT_GE(routes(coarse_sums()) * 100, legitimate_ * 99);
  EXPECT_LE(counter("weir_store_named_series"), 100U);  // and reports
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);

  const auto pending = unassigned_rows(store_->outbox());
  std::vector<AcceptedBatch> up;
  for (const OutboxEntry& entry : pending) {
    up.push_back({.type = FrameType::kOut,
                  .source = store_->outbox().source(),
                  .epoch = entry.epoch,
                  .seq = entry.seq,
                  .window = entry.window,
                  .mass = entry.mass,
                  .rows = 0,
                  .manifest = {},
                  .crc32c = entry.crc32c,
                  .raw_len = static_cast<uint32_t>(entry.body.size()),
                  .body = entry.body});
  }
  file_ = "global.db";
  open(global_tier(), {.limits = tier_limits(25)});
  for (const AcceptedBatch& batch : up) {
    drain({batch});
    fold();
  }
  for (const Sums& sums : {fine_sums(), coarse_sums()}) {
    EXPECT_EQ(total(sums), sent_);
    EXPECT_EQ(total_of(sums, "region", "eu-1"), sent_);  // overflow, too, says whose it is
    EXPECT_GE(routes(sums) * 100, legitimate_ * 99);
  }
  EXPECT_LE(counter("weir_store_named_series"), 45U);
}

// Names come and go, folds are rolled back, the process ends: each named label set has at most what
// was sent for it, and named and overflow together have everything, by host as well.
class LimitsProperty : public LimitsTest, public testing::WithParamInterface<uint64_t> {};

TEST_P(LimitsProperty, NamedAndOverflowAreEverything) {
  std::mt19937_64 random(GetParam());
  const auto limits = [&random] {
    const size_t series = 1 + random() % 20;
    return tier_limits(series, 3 + random() % 30);
  };
  const size_t catalog_rows = 30 + random() % 60;
  open(region_tier(), {.limits = limits(), .catalog_rows = catalog_rows, .outbox_max_bytes = 6000});
  Sums sent;
  uint64_t by_host[4] = {};
  int64_t now_s = kHour;
  int blocked = 0;
  const auto make_room = [&] {
    const auto pending = unassigned_rows(store_->outbox());
    std::vector<SeqSpan> spans;
    for (const auto& entry : pending) spans.push_back({entry.epoch, entry.seq, entry.seq});
    acknowledge(store_->outbox(), spans);
  };
  for (int step = 0; step < 80; ++step) {
    const auto host = static_cast<uint8_t>(1 + random() % 3);
    std::vector<Sample> rows;
    for (uint64_t i = random() % 12; i < 12; ++i) {
      const uint64_t r = random() % 2 == 0 ? random() % 5 : random() % 60;
      Sample row = route(host, std::to_string(r), 1 + random() % 9);
      sent[with(row.labels)] += mass(row.value);
      by_host[host] += mass(row.value);
      rows.push_back(std::move(row));
    }
    send(host, now_s, rows);
    switch (random() % 8) {
      case 0:
      case 1:
      case 2: {
        const auto folded = store_->fold(INT64_MAX);
        ASSERT_TRUE(folded.ok());
        if (!folded->blocked_by.empty()) ++blocked;
        if (!folded->blocked_by.empty() && random() % 2 == 0) make_room();
        break;
      }
      case 3:
        close(window_at(now_s, 300).start_s);
        now_s += 60 * static_cast<int64_t>(random() % 3);
        break;
      case 4:
        store_->set_limits(limits());
        break;
      case 5:
        if (random() % 4 == 0) reopen();
        break;
      default:
        break;
    }
  }
  make_room();
  ASSERT_TRUE(store_->fold(INT64_MAX)->blocked_by.empty());
  range_ = {kHour, now_s + 3600};
  const Sums fine = fine_sums();
  for (const auto& [labels, sum] : fine) {
    const bool own = std::ranges::none_of(labels, [](const Label& label) {
      return label.first == kOverflowLabel || label.second == kOther;
    });
    if (own) {
      EXPECT_LE(sum, sent[labels]);
    }
  }
  // But for what found no row left in the catalog.
  const auto nobody = fine.find(with({{kOverflowLabel, "true"}}));
  for (size_t host = 1; host <= 3 && nobody == fine.end(); ++host) {
    EXPECT_EQ(total_of(fine, "host", "h" + std::to_string(host)), by_host[host]);
  }
  EXPECT_EQ(total(fine), total(sent));
  EXPECT_EQ(total(coarse_sums()), total(sent));
  EXPECT_EQ(counter("weir_fold_imbalance_total"), 0U);
  RecordProperty("blocked", blocked);
}

INSTANTIATE_TEST_SUITE_P(Seeds, LimitsProperty, testing::Range<uint64_t>(1, 7));

}  // namespace
}  // namespace weir::aggregator::store_test
