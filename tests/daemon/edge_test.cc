#include "daemon/edge.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <optional>

#include <gtest/gtest.h>

#include "common/own_metrics.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_link.h"
#include "tests/fakes/file_size_limit.h"
#include "tests/fakes/outbox_rows.h"
#include "tests/fakes/recorded.h"
#include "tests/fakes/temp_dir.h"

namespace weir::daemon {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kUnits = R"(fake_units_total)";

// What a test lets a FakeSource do, and what the edge did to it.
struct Script {
  std::function<void(Recorder&, UnixTime)> on_drain;
  SourceStatus status{
      .name = "fake", .state = SourceState::kRunning, .reason = "", .fix = "", .counters = {}};
  uint64_t position = 0;
  bool wants_commit = false;
  std::optional<uint64_t> started_from;
  std::vector<uint64_t> committed;
  int final_drains = 0;
  bool stopped = false;
};

class FakeSource final : public Source {
 public:
  explicit FakeSource(Script& script) : script_(script) {}

  void start(SourceContext context) override {
    recorder_ = &context.recorder;
    script_.started_from = context.committed;
  }

  void drain(UnixTime now, Drain drain) override {
    if (drain == Drain::kFinal) ++script_.final_drains;
    if (script_.on_drain) script_.on_drain(*recorder_, now);
  }

  void stop() override { script_.stopped = true; }

  [[nodiscard]] SourceStatus status() const override { return script_.status; }

  [[nodiscard]] uint64_t journal_position() const override { return script_.position; }

  void committed(uint64_t position) override {
    script_.committed.push_back(position);
    script_.wants_commit = false;
  }

  [[nodiscard]] bool wants_commit() const override { return script_.wants_commit; }

 private:
  Script& script_;
  Recorder* recorder_ = nullptr;
};

class EdgeTest : public testing::Test {
 protected:
  void open(EdgeOptions options) {
    edge_.reset();
    budget_.reset();
    db_.reset();
    options.host = "edge-1";
    auto db = Database::open(dir_.file("outbox.db"), {.busy_timeout_ms = 0});
    ASSERT_TRUE(db.ok()) << db.error().message;
    db_.emplace(*std::move(db));
    ASSERT_TRUE(Edge::open_tables(*db_, options));
    if (disk_free_) {
      auto budget = DiskBudget::open(*db_, dir_.file("outbox.db"), budget_options());
      ASSERT_TRUE(budget.ok()) << budget.error().message;
      budget_ = *std::move(budget);
    }
    auto edge = Edge::create(options, {*db_,
                                       *loop_,
                                       worker_,
                                       clock_,
                                       {{"inproc://fake", wire_.link()}},
                                       budget_ ? &*budget_ : nullptr});
    ASSERT_TRUE(edge.ok()) << edge.error().message;
    edge_ = *std::move(edge);
    edge_->add(std::make_unique<FakeSource>(script_));
    ASSERT_TRUE(edge_->start());
  }

  DiskBudgetOptions budget_options() {
    return {.step_bytes = uint64_t{1} << 20,
            .reserve_bytes = uint64_t{1} << 20,
            .space = [this](const std::string&) {
              return Result<DiskSpace>(DiskSpace{uint64_t{64} << 20, *disk_free_});
            }};
  }

  // Why the disk is in trouble; empty: it is not.
  std::string disk_trouble() {
    for (const auto& collector : edge_->report().collectors) {
      if (collector.name == "disk") return collector.reason;
    }
    return {};
  }

  // `n` units each drain, as a source that counts would.
  void count_each_drain(uint64_t n) {
    script_.on_drain = [n](Recorder& recorder, UnixTime now) {
      const auto series = recorder.series({kUnits, Kind::kCounter, "", 0}, {});
      recorder.count(*series, now, n);
    };
  }

  void run_for(milliseconds time) {
    for (milliseconds done{0}; done < time; done += milliseconds(100)) {
      clock_.advance(milliseconds(100));
      ASSERT_TRUE(edge_->tick());
    }
  }

