#pragma once
// What store tests share: hosts that make batches, the plain merge of everything they sent, and
// the store's answer in a form that compares by bytes.

#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "aggregator/store/reader.h"
#include "aggregator/store/store.h"
#include "common/batch.h"
#include "common/block_codec.h"
#include "common/crc32c.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/outbox_rows.h"
#include "tests/fakes/temp_dir.h"

namespace weir::aggregator::store_test {

inline constexpr int64_t kHour = 1'700'002'800;  // a whole hour
static_assert(kHour % 3600 == 0);

inline const Metric kRequests{"requests_total", Kind::kCounter, "", 0};
inline const Metric kLatency{"latency_seconds", Kind::kDistribution, "seconds", -9};
inline const Metric kLoad{"load", Kind::kGauge, "", -6};

inline Tier region_tier() {
  Tier tier;
  tier.kind = "region";
  tier.name = "eu-1";
  tier.drop_labels = {"host"};
  tier.add_labels = {{"region", "eu-1"}};
  tier.upstream = "inproc://global";
  return tier;
}

inline Tier global_tier() {
  Tier tier;
  tier.kind = "global";
  tier.name = "world";
  tier.in_s = 300;
  tier.out_s = 3600;
  tier.keep_in_s = 30 * 86400;
  tier.keep_out_s = 400 * 86400;
  return tier;
}

struct Sample {
  Metric metric;
  Labels labels;  // all of them
  Value value;
};

inline Sample requests(Labels labels, uint64_t delta) {
  return {kRequests, std::move(labels), Counter{delta}};
}

inline Sample latency(Labels labels, std::vector<uint64_t> nanoseconds) {
  Distribution d(-9);
  for (const uint64_t ns : nanoseconds) EXPECT_TRUE(d.add(ns).ok());
  return {kLatency, std::move(labels), std::move(d)};
}

inline SourceId source_of(uint8_t id) {
  SourceId out{};
  out[0] = static_cast<std::byte>(id);
  return out;
}

// One batch, as Intake hands it over.
inline AcceptedBatch batch_of(uint8_t source, uint64_t seq, const Window& window,
                              const std::vector<Sample>& samples) {
  std::vector<BatchRow> rows;
  for (const Sample& s : samples) rows.push_back({&s.metric, &s.labels, &s.value});
  auto encoded = encode_batches({.window = window, .common_labels = {}, .manifest = {}}, rows);
  EXPECT_EQ(encoded.size(), 1U);
  AcceptedBatch out;
  out.source = source_of(source);
  out.epoch = 7;
  out.seq = seq;
  out.window = window;
  out.mass = encoded[0].mass;
  out.rows = encoded[0].rows;
  out.body = std::move(encoded[0].body);
  out.raw_len = static_cast<uint32_t>(out.body.size());
  out.crc32c = crc32c(out.body);
  return out;
}

// Assigned to this store's present life.
inline std::vector<AcceptedBatch> meant_for(const Store& store,
                                            std::vector<AcceptedBatch> batches) {
  for (AcceptedBatch& batch : batches) batch.target_epoch = store.epoch();
  return batches;
}

// What the outbox of a tier sends, as Intake hands it over.
inline AcceptedBatch from_outbox(const SourceId& source, const OutboxEntry& entry) {
  const auto decoded = decode_batch(entry.body);
  EXPECT_TRUE(decoded.ok());
  AcceptedBatch out;
  out.type = FrameType::kOut;
  out.source = source;
  out.epoch = entry.epoch;
  out.seq = entry.seq;
  out.window = entry.window;
  out.mass = entry.mass;
  out.cum_mass = decoded->cum_mass;
  out.part = decoded->part;
  out.parts = decoded->parts;
  out.manifest = decoded->manifest;
  out.crc32c = entry.crc32c;
  out.body = entry.body;
  out.raw_len = static_cast<uint32_t>(out.body.size());
  return out;
}

inline Bytes bytes_of(const Metric& metric, const Value& value) {
  const Value* const row = &value;
  return encode_block(metric, std::span(&row, 1));
}

// (metric, labels) -> window -> canonical bytes.
using Books = std::map<std::pair<Metric, Labels>, std::map<Window, Bytes>>;

// The plain merge, without any store.
class Direct {
 public:
  void add(const Metric& metric, const Labels& labels, const Window& window, const Value& value) {
    auto& windows = values_[{metric, labels}];
    const auto [at, is_new] = windows.try_emplace(window, value);
    if (!is_new) {
      EXPECT_TRUE(merge(at->second, value).ok());
    }
  }

  [[nodiscard]] Books books() const {
    Books out;
    for (const auto& [series, windows] : values_) {
      for (const auto& [window, value] : windows) {
        out[series][window] = bytes_of(series.first, value);
      }
    }
    return out;
  }

