#include "common/batch.h"

#include <schemas/batch_generated.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <random>

#include <flatbuffers/flatbuffers.h>
#include <gtest/gtest.h>

#include "common/batch_check.h"
#include "tests/fakes/samples.h"
#include "tests/fakes/verdicts.h"

namespace weir {

namespace {

// By the door as well.
Result<DecodedBatch> decode_both(ByteView body, const BatchLimits& limits = {}) {
  auto decoded = decode_batch(body, limits);
  EXPECT_EQ(difference(check_batch(body, limits), decoded), "");
  return decoded;
}

constexpr Window kWindow{1'700'000'040, 60};

struct Owned {
  Metric metric;
  Labels labels;
  Value value;

  friend auto operator==(const Owned& a, const Owned& b) {
    return a.metric == b.metric && a.labels == b.labels && a.value == b.value;
  }
};

std::vector<BatchRow> view(const std::vector<Owned>& rows) {
  std::vector<BatchRow> out;
  for (const Owned& row : rows) out.push_back({&row.metric, &row.labels, &row.value});
  return out;
}

std::vector<Owned> random_rows(uint64_t seed, size_t count) {
  std::mt19937_64 random(seed);
  std::vector<Owned> out;
  for (size_t i = 0; i < count; ++i) {
    const Metric& metric = sample_metrics()[random() % sample_metrics().size()];
    Owned& row = out.emplace_back(Owned{metric, {}, empty_value(metric)});
    row.labels = {{"route", "/" + std::to_string(i)},
                  {"service", "s" + std::to_string(random() % 4)}};
    for (uint64_t n = 1 + random() % 20; n > 0; --n) {
      Sample sample = random_sample(random, kWindow.start_s, kWindow.end_s());
      put(sample, row.value);
    }
  }
  return out;
}

std::vector<Owned> owned(const DecodedBatch& batch) {
  std::vector<Owned> out;
  for (const DecodedRow& row : batch.rows) {
    out.push_back({batch.metrics[row.metric], row.labels, row.value});
  }
  return out;
}

void sort(std::vector<Owned>& rows) {
  std::sort(rows.begin(), rows.end(), [](const Owned& a, const Owned& b) {
    return std::tie(a.metric, a.labels) < std::tie(b.metric, b.labels);
  });
}

std::vector<EncodedBatch> encode(const std::vector<Owned>& rows,
                                 size_t target = kBatchTargetBytes) {
  return encode_batches({.window = kWindow, .common_labels = {}, .manifest = {}}, view(rows),
                        target);
}

ManifestEntry range(uint8_t source, uint64_t lo, uint64_t hi) {
  SeqRange out{.source = {}, .epoch = 7, .lo = lo, .hi = hi};
  out.source[0] = std::byte{source};
  return {out, lo + hi, 10 * hi, source == 3};
}

// A batch as columns, to be broken one column at a time.
struct Raw {
  wire::BatchT columns;

  explicit Raw(const Bytes& body) { wire::GetSizePrefixedBatch(body.data())->UnPackTo(&columns); }

  [[nodiscard]] Bytes pack() const {
    flatbuffers::FlatBufferBuilder out;
    wire::FinishSizePrefixedBatchBuffer(out, wire::Batch::Pack(out, &columns));
    const auto* bytes = reinterpret_cast<const std::byte*>(out.GetBufferPointer());
    return {bytes, bytes + out.GetSize()};
  }
};

// The batch of tests/golden/batch_v1.bin. Never change it: it must load for ever. It has the kinds
// that were first; later ones are in the blocks' own golden files.
std::vector<EncodedBatch> golden() {
  std::vector<Owned> rows;
  for (const Metric& metric : std::span(sample_metrics()).first(4)) {
    for (const std::string service : {"api", "café"}) {
      Owned& row = rows.emplace_back(Owned{metric, {{"service", service}}, empty_value(metric)});
      for (uint64_t n = 1; n < 200; ++n) {
        put({.metric = 0,
             .service = 0,
             .host = n % 3,
             .unix_s = kWindow.start_s + static_cast<int64_t>(n % 60),
             .number = n * n * n * 1009 + service.size()},
            row.value);
      }
    }
  }
  std::get<Profile>(rows.back().value).add_quality({.lost = 1, .truncated = 2, .unresolved = 3});
  return encode_batches({.window = kWindow,
                         .common_labels = {{"env", "prod"}, {"host", "edge-1"}},
                         .manifest = {range(1, 1, 5), range(2, 9, 9)}},
                        view(rows));
}

std::vector<Owned> sets() {
  std::vector<Owned> rows;
  for (const Metric& metric : std::span(sample_metrics()).subspan(4)) {
    for (const uint64_t samples : {9U, 900U}) {
      Owned& row =
          rows.emplace_back(Owned{metric, {{"n", std::to_string(samples)}}, empty_value(metric)});
      for (uint64_t n = 0; n < samples; ++n) put({.number = n * 7919}, row.value);
    }
  }
  return rows;
}

struct Damage {
  const char* why;
  void (*apply)(wire::BatchT&);
};

std::vector<Damage> damages() {
  using T = wire::BatchT;
  return {
      {"window has no width", [](T& b) { b.window_width_s = 0; }},
      {"window is not aligned", [](T& b) { b.window_start_s += 1; }},
      {"window out of range", [](T& b) { b.window_start_s = INT64_MAX; }},
      {"window out of range", [](T& b) { b.window_start_s = INT64_MIN; }},
      {"string offsets", [](T& b) { b.string_end.back() += 1; }},
      {"string offsets", [](T& b) { std::swap(b.string_end[0], b.string_end[1]); }},
      {"string offsets", [](T& b) { b.string_end.clear(); }},
      {"string too long",
       [](T& b) {
         b.text.resize(b.text.size() + kMaxLabelText + 1, 'x');
         b.string_end.push_back(static_cast<uint32_t>(b.text.size()));
       }},
      {"string is not UTF-8", [](T& b) { b.text[0] = 0xff; }},
      {"metric columns", [](T& b) { b.metric_kind.pop_back(); }},
      {"metric columns", [](T& b) { b.metric_quantum.push_back(0); }},
      {"metric string", [](T& b) { b.metric_name[0] = 1000; }},
      {"metric string", [](T& b) { b.metric_unit[0] = UINT32_MAX; }},
      {"unknown metric kind", [](T& b) { b.metric_kind[0] = 7; }},
      {"unknown metric kind", [](T& b) { b.metric_kind[0] = 255; }},
      {"metric quantum", [](T& b) { b.metric_quantum.assign(4, -128); }},
      {"label without a value", [](T& b) { b.common_labels.pop_back(); }},
      {"label string", [](T& b) { b.set_labels[0] = 1000; }},
      {"not ascending", [](T& b) { std::swap(b.common_labels[0], b.common_labels[2]); }},
      {"not ascending",
       [](T& b) {
         const auto pairs = b.common_labels;
         b.common_labels.insert(b.common_labels.end(), pairs.begin(), pairs.end());
       }},
      {"is empty",
       [](T& b) {
         b.string_end.push_back(b.string_end.back());
         b.set_labels[1] = static_cast<uint32_t>(b.string_end.size() - 1);
       }},
      {"both common",
       [](T& b) {
         b.common_labels.assign({b.set_labels[0], b.set_labels[1]});
       }},
      {"too many labels", [](T& b) { b.common_labels.resize(2 * kMaxLabels + 2, 0); }},
      {"label set offsets", [](T& b) { b.set_end.back() += 2; }},
      {"label set out of range", [](T& b) { b.row_set[0] = 99; }},
      {"block columns", [](T& b) { b.block_rows.pop_back(); }},
      {"block offsets", [](T& b) { b.payload.push_back(0); }},
      {"block rows out of range", [](T& b) { b.block_rows[0] = 0; }},
      {"block rows out of range", [](T& b) { b.block_rows[0] = 257; }},
      {"row columns", [](T& b) { b.row_set.push_back(0); }},
      {"number of rows",
       [](T& b) {
         ++b.block_rows[0];
         --b.block_rows[1];
       }},
      {"block metric", [](T& b) { b.block_metric[0] = 4; }},
      {"block", [](T& b) { std::swap(b.block_metric[0], b.block_metric[1]); }},
      {"manifest columns", [](T& b) { b.manifest_source.pop_back(); }},
      {"manifest columns", [](T& b) { b.manifest_hi.pop_back(); }},
      {"manifest range", [](T& b) { b.manifest_lo[0] = b.manifest_hi[0] + 1; }},
      {"manifest range", [](T& b) { b.manifest_lo[0] = 0; }},
      {"manifest columns", [](T& b) { b.manifest_mass.pop_back(); }},
      {"manifest columns", [](T& b) { b.manifest_cum_mass.clear(); }},
      {"manifest columns", [](T& b) { b.manifest_lost.push_back(0); }},
      {"manifest entry", [](T& b) { b.manifest_lost[0] = 2; }},
      {"a part beyond", [](T& b) { b.part = b.parts; }},
      {"a part beyond", [](T& b) { b.parts = 0; }},
      {"mass", [](T& b) { b.mass += 1; }},
  };
}

Bytes file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

// Three columns of 12 bytes each, aligned to four: whatever the padding, one is off by four.
TEST(Batch, NumbersThatAreNotAlignedAreRead) {
  flatbuffers::FlatBufferBuilder out;
  const auto numbers = [&](uint32_t low) {
    const auto words = out.CreateVector(std::vector<uint32_t>{low, 7});
    flatbuffers::WriteScalar(out.GetCurrentBufferPointer(), uint32_t{1});  // its length
    return flatbuffers::Offset<flatbuffers::Vector<uint64_t>>(words.o);
  };
  const auto source = out.CreateVector(std::vector<uint8_t>(sizeof(SourceId), 9));
  const auto epoch = numbers(1);
  const auto lo = numbers(2);
  const auto hi = numbers(3);
  wire::BatchBuilder batch(out);
  batch.add_window_start_s(kWindow.start_s);
  batch.add_window_width_s(kWindow.width_s);
  batch.add_manifest_source(source);
  batch.add_manifest_epoch(epoch);
  batch.add_manifest_lo(lo);
  batch.add_manifest_hi(hi);
  out.FinishSizePrefixed(batch.Finish(), wire::BatchIdentifier());
  const auto decoded = decode_both(std::as_bytes(std::span(out.GetBufferPointer(), out.GetSize())));
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  constexpr uint64_t kHigh = uint64_t{7} << 32;
  SeqRange expected{.source = {}, .epoch = kHigh + 1, .lo = kHigh + 2, .hi = kHigh + 3};
  expected.source.fill(std::byte{9});
  ASSERT_EQ(decoded->manifest.size(), 1U);
  EXPECT_EQ(decoded->manifest[0].range, expected);
}

TEST(Batch, DecodesToWhatWasEncoded) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    auto rows = random_rows(seed, 600);
    const auto batches = encode(rows);
    ASSERT_EQ(batches.size(), 1U);
    EXPECT_EQ(batches[0].rows, rows.size());
    const auto decoded = decode_both(batches[0].body);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_EQ(decoded->window, kWindow);
    EXPECT_EQ(decoded->mass, batches[0].mass);
    EXPECT_TRUE(decoded->manifest.empty());
    auto back = owned(*decoded);
    sort(rows);
    EXPECT_TRUE(back == rows);  // in order too
  }
}

TEST(Batch, OrderOfRowsDoesNotChangeTheBytes) {
  auto rows = random_rows(5, 300);
  const auto first = encode(rows);
  std::mt19937_64 random(1);
  std::shuffle(rows.begin(), rows.end(), random);
  const auto second = encode(rows);
  ASSERT_EQ(first.size(), second.size());
  EXPECT_TRUE(first[0].body == second[0].body);
}

TEST(Batch, CommonLabelsReachEveryRowInOrder) {
  const std::vector<Owned> rows{{sample_metrics()[0], {{"service", "api"}}, Counter{1}},
                                {sample_metrics()[0], {}, Counter{2}}};
  const auto batches = encode_batches(
      {.window = kWindow, .common_labels = {{"host", "h"}, {"zone", "z"}}, .manifest = {}},
      view(rows));
  const auto decoded = decode_both(batches.at(0).body);
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  EXPECT_EQ(decoded->rows[0].labels, (Labels{{"host", "h"}, {"zone", "z"}}));
  EXPECT_EQ(decoded->rows[1].labels, (Labels{{"host", "h"}, {"service", "api"}, {"zone", "z"}}));
}

TEST(Batch, SplitsAtTheTargetWithoutDroppingARow) {
  auto rows = random_rows(6, 500);
  for (const size_t target : {size_t{4096}, size_t{20'000}}) {
    std::vector<Owned> back;
    uint64_t total = 0;
    const auto batches = encode(rows, target);
    EXPECT_GT(batches.size(), 3U);
    for (const EncodedBatch& batch : batches) {
      EXPECT_LE(batch.body.size(), target);
      const auto decoded = decode_both(batch.body);
      ASSERT_TRUE(decoded.ok()) << decoded.error().message;
      for (Owned& row : owned(*decoded)) back.push_back(std::move(row));
      total += batch.rows;
    }
    sort(rows);
    EXPECT_EQ(total, rows.size());
    EXPECT_TRUE(back == rows);
  }
}

TEST(Batch, AProfileLargerThanABatchTravelsInDisjointParts) {
  std::mt19937_64 random(7);
  Profile profile;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<Frame> stack;
    for (int d = 0; d < 5; ++d) {
      stack.push_back({FrameKind::kUser, "a.out", "function_" + std::to_string(random() % 3000)});
    }
    profile.add(stack, random() % 1000 + 1);
  }
  profile.add_quality({.lost = 5, .truncated = 0, .unresolved = 0});
  const Value whole = profile;
  const std::vector<Owned> rows{{sample_metrics()[3], {{"service", "big"}}, whole},
                                {sample_metrics()[0], {}, Counter{3}}};
  const auto batches = encode(rows, 256 * 1024);
  EXPECT_GT(batches.size(), 1U);
  Value merged = empty_value(sample_metrics()[3]);
  uint64_t total = 0;
  for (const EncodedBatch& batch : batches) {
    EXPECT_LE(batch.body.size(), 256U * 1024);
    const auto decoded = decode_both(batch.body);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    total += decoded->mass;
    for (const DecodedRow& row : decoded->rows) {
      if (kind_of(row.value) == Kind::kProfile) {
        EXPECT_EQ(row.labels, rows[0].labels);
        ASSERT_TRUE(merge(merged, row.value).ok());
      }
    }
  }
  EXPECT_TRUE(merged == whole);
  EXPECT_EQ(total, 20'003U);
}

TEST(Batch, TheManifestTravelsAfterTheLastRow) {
  const auto rows = random_rows(8, 300);
  const BatchHead head{
      .window = kWindow, .common_labels = {}, .manifest = {range(1, 1, 4), range(3, 2, 2)}};
  const auto batches = encode_batches(head, view(rows), 8192);
  ASSERT_GT(batches.size(), 1U);
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto decoded = decode_both(batches[i].body);
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded->manifest,
              i + 1 < batches.size() ? std::vector<ManifestEntry>() : head.manifest);
    EXPECT_EQ(decoded->part, i);
    EXPECT_EQ(decoded->parts, batches.size());
  }
}

TEST(Batch, AManifestLargerThanABatchIsCutIntoBatchesOfItsOwn) {
  BatchHead head{.window = kWindow, .common_labels = {}, .manifest = {}};
  for (uint64_t i = 1; i <= 1000; ++i) head.manifest.push_back(range(1, 2 * i, 2 * i));
  const auto rows = random_rows(9, 20);
  std::vector<ManifestEntry> back;
  uint64_t total = 0;
  for (const EncodedBatch& batch : encode_batches(head, view(rows), 8192)) {
    EXPECT_LE(batch.body.size(), 8192U);
    const auto decoded = decode_both(batch.body);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    total += decoded->rows.size();
    if (total < rows.size()) {
      EXPECT_TRUE(decoded->manifest.empty());
    }
    back.insert(back.end(), decoded->manifest.begin(), decoded->manifest.end());
  }
  EXPECT_EQ(total, rows.size());
  EXPECT_EQ(back, head.manifest);
}

TEST(Batch, NothingGivesNoBatch) { EXPECT_TRUE(encode({}).empty()); }

TEST(Batch, LongLabelsStayWithinTheHardLimit) {
  std::vector<Owned> rows;
  for (size_t i = 0; i < 300; ++i) {
    Owned& row = rows.emplace_back(Owned{sample_metrics()[0], {}, Counter{1}});
    for (size_t l = 10; l < 40; ++l) {
      std::string value(kMaxLabelText, 'v');
      value.replace(0, 8, std::to_string(10'000'000 + i * 100 + l));
      row.labels.emplace_back("l" + std::to_string(l), value);
    }
  }
  size_t total = 0;
  for (const EncodedBatch& batch : encode(rows)) {
    EXPECT_LE(batch.body.size(), kBatchTargetBytes);
    const auto decoded = decode_both(batch.body);
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    total += decoded->rows.size();
  }
  EXPECT_EQ(total, rows.size());
}

TEST(BatchDecode, EveryTruncationIsRefused) {
  const Bytes body = golden().at(0).body;
  for (size_t size = 0; size < body.size(); ++size) {
    ASSERT_FALSE(decode_both(ByteView(body).first(size)).ok()) << size;
  }
  Bytes longer = body;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_both(longer).ok());
}