  // What waits in the outbox: the sum of each counter, by "name{labels}"; and its batches.
  std::map<std::string, uint64_t> stored() {
    std::map<std::string, uint64_t> sums;
    batches_.clear();
    auto outbox = Outbox::open(*db_, {});
    for (const auto& entry : unassigned_rows(*outbox)) {
      if (entry.kind == RowKind::kTombstone) continue;
      const auto batch = decode_batch(entry.body);
      WEIR_CHECK(batch.ok());
      for (const auto& row : batch->rows) {
        std::string name = batch->metrics[row.metric].name;
        for (const auto& [label, value] : row.labels) name += "," + label + "=" + value;
        if (const auto* counter = std::get_if<Counter>(&row.value)) sums[name] += counter->delta;
        if (const auto* gauge = std::get_if<Gauge>(&row.value)) {
          sums[name] = static_cast<uint64_t>(gauge->last.value);
        }
      }
      batches_.push_back(entry.window);
    }
    return sums;
  }

  // How often each window was marked as complete, by its start.
  std::map<int64_t, uint64_t> marks() {
    std::map<int64_t, uint64_t> out;
    auto outbox = Outbox::open(*db_, {});
    for (const auto& entry : unassigned_rows(*outbox)) {
      if (entry.kind == RowKind::kTombstone) continue;
      const auto batch = decode_batch(entry.body);
      WEIR_CHECK(batch.ok());
      for (const auto& row : batch->rows) {
        if (batch->metrics[row.metric].name != kSourceWindows) continue;
        EXPECT_EQ(row.labels, (Labels{{"host", "edge-1"}}));
        out[entry.window.start_s] += std::get<Counter>(row.value).delta;
      }
    }
    return out;
  }

  // As after a kill -9.
  void restart(const EdgeOptions& options) { open(options); }

  uint64_t units() { return stored()[std::string(kUnits) + ",host=edge-1"]; }

