// Two tiers with their real stores on disk: hosts send parts of minutes, every message is delivered
// twice and shuffled, late and in any grouping, on both hops. What global holds for the hour has
// the bytes of one value per series that was fed with everything.

#include <algorithm>
#include <random>
#include <vector>

#include "tests/aggregator/store/store_fixture.h"
#include "tests/fakes/outbox_rows.h"
#include "tests/fakes/samples.h"

namespace weir::aggregator::store_test {
namespace {

constexpr size_t kHosts = 3;
constexpr size_t kEvents = 3000;

class Delivery : public StoreTest, public testing::WithParamInterface<uint64_t> {};

// Cuts what the hosts saw into batches of random size; all of them together are the events once.
std::vector<AcceptedBatch> batches_of(std::mt19937_64& random,
                                      const std::vector<weir::Sample>& events) {
  struct Open {
    std::map<std::pair<size_t, size_t>, Value> values;  // by metric and service
    size_t events = 0;
  };

  std::map<std::pair<size_t, int64_t>, Open> open;  // by host and minute
  std::vector<uint64_t> seqs(kHosts, 0);
  std::vector<AcceptedBatch> out;
  const auto cut = [&](size_t host, int64_t minute, Open& window) {
    std::vector<Sample> rows;
    for (auto& [key, value] : window.values) {
      rows.push_back(
          {sample_metrics()[key.first],
           {{"host", "h" + std::to_string(host)}, {"service", "s" + std::to_string(key.second)}},
           std::move(value)});
    }
    out.push_back(batch_of(static_cast<uint8_t>(host + 1), ++seqs[host], {minute, 60}, rows));
    window = {};
  };
  for (const weir::Sample& event : events) {
    const int64_t minute = window_at(event.unix_s, 60).start_s;
    Open& window = open[{event.host, minute}];
    const Metric& metric = sample_metrics()[event.metric];
    put(event, window.values.try_emplace({event.metric, event.service}, empty_value(metric))
                   .first->second);
    if (++window.events > random() % 40) cut(event.host, minute, window);
  }
  for (auto& [key, window] : open) {
    if (window.events > 0) cut(key.first, key.second, window);
  }
  return out;
}

// Each message twice, in any order, folded now and then.
void deliver(std::mt19937_64& random, Store& store, const std::vector<AcceptedBatch>& once) {
  std::vector<AcceptedBatch> messages = meant_for(store, once);
  const std::vector<AcceptedBatch> again = messages;
  messages.insert(messages.end(), again.begin(), again.end());
  std::shuffle(messages.begin(), messages.end(), random);
  for (size_t from = 0; from < messages.size();) {
    const size_t count = std::min<size_t>(1 + random() % 64, messages.size() - from);
    ASSERT_TRUE(store.drain(std::span(messages).subspan(from, count)).ok());
    from += count;
    if (random() % 4 == 0) {
      ASSERT_TRUE(store.fold(INT64_MAX).ok());
    }
  }
  ASSERT_TRUE(store.fold(INT64_MAX).ok());
  EXPECT_EQ(store.counters().at("weir_fold_imbalance_total"), 0U);
  EXPECT_EQ(store.counters().at("weir_ledger_overlaps_total"), 0U);
}

std::vector<AcceptedBatch> sent_by(Store& store) {
  std::vector<AcceptedBatch> out;
  const auto pending = unassigned_rows(store.outbox());
  for (const OutboxEntry& entry : pending) {
    out.push_back(from_outbox(store.outbox().source(), entry));
  }
  return out;
}

TEST_P(Delivery, EveryMessageTwiceAndShuffledGivesTheSameBytesAtGlobal) {
  std::mt19937_64 random(GetParam());
  std::vector<weir::Sample> events;
  Direct expected;
  for (size_t i = 0; i < kEvents; ++i) {
    const weir::Sample event = random_sample(random, kHour, kHour + 3600);
    const Metric& metric = sample_metrics()[event.metric];
    Value one = empty_value(metric);
    put(event, one);
    expected.add(metric, {{"region", "eu-1"}, {"service", "s" + std::to_string(event.service)}},
                 {kHour, 3600}, one);
    events.push_back(event);
  }

  open(region_tier());
  deliver(random, *store_, batches_of(random, events));
  const TempDir global_dir;
  auto global = Store::open(global_dir.file("weir.db"), global_tier(), {}, kHour);
  ASSERT_TRUE(global.ok()) << global.error().message;
  deliver(random, **global, sent_by(*store_));

  auto reader = Reader::open(global_dir.file("weir.db"), global_tier(), clock_);
  ASSERT_TRUE(reader.ok());
  SelectRequest by_hour = ask();
  by_hour.needs_all_labels = false;
  by_hour.label_use = LabelUse::kOnly;
  const auto answer = (*reader)->select(by_hour, {});
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(books_of(*answer), expected.books());
}

INSTANTIATE_TEST_SUITE_P(Seeds, Delivery, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace weir::aggregator::store_test
