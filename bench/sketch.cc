// bench/run sketch: what one sample, one merge and one lookup cost, and what accuracy they buy.
// Each limit is measured in the same run, interleaved with what it limits.

#include <cmath>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/report.h"
#include "common/block_codec.h"
#include "common/rollup.h"
#include "common/series.h"
#include "common/sketch/distribution.h"

namespace weir::bench {
namespace {

constexpr int8_t kQuantum = -9;
const Metric kMetric{"latency_seconds", Kind::kDistribution, "seconds", kQuantum};

void must(const Status& status) { WEIR_CHECK(status.ok()); }

enum class Shape { kLognormal, kService, kPareto, kBimodal, kConstant };
constexpr std::array kShapes = {Shape::kLognormal, Shape::kService, Shape::kPareto, Shape::kBimodal,
                                Shape::kConstant};

std::vector<uint64_t> samples_of(Shape shape, size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> lognormal(std::log(20e6), 1.0);
  std::lognormal_distribution<double> slow(std::log(800e6), 0.3);
  std::normal_distribution<double> fast(2e6, 1e5);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  const auto draw = [&]() -> double {
    switch (shape) {
      case Shape::kLognormal:
        return lognormal(random);
      case Shape::kService:
        return uniform(random) < 0.95 ? lognormal(random) / 10 : slow(random);
      case Shape::kPareto:
        return 1e6 * std::pow(1 - uniform(random), -1 / 1.5);
      case Shape::kBimodal:
        return uniform(random) < 0.5 ? fast(random) : slow(random);
      case Shape::kConstant:
        return 5e6;
    }
    return 0;
  };
  std::vector<uint64_t> out(n);
  for (auto& sample : out) sample = static_cast<uint64_t>(std::max(1.0, draw()));
  return out;
}

// Series numbers by Zipf's law (exponent 1), shuffled so that busy series are not neighbours.
std::vector<uint32_t> zipf(size_t series, size_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<double> weights(series);
  for (size_t i = 0; i < series; ++i) weights[i] = 1.0 / static_cast<double>(i + 1);
  std::discrete_distribution<uint32_t> rank(weights.begin(), weights.end());
  std::vector<uint32_t> place(series);
  for (uint32_t i = 0; i < series; ++i) place[i] = i;
  std::shuffle(place.begin(), place.end(), random);
  std::vector<uint32_t> out(n);
  for (auto& id : out) id = place[rank(random)];
  return out;
}

Distribution sketch_of(const std::vector<uint64_t>& samples) {
  Distribution out(kQuantum);
  for (const uint64_t sample : samples) must(out.add(sample));
  return out;
}

Bytes encode(const std::vector<Value>& values) {
  std::vector<const Value*> rows;
  for (const Value& value : values) rows.push_back(&value);
  return encode_block(kMetric, rows);
}

void insert_hot(Report& report) {
  constexpr size_t kSamples = 4096;
  const size_t passes = report.quick() ? 50 : 200;
  const auto samples = samples_of(Shape::kLognormal, kSamples, 1);
  const IndexTable& table = index_table(kDefaultScale, kQuantum);
  const Distribution warm = sketch_of(samples);  // its buckets: no growth while measuring
  std::vector<uint16_t> counts(static_cast<size_t>(table.highest() - table.lowest() + 1));
  std::vector<uint32_t> indices;
  for (const uint64_t sample : samples) {
    indices.push_back(static_cast<uint32_t>(table.index(sample) - table.lowest()));
  }
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        Distribution hot = warm;  // few enough passes for two-byte counters
        return ns_per(kSamples * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            for (const uint64_t sample : samples) must(hot.add(sample));
          }
          keep(hot.count());
        });
      },
      [&] {
        return ns_per(kSamples * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            uint16_t* cells = counts.data();
            for (const uint32_t index : indices) {
              ++cells[index];
              asm volatile("" : : : "memory");  // NOLINT: each increment reaches memory
            }
          }
          keep(counts[0]);
        });
      });
  report.figure("insert_hot_ns", median(rounds[0]), "ns");
  report.figure("increment_limit_ns", median(rounds[1]), "ns", "a bare ++ at a known index");
  report.figure("insert_hot_vs_limit", median_ratio(rounds[0], rounds[1]), "x",
                "target <= 7, stretch 5");
}

