// The whole path of the algebra without its transport: edges record, cut parts and encode; a region
// folds decoded batches without host into wider windows and encodes again; global folds to the
// hour. Whatever the order, grouping, parts, duplicates and lateness, every sketch at global has
// the bytes of one sketch fed with everything.

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "common/batch.h"
#include "common/rollup.h"
#include "common/series.h"
#include "tests/fakes/samples.h"

namespace weir {

namespace {

constexpr int64_t kHour = 1'700'002'800;

struct Delivery {
  uint64_t source = 0;
  uint64_t seq = 0;
  Bytes body;
};

// A series without host in its hour: what global must hold.
struct Key {
  int64_t hour_s;
  size_t metric;
  std::string service;
  friend auto operator<=>(const Key&, const Key&) = default;
};

class Tier {
 public:
  Tier(uint32_t width_s, std::string drops) : rollup_(width_s), drops_(std::move(drops)) {}

  // Folds one delivery; a repeated (source, seq) is dropped by its key alone.
  void receive(const Delivery& delivery) {
    if (!seen_.insert({delivery.source, delivery.seq}).second) return;
    const auto batch = decode_batch(delivery.body);
    ASSERT_TRUE(batch.ok()) << batch.error().message;
    for (const DecodedRow& row : batch->rows) {
      const auto metric = table_.metric(batch->metrics[row.metric]);
      ASSERT_TRUE(metric.ok());
      Labels labels = row.labels;
      std::erase_if(labels, [&](const Label& label) { return label.first == drops_; });
      const auto series = table_.intern(*metric, labels);
      ASSERT_TRUE(series.ok());
      ASSERT_TRUE(rollup_.merge(*series, batch->window.start_s, row.value).ok());
    }
    mass_in_ += batch->mass;
  }

  // Sends one window's content up, as one more part.
  void send(int64_t start, uint64_t source, const Labels& common, std::vector<Delivery>& out,
            size_t target) {
    const auto deltas = rollup_.take(start);
    std::vector<BatchRow> rows;
    std::deque<Labels> labels;
    for (const Delta& delta : deltas) {
      labels.push_back(table_.labels_of(delta.series));
      rows.push_back({&table_.metric_of(delta.series), &labels.back(), &delta.value});
    }
    const BatchHead head{
        .window = {start, rollup_.width_s()}, .common_labels = common, .manifest = {}};
    for (EncodedBatch& batch : encode_batches(head, rows, target)) {
      mass_out_ += batch.mass;
      out.push_back({source, ++next_seq_, std::move(batch.body)});
    }
  }

  Rollup& rollup() { return rollup_; }

  SeriesTable& table() { return table_; }

  [[nodiscard]] uint64_t mass_in() const { return mass_in_; }

  [[nodiscard]] uint64_t mass_out() const { return mass_out_; }

 private:
  SeriesTable table_;
  Rollup rollup_;
  std::string drops_;
  std::set<std::pair<uint64_t, uint64_t>> seen_;
  uint64_t next_seq_ = 0;
  uint64_t mass_in_ = 0;
  uint64_t mass_out_ = 0;
};

size_t metric_index(const Metric& metric) {
  const auto& all = sample_metrics();
  return static_cast<size_t>(std::find(all.begin(), all.end(), metric) - all.begin());
}

void run(uint64_t seed) {
  std::mt19937_64 random(seed);
  constexpr size_t kTargets[] = {1, 5000, kBatchTargetBytes};  // 1: every row and stack alone
  const auto target = [&] { return kTargets[random() % 3]; };
  std::map<Key, Value> truth;
  std::deque<Tier> edges;
  for (int host = 0; host < 3; ++host) edges.emplace_back(60, "");
  Tier region(300, "host");
  Tier global(3600, "");
  std::vector<Delivery> to_region;
  std::vector<Delivery> to_global;

  const auto send_edge = [&](size_t host, int64_t start) {
    const Labels common{{"host", "edge-" + std::to_string(host)}};
    edges[host].send(start, host, common, to_region, target());
  };
  const auto deliver = [&](std::vector<Delivery>& queue, Tier& to, bool all) {
    std::shuffle(queue.begin(), queue.end(), random);
    const size_t count = all ? queue.size() : random() % (queue.size() + 1);
    for (size_t i = 0; i < count; ++i) {
      to.receive(queue[i]);
      if (random() % 4 == 0) to.receive(queue[random() % (i + 1)]);  // a duplicate
    }
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(count));
  };
  const auto send_region = [&] {
    for (const int64_t start : region.rollup().open_windows()) {
      region.send(start, 100, {{"region", "eu"}}, to_global, target());
    }
  };

  // Times are uniform over 20 minutes around a full hour, so most come late to windows already cut.
  for (int i = 0; i < 300; ++i) {
    const Sample sample = random_sample(random, kHour - 600, kHour + 600);
    const Metric& metric = sample_metrics()[sample.metric];
    const std::string service = "s" + std::to_string(sample.service);
    Tier& edge = edges[sample.host];
    const LabelView labels[] = {{"service", service}};
    const SeriesId series = *edge.table().intern(*edge.table().metric(metric), labels);
    put(sample, edge.rollup().at(series, metric, sample.unix_s));
    const Key key{window_at(sample.unix_s, 3600).start_s, sample.metric, service};
    put(sample, truth.try_emplace(key, empty_value(metric)).first->second);
    if (random() % 20 == 0) {
      const auto windows = edge.rollup().open_windows();
      send_edge(sample.host, windows[random() % windows.size()]);
    }
    if (random() % 50 == 0) deliver(to_region, region, false);
    if (random() % 80 == 0) send_region();
    if (random() % 80 == 0) deliver(to_global, global, false);
  }
  for (size_t host = 0; host < edges.size(); ++host) {
    for (const int64_t start : edges[host].rollup().open_windows()) send_edge(host, start);
  }
  deliver(to_region, region, true);
  send_region();
  deliver(to_global, global, true);

  EXPECT_EQ(region.mass_in(), edges[0].mass_out() + edges[1].mass_out() + edges[2].mass_out());
  EXPECT_EQ(region.mass_out(), region.mass_in());
  EXPECT_EQ(global.mass_in(), region.mass_out());
  ASSERT_EQ(global.rollup().open_windows(), (std::vector<int64_t>{kHour - 3600, kHour}));
  size_t compared = 0;
  for (const int64_t hour : global.rollup().open_windows()) {
    for (const Delta& delta : global.rollup().take(hour)) {
      const Metric& metric = global.table().metric_of(delta.series);
      const Labels& labels = global.table().labels_of(delta.series);
      ASSERT_EQ(labels.size(), 2U);  // region and service; host is gone
      ASSERT_EQ(labels[0], Label("region", "eu"));
      const auto whole = truth.find({hour, metric_index(metric), labels[1].second});
      ASSERT_NE(whole, truth.end());
      ASSERT_EQ(bytes_of(metric, delta.value), bytes_of(metric, whole->second)) << "seed " << seed;
      ++compared;
    }
  }
  EXPECT_EQ(compared, truth.size());
}

}  // namespace

TEST(MergePath, BytesAtGlobalEqualOneSketchFedWithEverything) {
  for (uint64_t seed = 1; seed <= 200 && !testing::Test::HasFailure(); ++seed) run(seed);
}

}  // namespace weir
