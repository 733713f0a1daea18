#include <schemas/batch_generated.h>

#include <algorithm>
#include <optional>

#include <flatbuffers/flatbuffers.h>

#include "common/batch.h"
#include "common/batch_check.h"
#include "common/block_codec.h"
#include "common/flat_numbers.h"
#include "common/sketch/index_table.h"
#include "common/utf8.h"

namespace weir {

namespace {

// The verifier reads size prefix, root offset and identifier before it knows there are any.
constexpr size_t kSmallestBuffer = 16;
constexpr size_t kAlignment = 16;
constexpr int64_t kFurthestStart = int64_t{1} << 40;  // seconds; keeps window sums in range

template <class T>

requires(sizeof(T) <= sizeof(flatbuffers::uoffset_t))  // wider: common/flat_numbers.h
    std::span<const T> column(const flatbuffers::Vector<T>* vector) {
  if (vector == nullptr) return {};
  return {vector->data(), vector->size()};
}

// Entry i of a column is [end[i - 1], end[i]) of another: never descending, and used up.
bool covers(std::span<const uint32_t> ends, size_t size) {
  return std::is_sorted(ends.begin(), ends.end()) && (ends.empty() ? 0 : ends.back()) == size;
}

template <class T>
std::span<const T> part(std::span<const T> all, std::span<const uint32_t> ends, size_t i) {
  const size_t begin = i == 0 ? 0 : ends[i - 1];
  return all.subspan(begin, ends[i] - begin);
}

bool known(Kind kind) {
  switch (kind) {
    case Kind::kCounter:
    case Kind::kGauge:
    case Kind::kDistribution:
    case Kind::kDistinct:
    case Kind::kTopk:
    case Kind::kProfile:
      return true;
  }
  return false;
}

enum class Rows : uint8_t { kBuilt, kChecked };

// Fills a DecodedBatch column by column; each step relies on those before it. Rows that are only
// checked pass the very same checks.
class Decoder {
 public:
  Decoder(const wire::Batch& batch, const BatchLimits& limits)
      : batch_(batch),
        limits_(limits),
        common_(column(batch.common_labels())),
        set_labels_(column(batch.set_labels())),
        set_end_(column(batch.set_end())) {}

  Result<DecodedBatch> run(Rows mode) {
    WEIR_TRY(window());
    WEIR_TRY(strings());
    WEIR_TRY(metrics());
    WEIR_TRY(label_sets());
    WEIR_TRY(manifest());
    WEIR_TRY(rows(mode));
    return std::move(out_);
  }

  [[nodiscard]] size_t row_count() const { return column(batch_.row_set()).size(); }

 private:
  Status window() {
    out_.window = {batch_.window_start_s(), batch_.window_width_s()};
    const Window& w = out_.window;
    if (w.width_s == 0) return invalid("window has no width");
    if (w.start_s < -kFurthestStart || w.start_s > kFurthestStart) {
      return invalid("window out of range");
    }
    if (window_at(w.start_s, w.width_s) != w) return invalid("window is not aligned");
    return {};
  }

  Status strings() {
    const auto text = column(batch_.text());
    const auto ends = column(batch_.string_end());
    if (!covers(ends, text.size())) return invalid("string offsets");
    strings_.reserve(ends.size());
    for (size_t i = 0; i < ends.size(); ++i) {
      const auto bytes = part(text, ends, i);
      const std::string_view string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      if (string.size() > limits_.max_string_bytes) return limit("string too long");
      if (!is_utf8(string)) return invalid("string is not UTF-8");
      strings_.push_back(string);
    }
    names_.resize(strings_.size());
    return {};
  }