void insert_many(Report& report) {
  constexpr size_t kSeries = 20'000;
  constexpr size_t kEvents = 400'000;
  const auto samples = samples_of(Shape::kLognormal, kEvents, 2);
  const auto ids = zipf(kSeries, kEvents, 3);
  std::vector<Distribution> series(kSeries, Distribution(kQuantum));
  for (size_t i = 0; i < kEvents; ++i) must(series[ids[i]].add(samples[i]));
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        return ns_per(kEvents, [&] {
          constexpr size_t kAhead = 16;
          for (size_t i = 0; i < kEvents; ++i) {
            if (i + kAhead < kEvents) series[ids[i + kAhead]].prefetch();
            if (i + kAhead / 2 < kEvents) {
              series[ids[i + kAhead / 2]].prefetch(samples[i + kAhead / 2]);
            }
            must(series[ids[i]].add(samples[i]));
          }
        });
      },
      [&] {
        return ns_per(kEvents, [&] {
          for (size_t i = 0; i < kEvents; ++i) must(series[ids[i]].add(samples[i]));
        });
      });
  report.figure("insert_20k_series_prefetch_ns", median(rounds[0]), "ns", "target <= 20");
  report.figure("insert_20k_series_ns", median(rounds[1]), "ns", "without prefetch");
  report.figure("prefetch_vs_without", median_ratio(rounds[0], rounds[1]), "x", "target <= 0.7");
}

void merge_wire(Report& report) {
  constexpr size_t kRows = 16;
  const size_t passes = report.quick() ? 200 : 1000;
  std::vector<Value> values;
  for (size_t i = 0; i < kRows; ++i) {
    values.emplace_back(sketch_of(samples_of(Shape::kLognormal, 10'000, 100 + i)));
  }
  const Bytes block = encode(values);
  const Distribution warm = std::get<Distribution>(values[0]);
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        Distribution total = warm;
        return ns_per(kRows * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            must(decode_block(kMetric, block, [&](size_t, Value&& value) {
              must(total.merge(std::get<Distribution>(value)));
            }));
          }
          keep(total.count());
        });
      },
      [&] {
        Distribution total = warm;
        return ns_per(kRows * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            for (const Value& value : values) must(total.merge(std::get<Distribution>(value)));
          }
          keep(total.count());
        });
      });
  report.figure("merge_wire_ns", median(rounds[0]), "ns", "target <= 250");
  report.figure("merge_memory_ns", median(rounds[1]), "ns", "the merge alone, already decoded");
  report.figure("bytes_10k", static_cast<double>(encode({values[0]}).size()), "B",
                "target <= 440; one-row block, header included");
  report.figure("bytes_10k_in_block", static_cast<double>(block.size()) / kRows, "B",
                "a row of 16");
}

void accuracy(Report& report) {
  const size_t n = report.quick() ? 200'000 : 2'000'000;
  double worst = 0;
  for (const Shape shape : kShapes) {
    auto samples = samples_of(shape, n, 7);
    std::vector<Distribution> parts(1001, Distribution(kQuantum));
    for (size_t i = 0; i < n; ++i) must(parts[i % parts.size()].add(samples[i]));
    Distribution& merged = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) must(merged.merge(parts[i]));
    std::sort(samples.begin(), samples.end());
    for (const uint32_t phi : {500'000'000U, 750'000'000U, 900'000'000U, 950'000'000U, 990'000'000U,
                               999'000'000U, 999'900'000U}) {
      const size_t rank = (uint64_t{phi} * n + 999'999'999) / 1'000'000'000;
      const double truth = static_cast<double>(samples[rank - 1]) / 1e9;
      const double answer = merged.quantile(phi)->value;
      worst = std::max(worst, 100 * std::abs(answer - truth) / truth);
    }
  }
  report.figure("max_rel_error_pct", worst, "%", "bound 0.5416");
}

void merge_order(Report& report) {
  constexpr size_t kParts = 32;
  std::vector<Distribution> parts;
  for (size_t i = 0; i < kParts; ++i) {
    parts.push_back(sketch_of(samples_of(kShapes[i % kShapes.size()], 500, 200 + i)));
  }
  std::mt19937_64 random(9);
  std::set<Bytes> encodings;
  for (int tree = 0; tree < 1000; ++tree) {
    auto forest = parts;
    while (forest.size() > 1) {  // merge two at random until one is left
      std::swap(forest[random() % forest.size()], forest.back());
      const Distribution taken = std::move(forest.back());
      forest.pop_back();
      must(forest[random() % forest.size()].merge(taken));
    }
    encodings.insert(encode({Value(std::move(forest[0]))}));
  }
  report.figure("merge_order_distinct_encodings", static_cast<double>(encodings.size()), "",
                "target 1, over 1,000 random merge trees");
}