 private:
  std::map<std::pair<Metric, Labels>, std::map<Window, Value>> values_;
};

inline Books books_of(const Selection& selection) {
  Books out;
  for (const SelectedSeries& series : selection.series) {
    for (const WindowValue& w : series.windows) {
      const bool is_new = out[{*series.metric, series.labels}]
                              .try_emplace(w.window, bytes_of(*series.metric, w.value))
                              .second;
      EXPECT_TRUE(is_new) << "a window came twice";
    }
  }
  return out;
}

// A store and a reader over one fresh directory.
class StoreTest : public testing::Test {
 protected:
  void open(const Tier& tier, const StoreOptions& options = {}) {
    tier_ = tier;
    options_ = options;
    reopen();
  }

  void reopen() {
    reader_.reset();
    store_.reset();
    auto store = Store::open(path(), tier_, options_, unix_seconds(clock_.now()));
    ASSERT_TRUE(store.ok()) << store.error().message;
    store_ = *std::move(store);
    if (store_->epoch() == 0) {
      ASSERT_TRUE(store_->begin_epoch(1).ok());
    }
    auto reader = Reader::open(path(), tier_, clock_);
    ASSERT_TRUE(reader.ok()) << reader.error().message;
    reader_ = *std::move(reader);
  }

  [[nodiscard]] std::string path() const { return dir_.file(file_); }

  std::vector<Acknowledgement> drain(const std::vector<AcceptedBatch>& batches) {
    auto acks = store_->drain(meant_for(*store_, batches));
    EXPECT_TRUE(acks.ok()) << acks.error().message;
    return acks.ok() ? *acks : std::vector<Acknowledgement>{};
  }

  FoldResult fold() {
    FoldResult last;
    do {
      auto result = store_->fold(INT64_MAX);
      EXPECT_TRUE(result.ok()) << result.error().message;
      if (!result.ok()) return {};
      last = *std::move(result);
    } while (last.more);
    return last;
  }

  // Both clocks together.
  bool maintain(int64_t now_s) {
    return *store_->maintain(now_s, MonoTime(std::chrono::seconds(now_s)));
  }

  // The last tier has all that was folded.
  void release_everything() {
    const uint64_t epoch = store_->outbox().epoch();
    acknowledge(store_->outbox(), {{epoch, 1, INT64_MAX}});
    EXPECT_TRUE(store_->release_all().ok());
  }

  Selection select(const SelectRequest& request) {
    auto selection = reader_->select(request, {});
    EXPECT_TRUE(selection.ok()) << selection.error().message;
    return selection.ok() ? *std::move(selection) : Selection{};
  }

  // Everything in fine windows, or projected on what coarse windows keep.
  Books all_fine() { return books_of(select(ask())); }

  Books all_coarse() {
    SelectRequest request = ask();
    request.needs_all_labels = false;
    request.label_use = LabelUse::kAllBut;
    request.label_names = tier_.drop_labels;
    return books_of(select(request));
  }

  // Everything, or one metric, or what one matcher selects.
  [[nodiscard]] SelectRequest ask(const std::string& metric = {}) const {
    SelectRequest request;
    request.metric = metric;
    request.range = range_;
    return request;
  }

  [[nodiscard]] SelectRequest ask(const std::string& label, MatchOp op,
                                  const std::string& value) const {
    SelectRequest request = ask();
    request.matchers = {{label, op, value}};
    return request;
  }

  uint64_t counter(const std::string& name) { return store_->counters().at(name); }

  // Runs SQL behind the store's back.
  void tamper(const std::string& sql) {
    auto db = Database::open(path());
    ASSERT_TRUE(db.ok());
    const auto done = db->exec(sql);
    ASSERT_TRUE(done.ok()) << done.error().message;
  }

  // Of the inbox row with this seq; each body begins with more than zeros.
  void damage_body(uint64_t seq) {
    const std::string where = " FROM inbox WHERE seq = " + std::to_string(seq);
    std::fstream file(body_file(path()), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(number("SELECT place" + where));
    file << std::string(static_cast<size_t>(number("SELECT size" + where)), '\0');
    ASSERT_TRUE(file.good());
  }

  int64_t number(const std::string& sql) {
    auto db = Database::open(path(), {.mode = OpenMode::kReadOnly});
    auto statement = db->prepare(sql);
    EXPECT_TRUE(statement.ok() && *statement->step());
    return statement->integer(0);
  }

  TempDir dir_;
  std::string file_ = "weir.db";
  FakeClock clock_{kHour + 3600};
  Tier tier_;
  StoreOptions options_;
  TimeRange range_{kHour, kHour + 3600};
  std::unique_ptr<Store> store_;
  std::unique_ptr<Reader> reader_;
};

}  // namespace weir::aggregator::store_test