  Status metrics() {
    const auto names = column(batch_.metric_name());
    const auto kinds = column(batch_.metric_kind());
    const auto units = column(batch_.metric_unit());
    const auto quanta = column(batch_.metric_quantum());
    if (kinds.size() != names.size() || units.size() != names.size() ||
        quanta.size() != names.size()) {
      return invalid("metric columns differ in length");
    }
    if (names.size() > limits_.max_metrics) return limit("too many metrics");
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] >= strings_.size() || units[i] >= strings_.size()) {
        return invalid("metric string out of range");
      }
      const Kind kind{kinds[i]};
      if (strings_[names[i]].empty()) return invalid("metric without a name");
      if (!known(kind)) return invalid("unknown metric kind");
      if (quanta[i] < -18 || quanta[i] > 18 ||
          (kind == Kind::kDistribution && !index_supported(kDefaultScale, quanta[i]))) {
        return invalid("metric quantum out of range");
      }
      out_.metrics.push_back({.name = std::string(strings_[names[i]]),
                              .kind = kind,
                              .unit = std::string(strings_[units[i]]),
                              .quantum = quanta[i]});
    }
    return {};
  }

  // Neighbours are the same in set after set: each name remembers one it was found to follow.
  bool ascending(uint32_t before, uint32_t name) {
    uint32_t& known = names_[name].follows;
    if (known == before) return true;
    if (strings_[before] >= strings_[name]) return false;
    known = before;
    return true;
  }

  // Pairs of string ids: names ascending and never empty, nor values.
  Status check_pairs(std::span<const uint32_t> pairs) {
    if (pairs.size() % 2 != 0) return invalid("label without a value");
    if (pairs.size() / 2 > limits_.max_labels_per_row) return limit("too many labels");
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (pairs[i] >= strings_.size()) return invalid("label string out of range");
      if (strings_[pairs[i]].empty()) return invalid("label name or value is empty");
      if (i >= 2 && i % 2 == 0 && !ascending(pairs[i - 2], pairs[i])) {
        return invalid("labels are not ascending");
      }
    }
    return {};
  }

  Status label_sets() {
    if (!covers(set_end_, set_labels_.size())) return invalid("label set offsets");
    for (size_t i = 0; i < set_end_.size(); ++i) {
      WEIR_TRY(check_pairs(part(set_labels_, set_end_, i)));
    }
    set_bytes_.resize(set_end_.size());
    WEIR_TRY(check_pairs(common_));
    common_bytes_ = common_.size() / 2 * sizeof(Label);
    for (const uint32_t text : common_) common_bytes_ += strings_[text].size();
    return {};
  }

  Status manifest() {
    const auto sources = column(batch_.manifest_source());
    const FlatNumbers* epochs = batch_.manifest_epoch();
    const FlatNumbers* los = batch_.manifest_lo();
    const FlatNumbers* his = batch_.manifest_hi();
    const FlatNumbers* masses = batch_.manifest_mass();
    const FlatNumbers* cums = batch_.manifest_cum_mass();
    const auto lost = column(batch_.manifest_lost());
    const size_t count = size_of(epochs);
    if (sources.size() != count * sizeof(SourceId) || size_of(los) != count ||
        size_of(his) != count) {
      return invalid("manifest columns differ in length");
    }
    // Before there were accounts, a manifest had none of these.
    const bool accounts = masses != nullptr || cums != nullptr || batch_.manifest_lost() != nullptr;
    if (accounts && (size_of(masses) != count || size_of(cums) != count || lost.size() != count)) {
      return invalid("manifest columns differ in length");
    }
    for (size_t i = 0; i < count; ++i) {
      ManifestEntry& entry = out_.manifest.emplace_back();
      SeqRange& range = entry.range;
      std::memcpy(range.source.data(), sources.data() + i * sizeof(SourceId), sizeof(SourceId));
      range.epoch = number_at(epochs, i);
      range.lo = number_at(los, i);
      range.hi = number_at(his, i);
      if (range.lo == 0 || range.lo > range.hi) return invalid("manifest range is empty");
      if (!accounts) continue;
      if (lost[i] > 1) return invalid("manifest entry is neither kept nor lost");
      entry.mass = number_at(masses, i);
      entry.cum_mass = number_at(cums, i);
      entry.lost = lost[i] == 1;
    }
    out_.cum_mass = batch_.cum_mass();
    out_.part = batch_.part();
    out_.parts = batch_.parts();
    if (out_.part >= out_.parts) return invalid("a part beyond its group");
    return {};
  }

  // Calls fn(name, value) for the labels of a row: its set merged with the common ones.
  template <class F>
  void each_label(uint32_t set, F&& fn) const {
    const auto own = part(set_labels_, set_end_, set);
    for (size_t a = 0, b = 0; a < own.size() || b < common_.size();) {
      const bool take_own =
          b == common_.size() || (a < own.size() && strings_[own[a]] <= strings_[common_[b]]);
      const auto pair = take_own ? own.subspan(a, 2) : common_.subspan(b, 2);
      fn(strings_[pair[0]], strings_[pair[1]]);
      (take_own ? a : b) += 2;
    }
  }

  [[nodiscard]] size_t labels_in(uint32_t set) const {
    return (part(set_labels_, set_end_, set).size() + common_.size()) / 2;
  }

  bool is_common(uint32_t name) {
    auto& known = names_[name].common;
    if (!known.has_value()) {
      known = false;
      for (size_t i = 0; i < common_.size(); i += 2) {
        if (strings_[common_[i]] == strings_[name]) known = true;
      }
    }
    return *known;
  }

  // Of a row with this set; a set is looked at once, however many rows have it.
  Status check_labels(uint32_t set) {
    size_t& bytes = set_bytes_[set];
    if (bytes == 0) {
      if (labels_in(set) > limits_.max_labels_per_row) return limit("too many labels");
      bytes = common_bytes_;
      const auto own = part(set_labels_, set_end_, set);
      for (size_t i = 0; i < own.size(); i += 2) {
        const std::string_view name = strings_[own[i]];
        if (is_common(own[i])) {
          return invalid("label " + std::string(name) + " is both common and a row's own");
        }
        bytes += sizeof(Label) + name.size() + strings_[own[i + 1]].size();  // as decoded_bytes()
      }
    }
    label_bytes_ += bytes;
    if (label_bytes_ > limits_.max_label_bytes) return limit("labels too large");
    return {};
  }

  // Of a set that was checked.
  [[nodiscard]] Labels labels_of(uint32_t set) const {
    Labels labels;
    labels.reserve(labels_in(set));
    each_label(set, [&](std::string_view name, std::string_view value) {
      labels.emplace_back(name, value);
    });
    return labels;
  }

  Status rows(Rows mode) {
    const auto sets = column(batch_.row_set());
    const auto metrics = column(batch_.block_metric());
    const auto counts = column(batch_.block_rows());
    const auto payload = column(batch_.payload());
    const auto ends = column(batch_.payload_end());
    if (counts.size() != metrics.size() || ends.size() != metrics.size()) {
      return invalid("block columns differ in length");
    }
    if (!covers(ends, payload.size())) return invalid("block offsets");
    if (sets.size() > limits_.max_rows) return limit("too many rows");
    size_t expected = 0;
    for (const uint16_t count : counts) {
      if (count == 0 || count > kMaxBlockRows) return invalid("block rows out of range");
      expected += count;
    }
    if (expected != sets.size()) return invalid("row columns differ in length");

    uint64_t total = 0;
    size_t first = 0;
    for (size_t i = 0; i < metrics.size(); ++i) {
      if (metrics[i] >= out_.metrics.size()) return invalid("block metric out of range");
      const auto bytes = std::as_bytes(part(payload, ends, i));
      WEIR_TRY_ASSIGN(const size_t claimed, block_rows(bytes));
      if (claimed != counts[i]) return invalid("block has another number of rows");
      for (size_t row = first; row < first + claimed; ++row) {
        if (sets[row] >= set_end_.size()) return invalid("label set out of range");
        WEIR_TRY(check_labels(sets[row]));
        if (mode == Rows::kChecked) continue;
        out_.rows.push_back({.metric = metrics[i], .labels = labels_of(sets[row]), .value = {}});
      }
      const Metric& metric = out_.metrics[metrics[i]];
      if (mode == Rows::kChecked) {
        WEIR_TRY_ASSIGN(const uint64_t of_block, check_block(metric, bytes));
        total += of_block;
      } else {
        WEIR_TRY(decode_block(metric, bytes, [&](size_t row, Value&& value) {
          total += weir::mass(value);
          out_.rows[first + row].value = std::move(value);
        }));
      }
      first += claimed;
    }
    out_.mass = batch_.mass();
    if (total != out_.mass) return invalid("mass differs from the rows'");
    return {};
  }

  struct Name {
    uint32_t follows = UINT32_MAX;  // this string, by its text
    std::optional<bool> common;
  };

  static Error limit(std::string message) { return {Errc::kLimit, std::move(message)}; }

  const wire::Batch& batch_;
  const BatchLimits& limits_;
  DecodedBatch out_;
  std::span<const uint32_t> common_;      // label pairs
  std::span<const uint32_t> set_labels_;  // of all sets, one behind the other
  std::span<const uint32_t> set_end_;
  std::vector<std::string_view> strings_;  // into the aligned bytes
  std::vector<Name> names_;                // what is known of each string as a label's name
  std::vector<size_t> set_bytes_;          // of each label set, once it was checked
  size_t common_bytes_ = 0;                // as decoded
  size_t label_bytes_ = 0;                 // of all rows
};