std::vector<std::string> members_of(size_t n, const std::string& prefix) {
  std::vector<std::string> out;
  for (size_t i = 0; i < n; ++i) out.push_back(prefix + std::to_string(i));
  return out;
}

Distinct distinct_of(const std::vector<std::string>& members) {
  Distinct out;
  for (const auto& member : members) must(out.add(Distinct::hash_of(member)));
  return out;
}

void distinct_insert(Report& report) {
  constexpr size_t kMembers = 4096;
  const size_t passes = report.quick() ? 50 : 200;
  const auto members = members_of(kMembers, "10.20.30.");
  std::vector<uint64_t> hashes;
  for (const auto& member : members) hashes.push_back(Distinct::hash_of(member));
  const Distinct warm = distinct_of(members_of(20'000, "user-"));
  std::vector<uint8_t> cells(Distinct::kRegisters);
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        Distinct hot = warm;
        return ns_per(kMembers * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            for (const uint64_t hash : hashes) must(hot.add(hash));
          }
          keep(hot.n());
        });
      },
      [&] {
        return ns_per(kMembers * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            for (const uint64_t hash : hashes) {
              ++cells[hash >> 52];
              asm volatile("" : : : "memory");  // NOLINT: each increment reaches memory
            }
          }
          keep(cells[0]);
        });
      },
      [&] {
        Distinct hot = warm;
        return ns_per(kMembers * passes, [&] {
          for (size_t pass = 0; pass < passes; ++pass) {
            for (const auto& member : members) must(hot.add(Distinct::hash_of(member)));
          }
          keep(hot.n());
        });
      });
  report.figure("hll_insert_ns", median(rounds[0]), "ns", "target <= 3; 4,096 registers in use");
  report.figure("hll_insert_vs_increment", median_ratio(rounds[0], rounds[1]), "x", "target <= 7");
  report.figure("hll_member_ns", median(rounds[2]), "ns",
                "with the hash of a text of 10 to 13 bytes");
}