  TempDir dir_;
  FakeClock clock_;
  FakeWire wire_;
  Worker worker_{"test"};
  std::unique_ptr<Loop> loop_ = *Loop::create();
  Script script_;
  std::optional<uint64_t> disk_free_;  // set: with a budget
  std::optional<Database> db_;
  std::optional<DiskBudget> budget_;
  std::unique_ptr<Edge> edge_;
  std::vector<Window> batches_;
};

TEST_F(EdgeTest, WhatSourcesMeasuredIsInTheOutboxWithTheHostsLabels) {
  count_each_drain(1);
  open({.labels = {{"env", "prod"}}, .flush_every = seconds(10)});
  run_for(seconds(11));
  const auto sums = stored();
  EXPECT_TRUE(sums.contains("fake_units_total,env=prod,host=edge-1"));
  EXPECT_EQ(sums.at("weir_source_up,env=prod,host=edge-1,source=fake"), 1u);
}

TEST_F(EdgeTest, SeriesOwnLabelWinsOverAConfiguredOneOfThatName) {
  script_.on_drain = [](Recorder& recorder, UnixTime now) {
    const std::array<LabelView, 2> own{LabelView{"env", "test"}, LabelView{"kind", "a"}};
    const Metric units{kUnits, Kind::kCounter, "", 0};
    recorder.count(*recorder.series(units, own), now, 2);
    recorder.count(*recorder.series(units, {}), now, 3);
  };
  open({.labels = {{"env", "prod"}, {"team", "core"}}, .flush_every = seconds(10)});
  EXPECT_TRUE(edge_->stop());
  const auto sums = stored();  // decodes every batch: a receiver refuses what it cannot
  EXPECT_EQ(sums.at("fake_units_total,env=test,host=edge-1,kind=a,team=core"), 2u);
  EXPECT_EQ(sums.at("fake_units_total,env=prod,host=edge-1,team=core"), 3u);
}

TEST_F(EdgeTest, PartialFlushesOfAWindowAddUpToWhatWasMeasured) {
  uint64_t measured = 0;
  script_.on_drain = [&measured](Recorder& recorder, UnixTime now) {
    const auto series = recorder.series({kUnits, Kind::kCounter, "", 0}, {});
    recorder.count(*series, now, ++measured);
  };
  open({.flush_every = milliseconds(500)});
  run_for(seconds(20));
  EXPECT_TRUE(edge_->stop());
  EXPECT_GT(measured, 20u);
  EXPECT_EQ(units(), measured * (measured + 1) / 2);
  EXPECT_GT(batches_.size(), 10u);
}

TEST_F(EdgeTest, WithoutFlushEveryAWindowLeavesTwoSecondsAfterItsEnd) {
  clock_.set_unix(1'700'000'050);  // ten seconds into a minute
  count_each_drain(1);
  open({.flush_every = milliseconds(0)});
  run_for(milliseconds(51'900));
  EXPECT_EQ(units(), 0u);
  run_for(milliseconds(100));
  EXPECT_GE(units(), 50u);
  ASSERT_EQ(batches_.size(), 2u);  // the ended window, and the two seconds of the next
  EXPECT_EQ(batches_[0], (Window{1'700'000'040, 60}));
}

TEST_F(EdgeTest, ClockSetBackDoesNotHoldDataBackForLong) {
  count_each_drain(1);
  open({.flush_every = milliseconds(0), .limits = {.window_s = 10}});
  clock_.set_unix(unix_seconds(clock_.now()) - 3600);
  run_for(seconds(15));
  EXPECT_GT(units(), 0u);
}

TEST_F(EdgeTest, JournalPositionsAreCommittedWithTheDataAndGivenBackAtTheNextStart) {
  script_.position = 5;
  open({.flush_every = seconds(1)});
  EXPECT_EQ(script_.started_from, std::nullopt);
  script_.position = 9;
  run_for(milliseconds(1100));
  EXPECT_EQ(script_.committed, (std::vector<uint64_t>{9}));
  script_.position = 12;  // and the process dies
  open({.flush_every = seconds(1)});
  EXPECT_EQ(script_.started_from, 9u);
  open({.flush_every = seconds(1)});  // it dies again before its first flush
  EXPECT_EQ(script_.started_from, 9u);
}

TEST_F(EdgeTest, FirstStartCommitsItsPositionBeforeAnythingIsMeasured) {
  script_.position = 5;
  open({.flush_every = seconds(10)});
  script_.position = 8;
  open({.flush_every = seconds(10)});
  EXPECT_EQ(script_.started_from, 5u);
}

TEST_F(EdgeTest, SourceWithAFullJournalIsCommittedAtTheNextTick) {
  open({.flush_every = seconds(60)});
  script_.wants_commit = true;
  run_for(milliseconds(100));
  EXPECT_EQ(script_.committed.size(), 1u);
}

TEST_F(EdgeTest, WhatCannotBeStoredIsKeptAndStoredOnce) {
  count_each_drain(1);
  open({.flush_every = seconds(1)});
  auto other = Database::open(dir_.file("outbox.db"), {.busy_timeout_ms = 0});
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(other->exec("BEGIN IMMEDIATE"));
  run_for(seconds(3));
  EXPECT_TRUE(script_.committed.empty());
  ASSERT_TRUE(other->exec("ROLLBACK"));
  script_.on_drain = nullptr;
  run_for(seconds(2));
  EXPECT_GE(script_.committed.size(), 1u);
  const uint64_t once = units();
  EXPECT_GT(once, 0u);
  run_for(seconds(3));
  EXPECT_EQ(units(), once);
}

TEST_F(EdgeTest, FlushTheDiskFailedIsNotTriedAgain) {
  script_.position = 3;
  open({.flush_every = seconds(1)});
  count_each_drain(1);
  run_for(seconds(3));
  const uint64_t before = units();
  const auto committed = script_.committed;
  Status failed;
  {
    const FileSizeLimit limit(0);
    clock_.advance(seconds(1));
    failed = edge_->tick();
  }
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Errc::kIo);
  const auto stopped = edge_->stop();  // the disk is well again, but what it holds is not known
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().message, failed.error().message);
  EXPECT_TRUE(script_.stopped);
  EXPECT_EQ(script_.committed, committed);
  EXPECT_EQ(script_.final_drains, 0);
  script_.on_drain = nullptr;
  open({.flush_every = seconds(1)});
  EXPECT_EQ(script_.started_from, 3u);
  EXPECT_EQ(units(), before);
}

// SQLite ends the transaction when the disk fills up in the middle of it.
TEST_F(EdgeTest, DiskThatFillsUpDuringAFlushLosesAndRepeatsNothing) {
  uint64_t measured = 0;
  script_.on_drain = [&measured](Recorder& recorder, UnixTime now) {
    for (int window = 0; window < 5; ++window) {
      for (int i = 0; i < 400; ++i) {
        const std::string name = "tag" + std::to_string(i);
        const LabelView label{"name", name};
        const auto series = recorder.series({kUnits, Kind::kCounter, "", 0}, {&label, 1});
        recorder.count(*series, now - seconds(60 * window), 1);
        ++measured;
      }
    }
  };
  open({.flush_every = seconds(1)});
  const auto set_pages = [this](int64_t pages) {
    ASSERT_TRUE(db_->exec("PRAGMA max_page_count=" + std::to_string(pages)));
  };
  set_pages(1);  // as many as it has now
  run_for(seconds(4));
  EXPECT_GT(measured, 0u);
  EXPECT_TRUE(script_.committed.empty());
  EXPECT_TRUE(stored().empty());
  set_pages(int64_t{1} << 30);
  EXPECT_TRUE(edge_->stop());
  uint64_t kept = 0;
  for (const auto& [name, value] : stored()) kept += name.starts_with(kUnits) ? value : 0;
  EXPECT_EQ(kept, measured);
}

TEST_F(EdgeTest, AFullOutboxTurnsItsOldestIntoTombstonesThatAddUp) {
  uint64_t measured = 0;
  script_.on_drain = [&measured](Recorder& recorder, UnixTime now) {
    for (int i = 0; i < 100; ++i) {
      const std::string name = "tag" + std::to_string(i);
      const LabelView label{"name", name};
      const auto series = recorder.series({kUnits, Kind::kCounter, "", 0}, {&label, 1});
      recorder.count(*series, now, 1);
      ++measured;
    }
  };
  open({.flush_every = seconds(1), .outbox_bytes = 20'000});
  run_for(seconds(30));
  EXPECT_TRUE(edge_->stop());
  uint64_t kept = 0;
  for (const auto& [name, value] : stored()) kept += name.starts_with(kUnits) ? value : 0;
  EXPECT_LT(kept, measured);
  auto outbox = Outbox::open(*db_, {});
  const auto losses = *outbox->losses();
  ASSERT_TRUE(losses.contains("outbox_bytes"));
  EXPECT_GE(kept + losses.at("outbox_bytes").mass, measured);  // Weir's own samples are dropped too
  const auto stats = *outbox->stats();
  EXPECT_EQ(stats.tombstones, losses.at("outbox_bytes").rows);  // which travel instead
  EXPECT_EQ(stats.pushed_mass, stats.outbox_mass);
  EXPECT_FALSE(script_.committed.empty());  // a full outbox does not stop the journal
}

TEST_F(EdgeTest, OnAFullDiskTheOldestMakesRoomAndTheReportSaysSo) {
  uint64_t measured = 0;
  script_.on_drain = [&measured](Recorder& recorder, UnixTime now) {
    for (int i = 0; i < 400; ++i) {
      const std::string name = std::string(100, 'a') + std::to_string(i);
      const LabelView label{"name", name};
      const auto series = recorder.series({kUnits, Kind::kCounter, "", 0}, {&label, 1});
      recorder.count(*series, now, 1);
      ++measured;
    }
  };
  disk_free_ = uint64_t{48} << 20;
  open({.flush_every = seconds(1)});
  run_for(seconds(3));
  EXPECT_EQ(disk_trouble(), "");
  disk_free_ = 0;
  for (int i = 0; i < 200 && disk_trouble().empty(); ++i) run_for(seconds(1));
  EXPECT_NE(disk_trouble().find("no room on the disk"), std::string::npos);
  run_for(seconds(5));
  disk_free_ = uint64_t{48} << 20;
  EXPECT_TRUE(edge_->stop());
  EXPECT_EQ(disk_trouble(), "");
  uint64_t kept = 0;
  for (const auto& [name, value] : stored()) kept += name.starts_with(kUnits) ? value : 0;
  EXPECT_LT(kept, measured);
  auto outbox = Outbox::open(*db_, {});
  const auto losses = *outbox->losses();
  ASSERT_TRUE(losses.contains("disk_full"));
  EXPECT_GE(kept + losses.at("disk_full").mass, measured);  // Weir's own samples are dropped too
  const auto stats = *outbox->stats();
  EXPECT_EQ(stats.tombstones, losses.at("disk_full").rows);
  EXPECT_EQ(stats.pushed_mass, stats.outbox_mass);
}

TEST_F(EdgeTest, WhatWaitedTooLongBecomesTombstonesThatSayWhoseTheyAre) {
  count_each_drain(1);
  open({.labels = {{"zone", "z"}}, .flush_every = seconds(1), .outbox_age = seconds(300)});
  run_for(seconds(3));
  script_.on_drain = {};
  run_for(seconds(400));
  auto outbox = Outbox::open(*db_, {});
  EXPECT_GT(outbox->losses()->at("outbox_age").rows, 0U);
  wire_.connect();
  std::vector<Tombstone> seen;
  wire_.door().on_receive(
      [&](const PeerId& peer, const std::optional<Identity>&, ByteView header, ByteView body) {
        const auto type = decode_header(header)->type;
        if (type == FrameType::kTombstone)
          seen.push_back(std::get<Tombstone>(*decode_control(body)));
        if (type != FrameType::kHello) return;
        Welcome welcome;
        welcome.credit_bytes = 1 << 20;
        welcome.tier_epoch = 1;
        const Bytes answer = encode_control(welcome);
        FrameHeader down;
        down.type = FrameType::kWelcome;
        down.source = decode_header(header)->source;
        EXPECT_TRUE(wire_.door().send(peer, encode_header_for(down, answer), answer));
      });
  for (int i = 0; i < 30; ++i) {
    run_for(milliseconds(100));
    wire_.deliver();
  }
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen[0].reason, "outbox_age");
  EXPECT_EQ(seen[0].labels, (Labels{{"host", "edge-1"}, {"zone", "z"}}));
}

TEST_F(EdgeTest, AClockThatIsSetMakesNothingOld) {
  count_each_drain(1);
  open({.flush_every = seconds(1), .outbox_age = seconds(300)});
  run_for(seconds(3));
  for (const int64_t step_s : {30 * 86400, -60 * 86400}) {
    clock_.set_unix(unix_seconds(clock_.now()) + step_s);
    run_for(seconds(20));
  }
  auto outbox = Outbox::open(*db_, {});
  EXPECT_FALSE(outbox->losses()->contains("outbox_age"));
  EXPECT_EQ(outbox->stats()->tombstones, 0U);
}

// That it takes no time then is tests/chaos' to measure (--kind failover).
TEST_F(EdgeTest, AfterAStopTheOutboxHoldsWhatNoUpstreamTook) {
  count_each_drain(1);
  open({.flush_every = seconds(1)});
  run_for(seconds(5));
  EXPECT_TRUE(edge_->stop());
  EXPECT_EQ(wire_.waiting(), 0U);
  EXPECT_GT(edge_->outbox_stats()->outbox_mass, 0U);
}

TEST_F(EdgeTest, OwnCountersTravelAsDeltasWithTheirLabels) {
  open({.flush_every = seconds(1)});
  script_.status.counters = {{R"(weir_dropped_total{where="fake",reason="bad"})", 7},
                             {"weir_fake_total", 3}};
  run_for(milliseconds(1100));
  script_.status.counters[0].second = 12;
  run_for(seconds(3));
  const auto sums = stored();
  EXPECT_EQ(sums.at("weir_dropped_total,host=edge-1,reason=bad,where=fake"), 12u);
  EXPECT_EQ(sums.at("weir_fake_total,host=edge-1"), 3u);
}

TEST_F(EdgeTest, UnavailableSourceIsReportedWithReasonAndFix) {
  script_.status.state = SourceState::kUnavailable;
  script_.status.reason = "missing CAP_BPF";
  script_.status.fix = "grant CAP_BPF";
  open({.flush_every = seconds(1)});
  run_for(seconds(2));
  ASSERT_EQ(edge_->report().collectors.size(), 1u);
  EXPECT_EQ(edge_->report().collectors[0].reason, "missing CAP_BPF");
  EXPECT_EQ(edge_->report().collectors[0].fix, "grant CAP_BPF");
  EXPECT_EQ(stored().at("weir_source_up,host=edge-1,source=fake"), 0u);
}

TEST_F(EdgeTest, StopReadsTheLastOfEverySourceIntoTheOutbox) {
  open({.flush_every = seconds(60)});
  count_each_drain(41);
  EXPECT_TRUE(edge_->stop());
  EXPECT_EQ(script_.final_drains, 1);
  EXPECT_TRUE(script_.stopped);
  EXPECT_EQ(units(), 41u);
}

TEST_F(EdgeTest, PushedMassIsDurableAndReported) {
  count_each_drain(10);
  open({.flush_every = seconds(1)});
  run_for(seconds(5));
  const auto stats = edge_->outbox_stats();
  ASSERT_TRUE(stats.ok());
  uint64_t mass = 0;
  for (const auto& [name, value] : stored()) mass += name.starts_with("weir_source_up") ? 0 : value;
  EXPECT_GE(stats->pushed_mass, mass);  // a gauge counts one per sample
  EXPECT_EQ(stats->pushed_mass, stats->outbox_mass);
}

TEST_F(EdgeTest, WhatUpstreamSaysWrongIsCountedInTheReport) {
  open({.flush_every = seconds(1)});
  wire_.connect();
  const Bytes junk(64, std::byte{1});
  ASSERT_TRUE(wire_.door().send("peer-1", junk, junk));
  wire_.deliver();
  run_for(seconds(1));
  const auto& counters = edge_->report().counters;
  EXPECT_NE(std::ranges::find(
                counters, std::pair<std::string, uint64_t>("weir_upstream_bad_messages_total", 1)),
            counters.end());
}

TEST_F(EdgeTest, UpstreamIsGreetedOnceThereIsOne) {
  open({.flush_every = seconds(1)});
  run_for(seconds(1));
  EXPECT_EQ(wire_.waiting(), 0u);
  wire_.connect();
  run_for(seconds(2));
  EXPECT_GT(wire_.waiting(), 0u);
}

using Marks = std::map<int64_t, uint64_t>;

TEST_F(EdgeTest, IdleHostMarksEveryWindowOnceWhenItHasEnded) {
  clock_.set_unix(1'700'000'050);  // ten seconds into a minute
  open({.labels = {{"env", "prod"}}, .flush_every = seconds(1)});
  run_for(seconds(50));
  EXPECT_EQ(marks(), Marks{});  // late samples are waited for
  run_for(seconds(3));
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}}));
  run_for(seconds(120));
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}, {1'700'000'100, 1}, {1'700'000'160, 1}}));
}