Result<DecodedBatch> decode(ByteView body, const BatchLimits& limits, Rows mode, size_t& rows) {
  if (body.size() > kBatchMaxBytes) return Error{Errc::kLimit, "batch: larger than 4 MiB"};
  if (body.size() < kSmallestBuffer) return invalid("batch: too short");
  // A received frame lies anywhere; flatbuffers reads aligned words, and the verifier only checks
  // alignment relative to the start.
  static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= kAlignment);
  Bytes copy;
  if (reinterpret_cast<uintptr_t>(body.data()) % kAlignment != 0) {
    copy.assign(body.begin(), body.end());
    body = copy;
  }
  const auto* bytes = reinterpret_cast<const uint8_t*>(body.data());
  if (flatbuffers::GetPrefixedSize(bytes) != body.size() - sizeof(uint32_t)) {
    return invalid("batch: size prefix differs from the size");
  }
  flatbuffers::Verifier verifier(bytes, body.size(), 8, 16);
  if (!wire::SizePrefixedBatchBufferHasIdentifier(bytes)) return invalid("batch: identifier");
  if (!wire::VerifySizePrefixedBatchBuffer(verifier)) return invalid("batch: not verifiable");
  Decoder decoder(*wire::GetSizePrefixedBatch(bytes), limits);
  rows = decoder.row_count();
  auto decoded = decoder.run(mode);
  if (!decoded.ok()) return std::move(decoded).error().with("batch");
  return decoded;
}

}  // namespace

Result<DecodedBatch> decode_batch(ByteView body, const BatchLimits& limits) {
  size_t rows = 0;
  return decode(body, limits, Rows::kBuilt, rows);
}

Result<CheckedBatch> check_batch(ByteView body, const BatchLimits& limits) {
  CheckedBatch out;
  WEIR_TRY_ASSIGN(auto decoded, decode(body, limits, Rows::kChecked, out.rows));
  out.window = decoded.window;
  out.mass = decoded.mass;
  out.manifest = std::move(decoded.manifest);
  out.cum_mass = decoded.cum_mass;
  out.part = decoded.part;
  out.parts = decoded.parts;
  return out;
}

}  // namespace weir
