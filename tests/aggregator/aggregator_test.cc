// Region and global, whole, in one process on real loopback sockets; the edge is an Outbox and a
// Uplink. Nothing here waits for a time: loops turn until the books are settled.

#include "aggregator/aggregator.h"

#include <optional>

#include <gtest/gtest.h>

#include "aggregator/store/reader.h"
#include "common/outbox.h"
#include "common/transport.h"
#include "common/uplink.h"
#include "tests/fakes/batches.h"
#include "tests/fakes/temp_dir.h"

namespace weir::aggregator {
namespace {

using namespace std::chrono_literals;

Config config_of(const std::string& kind, const TempDir& dir, const std::string& upstream) {
  Config c;
  c.tier.kind = kind;
  c.tier.name = kind;
  c.tier.in_s = kind == "region" ? 60 : 300;
  c.tier.out_s = kind == "region" ? 300 : 3600;
  c.tier.drop_labels = {"host"};
  c.tier.upstream = upstream;
  c.tier.flush_every = 100ms;
  c.listen = "tcp://127.0.0.1:*";
  c.http = "127.0.0.1:0";
  c.data_dir = dir.file(kind);
  return c;
}

class AggregatorTest : public testing::Test {
 protected:
  AggregatorTest() : loop_(*Loop::create()) {}

  std::unique_ptr<Aggregator> start(const Config& config) {
    auto started = Aggregator::start(config, clock_, *loop_);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return started.ok() ? *std::move(started) : nullptr;
  }

  // Turns the loop until `done`, at most about a minute.
  bool turn_until(const std::function<bool()>& done) {
    for (int i = 0; i < 6000 && !done(); ++i) loop_->turn(10ms);
    return done();
  }

  uint64_t total_of(const Config& config) {
    auto reader = Reader::open(config.data_dir + "/weir.db", config.tier, clock_);
    EXPECT_TRUE(reader.ok()) << reader.error().message;
    SelectRequest request;
    request.metric = "requests_total";
    const int64_t now = unix_seconds(clock_.now());
    request.range = {now - 7200, now + 7200};
    const auto selection = (*reader)->select(request, {});
    EXPECT_TRUE(selection.ok());
    uint64_t sum = 0;
    for (const auto& series : selection->series) {
      for (const auto& w : series.windows) sum += std::get<Counter>(w.value).delta;
    }
    return sum;
  }

  TempDir dir_;
  SystemClock clock_;
  std::unique_ptr<Loop> loop_;
};

TEST_F(AggregatorTest, EdgeIsReleasedWhenGlobalHoldsWhatTheRegionMerged) {
  const Config global_config = config_of("global", dir_, "");
  auto global = start(global_config);
  ASSERT_TRUE(global);
  const Config region_config = config_of("region", dir_, global->endpoint());
  auto region = start(region_config);
  ASSERT_TRUE(region);

  Database db = *Database::open(dir_.file("edge.db"));
  Outbox outbox = *Outbox::open(db, {});
  TransportContext transport;
  auto link = *connect_link(transport, *loop_, region->endpoint());
  UplinkOptions options;
  options.session.name = "edge-1";
  options.session.tier = "edge";
  Uplink uplink(outbox, std::move(options));
  uplink.add(region->endpoint(), *link);
  link->on_receive([&](ByteView header, ByteView body) {
    EXPECT_TRUE(uplink.on_message(0, clock_.mono(), clock_.now(), header, body).ok());
  });
  loop_->every(20ms, [&] { EXPECT_TRUE(uplink.tick(clock_.mono(), clock_.now()).ok()); });

  const Window window = window_at(unix_seconds(clock_.now()) - 60, 60);
  uint64_t pushed = 0;
  for (uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(outbox.append(window, counter_batch(window, i)).ok());
    pushed += i;
  }
  ASSERT_TRUE(turn_until([&] { return outbox.stats()->rows == 0; }));
  EXPECT_EQ(total_of(region_config), pushed);
  EXPECT_EQ(total_of(global_config), pushed);
  EXPECT_EQ(outbox.stats()->acked_mass(), pushed);
  ASSERT_TRUE(turn_until([&] { return region->status().outbox.rows == 0; }));
  // Each tier publishes its status in its own time.
  ASSERT_TRUE(turn_until([&] { return global->status().sources.size() == 1; }));
  ASSERT_TRUE(turn_until([&] { return region->status().sources.size() == 1; }));
  EXPECT_EQ(region->status().counters.at("weir_fold_imbalance_total"), 0U);
  EXPECT_EQ(region->status().sources.at(0).report.name, "edge-1");
}

TEST_F(AggregatorTest, OneDataDirBelongsToOneProcess) {
  const Config config = config_of("global", dir_, "");
  auto first = start(config);
  ASSERT_TRUE(first);
  const auto second = Aggregator::start(config, clock_, *loop_);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("in use"), std::string::npos);
  first.reset();
  EXPECT_TRUE(start(config));
}

TEST_F(AggregatorTest, StopsWhileTheNextTierIsAway) {
  auto region = start(config_of("region", dir_, "tcp://127.0.0.1:9"));
  ASSERT_TRUE(region);
  loop_->after(300ms, [&] { region->stop(); });
  EXPECT_TRUE(region->run().ok());
  EXPECT_TRUE(region->status().has_upstream);
  EXPECT_FALSE(region->status().upstream.connected);
}

TEST_F(AggregatorTest, DataDirThatCannotBeMadeIsAnError) {
  Config config = config_of("global", dir_, "");
  config.data_dir = "/proc/no/such";
  const auto started = Aggregator::start(config, clock_, *loop_);
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find("/proc/no/such"), std::string::npos);
}

}  // namespace
}  // namespace weir::aggregator