void distinct_merge(Report& report) {
  const size_t passes = report.quick() ? 2000 : 20'000;
  const Distinct from = distinct_of(members_of(10'000, "a"));
  Distinct into = distinct_of(members_of(10'000, "b"));
  const auto rounds = interleaved(report.rounds(), [&] {
    return ns_per(passes, [&] {
      for (size_t pass = 0; pass < passes; ++pass) must(into.merge(from));
      keep(into.n());
    });
  });
  report.figure("hll_merge_ns", median(rounds[0]), "ns", "target <= 200; 4,096 registers each");
  const Value value = from;
  const Value* row = &value;
  const Metric metric{"users", Kind::kDistinct, "", 0};
  report.figure("hll_bytes_10k", static_cast<double>(encode_block(metric, {&row, 1}).size()), "B",
                "10,000 members; plain 6-bit registers are 3,072");
}

void distinct_accuracy(Report& report) {
  const size_t sketches = report.quick() ? 50 : 400;
  double squares = 0;
  size_t n = 0;
  for (const size_t members : {1'000U, 10'000U, 100'000U}) {
    for (size_t sketch = 0; sketch < sketches; ++sketch, ++n) {
      const auto truth = static_cast<double>(members);
      const double value =
          distinct_of(members_of(members, std::to_string(sketch) + "/")).estimate().value;
      squares += (value - truth) * (value - truth) / (truth * truth);
    }
  }
  report.figure("hll_rms_error_pct", 100 * std::sqrt(squares / static_cast<double>(n)), "%",
                "theory 1.63; 1,000 to 100,000 members");
}

void topk_insert(Report& report) {
  constexpr size_t kKeys = 100'000;
  constexpr size_t kEvents = 400'000;
  const auto keys = members_of(kKeys, "/item/");
  const auto order = zipf(kKeys, kEvents, 21);
  std::unordered_map<std::string, uint64_t> truth;
  std::string text;  // the keys as packets bring them: one after the other
  for (const uint32_t key : order) {
    ++truth[keys[key]];
    text += keys[key] + '\n';
  }
  std::vector<std::string_view> events;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
    events.emplace_back(text.data() + at, text.find('\n', at) - at);
  }
  Topk last;
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        last = Topk();
        return ns_per(kEvents, [&] {
          for (const std::string_view key : events) must(last.add(key));
        });
      },
      [&] {
        std::unordered_map<std::string, uint64_t> all;
        return ns_per(kEvents, [&] {
          for (const std::string_view key : events) ++all[std::string(key)];
          keep(all.size());
        });
      },
      [&] {
        Topk junk;
        return ns_per(kKeys, [&] {
          for (const auto& key : keys) must(junk.add(key));
          keep(junk.n());
        });
      });
  uint64_t worst = 0;
  std::unordered_map<std::string, uint64_t> listed;
  for (const auto& [key, count] : last.by_key()) listed.emplace(key, count);
  for (const auto& [key, count] : truth) {
    const auto at = listed.find(key);
    const uint64_t low = at == listed.end() ? 0 : at->second;
    WEIR_CHECK(low <= count && count <= low + last.err());
    worst = std::max(worst, count - low);
  }
  const double share = 100 / static_cast<double>(kEvents);
  report.figure("topk_insert_ns", median(rounds[0]), "ns", "target <= 20; 100,000 keys, Zipf");
  report.figure("topk_insert_vs_exact_map", median_ratio(rounds[0], rounds[1]), "x",
                "of std::unordered_map<std::string> that keeps all");
  report.figure("topk_insert_junk_ns", median(rounds[2]), "ns", "every key is new");
  report.figure("topk_err_pct", share * static_cast<double>(last.err()), "%",
                "target <= 0.04 of all events");
  report.figure("topk_worst_pct", share * static_cast<double>(worst), "%", "what any count lacked");
}

// Label sets as an instrumented service sends them: five labels. As views of texts that lie apart,
// and as the bytes of one packet, which lie wherever the packet does.
class LabelSets {
 public:
  explicit LabelSets(size_t n) {
    for (size_t i = 0; i < n; ++i) {
      text_.push_back({"service-" + std::to_string(i % 40), "/api/v1/items/" + std::to_string(i),
                       i % 2 == 0 ? "GET" : "POST", i % 7 == 0 ? "5xx" : "2xx", "8080"});
    }
    for (const auto& row : text_) {
      views_.push_back({{{"http_request_method", row[2]},
                         {"http_response_status_class", row[3]},
                         {"http_route", row[1]},
                         {"server_port", row[4]},
                         {"service", row[0]}}});
      ends_.push_back(packets_.size());
      for (const LabelView& label : views_.back()) {
        if (packets_.size() > ends_.back()) packets_ += ',';
        packets_.append(label.name).append(":").append(label.value);
      }
    }
    ends_.push_back(packets_.size());
  }

  [[nodiscard]] size_t size() const { return views_.size(); }

  [[nodiscard]] const std::array<LabelView, 5>& operator[](size_t i) const { return views_[i]; }

  [[nodiscard]] std::string_view raw(size_t i) const {
    return std::string_view(packets_).substr(ends_[i], ends_[i + 1] - ends_[i]);
  }

 private:
  std::vector<std::array<std::string, 5>> text_;
  std::vector<std::array<LabelView, 5>> views_;
  std::string packets_;
  std::vector<size_t> ends_;
};

// Looks the raw forms of `order` up as a drain loop does: each hashed eight ahead of its turn.
template <class F>
void each_found(const SeriesTable& table, MetricId metric, const LabelSets& sets,
                const std::vector<uint32_t>& order, F&& found) {
  constexpr size_t kAhead = 8;
  std::array<uint32_t, 2 * kAhead> tags{};
  const size_t n = order.size();
  for (size_t i = 0; i < n + kAhead; ++i) {
    if (i < n) {
      tags[i % tags.size()] = table.prefetch_raw(metric, as_bytes(sets.raw(order[i])));
    }
    if (i >= kAhead / 2 && i < n + kAhead / 2) {
      table.prefetch_found(tags[(i - kAhead / 2) % tags.size()]);
    }
    if (i < kAhead) continue;
    const size_t at = i - kAhead;
    found(at, *table.find_raw(metric, as_bytes(sets.raw(order[at])), tags[at % tags.size()]));
  }
}

void lookup_raw(Report& report, size_t series, const std::string& key) {
  constexpr size_t kLookups = 200'000;
  const LabelSets sets(series);
  const auto order = zipf(series, kLookups, 11);
  SeriesTable table;
  const MetricId metric = *table.metric(kMetric);
  std::unordered_map<std::string, uint32_t> map;
  for (size_t i = 0; i < series; ++i) {
    table.remember_raw(*table.intern(metric, sets[i]), as_bytes(sets.raw(i)));
    map.emplace(sets.raw(i), static_cast<uint32_t>(i));
  }
  std::string text;
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        return ns_per(kLookups, [&] {
          each_found(table, metric, sets, order, [](size_t, SeriesId id) { keep(id); });
        });
      },
      [&] {
        return ns_per(kLookups, [&] {
          for (const uint32_t i : order) keep(*table.find_raw(metric, as_bytes(sets.raw(i))));
        });
      },
      [&] {
        return ns_per(kLookups, [&] {
          for (const uint32_t i : order) {
            text.assign(sets.raw(i));
            keep(map.find(text)->second);
          }
        });
      });
  report.figure(key + "_ns", median(rounds[0]), "ns",
                "find_raw: five labels as contiguous bytes, " +
                    std::to_string(sets.raw(series - 1).size()) + " B, Zipf");
  report.figure(key + "_vs_unordered_map", median_ratio(rounds[0], rounds[2]), "x",
                "target <= 0.35: of std::unordered_map<std::string>, same bytes in a reused "
                "string; ours hashed eight ahead, as StatsD packets are");
  report.figure(key + "_alone_vs_unordered_map", median_ratio(rounds[1], rounds[2]), "x",
                "the same without looking ahead");
}