TEST_F(EdgeTest, RestartWithinAWindowMarksItOnceAndDowntimeOverAWindowsEndLeavesItOut) {
  const EdgeOptions options{.flush_every = seconds(1), .limits = {.window_s = 10}};
  open(options);
  run_for(seconds(14));  // [040, 050) is marked
  restart(options);
  run_for(seconds(12));  // [050, 060) by the second life
  restart(options);
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}, {1'700'000'050, 1}}));
  clock_.advance(seconds(8));  // down from 066 to 074
  restart(options);
  run_for(seconds(10));
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}, {1'700'000'050, 1}, {1'700'000'070, 1}}));
}

TEST_F(EdgeTest, StopMarksTheWindowThatHasJustEnded) {
  open({.flush_every = seconds(60), .limits = {.window_s = 10}});
  run_for(milliseconds(10'500));
  EXPECT_TRUE(edge_->stop());
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}}));
}

TEST_F(EdgeTest, ClockSetBackMarksNothingTwice) {
  const EdgeOptions options{.flush_every = seconds(1), .limits = {.window_s = 10}};
  open(options);
  run_for(seconds(33));
  const auto before = marks();
  EXPECT_EQ(before.size(), 3U);
  clock_.set_unix(1'700'000'045);
  run_for(seconds(15));
  EXPECT_EQ(marks(), before);
  restart(options);
  run_for(seconds(22));
  EXPECT_EQ(
      marks(),
      (Marks{{1'700'000'040, 1}, {1'700'000'050, 1}, {1'700'000'060, 1}, {1'700'000'070, 1}}));
}

TEST_F(EdgeTest, WindowsAClockJumpedOverAreNotCalledComplete) {
  open({.flush_every = seconds(1), .limits = {.window_s = 10}});
  run_for(seconds(5));
  clock_.set_unix(1'700'000'105);
  run_for(seconds(10));
  EXPECT_EQ(marks(), (Marks{{1'700'000'100, 1}}));
}

TEST_F(EdgeTest, MarkIsAsDurableAsItsWindow) {
  const EdgeOptions options{.flush_every = seconds(1), .limits = {.window_s = 10}};
  open(options);
  auto other = Database::open(dir_.file("outbox.db"), {.busy_timeout_ms = 0});
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE(other->exec("BEGIN IMMEDIATE"));
  run_for(seconds(13));
  ASSERT_TRUE(other->exec("ROLLBACK"));
  EXPECT_EQ(marks(), Marks{});
  run_for(seconds(2));
  EXPECT_EQ(marks(), (Marks{{1'700'000'040, 1}}));
}

}  // namespace
}  // namespace weir::daemon