TEST(BatchDecode, BitFlipsNeverCrash) {
  const Bytes body = golden().at(0).body;
  for (size_t at = 0; at < body.size(); ++at) {
    Bytes flipped = body;
    flipped[at] ^= std::byte{1} << (at * 5 % 8);
    const auto decoded = decode_both(flipped);  // may pass: the frame's CRC is the proof
    if (decoded.ok()) {
      ASSERT_EQ(decoded->rows.size(), 8U);
    }
  }
}

TEST(BatchDecode, AnyAlignmentIsGood) {
  const Bytes body = golden().at(0).body;
  for (size_t shift = 0; shift < 16; ++shift) {
    Bytes moved(shift + body.size());
    std::copy(body.begin(), body.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
    EXPECT_TRUE(decode_both(ByteView(moved).subspan(shift)).ok());
  }
}

TEST(BatchDecode, EachBrokenColumnIsNamed) {
  const Bytes body = golden().at(0).body;
  ASSERT_TRUE(decode_both(Raw(body).pack()).ok());
  for (const Damage& c : damages()) {
    Raw raw(body);
    c.apply(raw.columns);
    const auto decoded = decode_both(raw.pack());
    ASSERT_FALSE(decoded.ok()) << c.why;
    EXPECT_NE(decoded.error().message.find(c.why), std::string::npos) << decoded.error().message;
    EXPECT_TRUE(decoded.error().message.starts_with("batch: ")) << decoded.error().message;
  }
}

TEST(BatchDecode, IdentifierAndSizePrefixAreChecked) {
  Bytes body = golden().at(0).body;
  body[8] ^= std::byte{1};
  EXPECT_EQ(decode_both(body).error().message, "batch: identifier");
  body[0] ^= std::byte{1};
  EXPECT_EQ(decode_both(body).error().message, "batch: size prefix differs from the size");
  EXPECT_EQ(decode_both(Bytes(kBatchMaxBytes + 1)).error().code, Errc::kLimit);
}

TEST(BatchDecode, LimitsOfTheReceiverHold) {
  const Bytes body = golden().at(0).body;
  const auto code = [&](const BatchLimits& limits) {
    return decode_both(body, limits).error().code;
  };
  EXPECT_EQ(code({.max_rows = 7}), Errc::kLimit);
  EXPECT_EQ(code({.max_metrics = 3}), Errc::kLimit);
  EXPECT_EQ(code({.max_labels_per_row = 2}), Errc::kLimit);
  EXPECT_EQ(code({.max_string_bytes = 4}), Errc::kLimit);
  EXPECT_EQ(code({.max_label_bytes = 1000}), Errc::kLimit);
}

TEST(BatchGolden, VersionOneLoadsForEver) {
  const auto now = golden();
  ASSERT_EQ(now.size(), 1U);
  const Bytes kept = file("tests/golden/batch_v1.bin");
  const auto decoded = decode_both(kept);
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  const auto expected = decode_both(now[0].body);
  ASSERT_TRUE(expected.ok());
  ASSERT_EQ(decoded->manifest.size(), expected->manifest.size());
  for (size_t i = 0; i < decoded->manifest.size(); ++i) {
    EXPECT_EQ(decoded->manifest[i].range, expected->manifest[i].range);
    EXPECT_EQ(decoded->manifest[i].mass, 0U);  // it has no accounts yet
  }
  EXPECT_EQ(decoded->parts, 1U);
  EXPECT_TRUE(owned(*decoded) == owned(*expected));
}

TEST(BatchGolden, TheFormWithAccountsLoadsForEver) {
  const auto now = golden();
  const Bytes kept = file("tests/golden/batch_v1_accounts.bin");
  const auto decoded = decode_both(kept);
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  const auto expected = decode_both(now.at(0).body);
  ASSERT_TRUE(expected.ok());
  EXPECT_EQ(decoded->manifest, expected->manifest);
  EXPECT_TRUE(owned(*decoded) == owned(*expected));
  EXPECT_TRUE(kept == now[0].body) << "today's bytes differ from those of the file";
}

TEST(Batch, IsStampedWithTheMassSoFar) {
  Bytes body = golden().at(0).body;
  EXPECT_EQ(decode_both(body)->cum_mass, 0U);
  stamp_cum_mass(body, UINT64_MAX);
  const auto decoded = decode_both(body);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->cum_mass, UINT64_MAX);
  EXPECT_EQ(decoded->mass, golden().at(0).mass);
}