void lookup_views(Report& report, size_t series, const std::string& key) {
  constexpr size_t kLookups = 200'000;
  const LabelSets sets(series);
  const auto order = zipf(series, kLookups, 11);
  SeriesTable table;
  const MetricId metric = *table.metric(kMetric);
  std::unordered_map<std::string, uint32_t> map;
  std::string text;
  const auto text_of = [&](size_t i) -> const std::string& {
    text.clear();
    for (const LabelView& label : sets[i]) {
      text.append(label.name).push_back('\0');
      text.append(label.value).push_back('\0');
    }
    return text;
  };
  for (size_t i = 0; i < series; ++i) {
    WEIR_CHECK(table.intern(metric, sets[i]).ok());
    WEIR_CHECK(table.intern(metric, sets[i]).ok());  // the second time, this order is remembered
    map.emplace(text_of(i), static_cast<uint32_t>(i));
  }
  const auto rounds = interleaved(
      report.rounds(),
      [&] {
        return ns_per(kLookups, [&] {
          for (const uint32_t i : order) keep(*table.intern(metric, sets[i]));
        });
      },
      [&] {
        return ns_per(kLookups, [&] {
          for (const uint32_t i : order) keep(map.find(text_of(i))->second);
        });
      });
  report.figure(key + "_ns", median(rounds[0]), "ns", "intern: five labels apart, Zipf");
  report.figure(key + "_vs_unordered_map", median_ratio(rounds[0], rounds[1]), "x",
                "of std::unordered_map<std::string>, key built from the same views");
}

void event(Report& report) {
  constexpr size_t kSeries = 2000;
  constexpr size_t kEvents = 200'000;
  constexpr int64_t kNow = 1'700'000'000;
  const LabelSets sets(kSeries);
  const auto order = zipf(kSeries, kEvents, 12);
  const auto samples = samples_of(Shape::kLognormal, kEvents, 13);
  SeriesTable table;
  Rollup rollup(60);
  const MetricId metric = *table.metric(kMetric);
  for (size_t i = 0; i < kSeries; ++i) {
    table.remember_raw(*table.intern(metric, sets[i]), as_bytes(sets.raw(i)));
  }
  const auto rounds = interleaved(report.rounds(), [&] {
    return ns_per(kEvents, [&] {
      each_found(table, metric, sets, order, [&](size_t i, SeriesId id) {
        must(std::get<Distribution>(rollup.at(id, kMetric, kNow)).add(samples[i]));
      });
    });
  });
  report.figure("event_ns", median(rounds[0]), "ns",
                "target <= 45: raw labels, series, window, sketch");
}

void series_bytes(Report& report) {
  const LabelSets sets(10'000);
  SeriesTable table;
  const MetricId metric = *table.metric(kMetric);
  const size_t empty = table.memory_bytes();
  for (size_t i = 0; i < sets.size(); ++i) {
    table.remember_raw(*table.intern(metric, sets[i]), as_bytes(sets.raw(i)));
  }
  report.figure(
      "series_bytes",
      static_cast<double>(table.memory_bytes() - empty) / static_cast<double>(sets.size()), "B",
      "a series of five labels, 10,000 of them: table, texts, raw spelling");
}

}  // namespace
}  // namespace weir::bench

int main(int argc, char** argv) {
  using namespace weir::bench;  // NOLINT: main only
  Report report("sketch", argc, argv);
  insert_hot(report);
  insert_many(report);
  merge_wire(report);
  accuracy(report);
  merge_order(report);
  distinct_insert(report);
  distinct_merge(report);
  distinct_accuracy(report);
  topk_insert(report);
  lookup_raw(report, 2000, "lookup_2k");
  lookup_raw(report, 100'000, "lookup_100k");
  lookup_views(report, 2000, "lookup_views_2k");
  event(report);
  series_bytes(report);
  return report.print();
}