// Writes tests/golden/batch_v1_accounts.bin if it is missing, and the seeds of the fuzz target
// (tests/fuzz/README.md). Run from the root of the repository.
TEST(BatchCorpus, DISABLED_Write) {
  const auto write = [](const std::string& path, const Bytes& bytes) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  };
  const Bytes body = golden().at(0).body;
  const std::string golden_file = "tests/golden/batch_v1_accounts.bin";
  if (file(golden_file).empty()) write(golden_file, body);
  const std::string folder = "tests/fuzz/corpus/batch_decoder/";
  write(folder + "good_all_kinds", body);
  write(folder + "good_sets", encode(sets())[0].body);
  write(folder + "good_one_counter", encode({{sample_metrics()[0], {}, Counter{1}}})[0].body);
  write(
      folder + "good_manifest_only",
      encode_batches({.window = kWindow, .common_labels = {}, .manifest = {range(1, 1, 2)}}, {})[0]
          .body);
  write(folder + "bad_empty", {});
  write(folder + "bad_truncated", Bytes(body.begin(), body.begin() + 200));
  size_t number = 0;
  for (const Damage& damage : damages()) {
    Raw raw(body);
    damage.apply(raw.columns);
    write(folder + "bad_column_" + std::to_string(number++), raw.pack());
  }
}

}  // namespace weir
