#include <schemas/batch_generated.h>

#include <algorithm>
#include <map>
#include <memory>
#include <tuple>
#include <unordered_map>

#include <flatbuffers/flatbuffers.h>

#include "common/batch.h"
#include "common/batch_format.h"
#include "common/block_codec.h"
#include "common/check.h"
#include "common/hash.h"

namespace weir {

namespace {

constexpr size_t kFixedBytes = 512;  // table, vtable, vector lengths and padding of one batch
constexpr size_t kEntryBytes = 57;   // one manifest entry
constexpr size_t kStringBytes = 4;   // its end offset
constexpr size_t kPairBytes = 8;     // two string ids
constexpr size_t kMetricBytes = 10;
constexpr size_t kBlockBytes = 10;
constexpr size_t kRowBytes = 8;  // set id, and the end of a new set

struct Block {
  std::span<const BatchRow> rows;
  Bytes payload;
  uint64_t mass = 0;
};

// What the rows' labels take if no other row shares them.
size_t label_cost(std::span<const BatchRow> rows) {
  size_t bytes = 0;
  for (const BatchRow& row : rows) {
    bytes += kRowBytes;
    for (const auto& [name, value] : *row.labels) {
      bytes += name.size() + value.size() + 2 * kStringBytes + kPairBytes;
    }
  }
  return bytes;
}

// Cuts sorted rows into blocks that each fit a batch.
class Cutter {
 public:
  Cutter(size_t budget, std::vector<Block>& out) : budget_(budget), out_(out) {}

  void cut(std::span<const BatchRow> rows) {
    while (!rows.empty()) {
      size_t size = 1;
      while (size < rows.size() && size < kMaxBlockRows && *rows[size].metric == *rows[0].metric) {
        ++size;
      }
      block(rows.first(size));
      rows = rows.subspan(size);
    }
  }

 private:
  void block(std::span<const BatchRow> rows) {
    std::vector<const Value*> values;
    uint64_t total = 0;
    for (const BatchRow& row : rows) {
      values.push_back(row.value);
      total += mass(*row.value);
    }
    Bytes payload = encode_block(*rows[0].metric, values);
    if (payload.size() + label_cost(rows) <= budget_ || !split(rows)) {
      out_.push_back({rows, std::move(payload), total});
    }
  }

  // False if this is one value that has no parts.
  bool split(std::span<const BatchRow> rows) {
    if (rows.size() > 1) {
      block(rows.first(rows.size() / 2));
      block(rows.subspan(rows.size() / 2));
      return true;
    }
    const auto* profile = std::get_if<Profile>(rows[0].value);
    if (profile == nullptr) return false;
    size_t stacks = 0;
    for (const Profile::Node& node : profile->nodes()) stacks += node.self > 0 ? 1 : 0;
    if (stacks < 2) return false;
    for (Profile& part : profile->split((stacks + 1) / 2)) {
      const Value& kept = *parts_.emplace_back(std::make_unique<Value>(std::move(part)));
      const BatchRow& row = *part_rows_.emplace_back(
          std::make_unique<BatchRow>(BatchRow{rows[0].metric, rows[0].labels, &kept}));
      block({&row, 1});
    }
    return true;
  }

  size_t budget_;
  std::vector<Block>& out_;
  std::vector<std::unique_ptr<Value>> parts_;  // what blocks of split rows point to
  std::vector<std::unique_ptr<BatchRow>> part_rows_;
};

wire::Batch* mutable_batch(Bytes& body) {
  return flatbuffers::GetMutableSizePrefixedRoot<wire::Batch>(body.data());
}

// One batch being filled: columns as schemas/batch.fbs names them.
class Columns {
 public:
  explicit Columns(const BatchHead& head) : head_(head) {
    for (const auto& [name, value] : head.common_labels) {
      bytes_ += text_cost(name) + text_cost(value) + kPairBytes;
      common_labels_.push_back(string(name));
      common_labels_.push_back(string(value));
    }
  }

  [[nodiscard]] bool empty() const { return row_set_.empty() && manifest_.empty(); }

  // Bytes this block adds at most; text that is here already is free.
  [[nodiscard]] size_t cost(const Block& block) const {
    const Metric& metric = *block.rows[0].metric;
    size_t bytes = block.payload.size() + kBlockBytes + kMetricBytes + text_cost(metric.name) +
                   text_cost(metric.unit);
    for (const BatchRow& row : block.rows) {
      bytes += kRowBytes;
      for (const auto& [name, value] : *row.labels) {
        bytes += kPairBytes + text_cost(name) + text_cost(value);
      }
    }
    return bytes;
  }

  [[nodiscard]] bool fits(const Block& block, size_t target) const {
    constexpr BatchLimits kLimits;
    return bytes_ + cost(block) <= target &&
           row_set_.size() + block.rows.size() <= kLimits.max_rows &&
           metric_name_.size() < kLimits.max_metrics &&
           label_bytes_ + decoded_cost(block) <= kLimits.max_label_bytes;
  }

  void add(const Block& block) {
    bytes_ += cost(block);
    label_bytes_ += decoded_cost(block);
    mass_ += block.mass;
    block_metric_.push_back(metric(*block.rows[0].metric));
    block_rows_.push_back(static_cast<uint16_t>(block.rows.size()));
    for (const BatchRow& row : block.rows) row_set_.push_back(label_set(*row.labels));
    const auto* payload = reinterpret_cast<const uint8_t*>(block.payload.data());
    payload_.insert(payload_.end(), payload, payload + block.payload.size());
    payload_end_.push_back(static_cast<uint32_t>(payload_.size()));
  }

  // As many entries from the front as fit; at least one into an empty batch.
  size_t add_manifest(std::span<const ManifestEntry> entries, size_t target) {
    const size_t room = bytes_ < target ? (target - bytes_) / kEntryBytes : 0;
    const size_t taken = std::min(entries.size(), std::max<size_t>(room, empty() ? 1 : 0));
    manifest_ = entries.first(taken);
    return taken;
  }

  [[nodiscard]] EncodedBatch finish() const {
    std::vector<uint8_t> sources;
    std::vector<uint8_t> lost;
    std::vector<uint64_t> masses;
    std::vector<uint64_t> cums;
    std::vector<uint64_t> epochs;
    std::vector<uint64_t> los;
    std::vector<uint64_t> his;
    for (const auto& [range, mass, cum_mass, is_lost] : manifest_) {
      for (const std::byte b : range.source) sources.push_back(static_cast<uint8_t>(b));
      masses.push_back(mass);
      cums.push_back(cum_mass);
      lost.push_back(is_lost ? 1 : 0);
      epochs.push_back(range.epoch);
      los.push_back(range.lo);
      his.push_back(range.hi);
    }
    flatbuffers::FlatBufferBuilder out(bytes_ + kEntryBytes * manifest_.size());
    out.ForceDefaults(true);  // what is stamped later has its place
    const auto root = wire::CreateBatchDirect(
        out, head_.window.start_s, head_.window.width_s, mass_, &text_, &string_end_,
        &common_labels_, &metric_name_, &metric_kind_, &metric_unit_, &metric_quantum_,
        &set_labels_, &set_end_, &block_metric_, &block_rows_, &payload_, &payload_end_, &row_set_,
        &sources, &epochs, &los, &his, &masses, &cums, &lost);
    wire::FinishSizePrefixedBatchBuffer(out, root);
    const auto* bytes = reinterpret_cast<const std::byte*>(out.GetBufferPointer());
    WEIR_CHECK(out.GetSize() <= kBatchMaxBytes);
    return {.body = Bytes(bytes, bytes + out.GetSize()), .mass = mass_, .rows = row_set_.size()};
  }

 private:
  [[nodiscard]] size_t text_cost(const std::string& text) const {
    return strings_.contains(text) ? 0 : text.size() + kStringBytes;
  }

  [[nodiscard]] size_t decoded_cost(const Block& block) const {
    size_t bytes = block.rows.size() * decoded_bytes(head_.common_labels);
    for (const BatchRow& row : block.rows) bytes += decoded_bytes(*row.labels);
    return bytes;
  }

  uint32_t string(const std::string& text) {
    const auto [at, is_new] = strings_.try_emplace(text, static_cast<uint32_t>(strings_.size()));
    if (is_new) {
      text_.insert(text_.end(), text.begin(), text.end());
      string_end_.push_back(static_cast<uint32_t>(text_.size()));
    }
    return at->second;
  }

  uint32_t metric(const Metric& metric) {
    const auto [at, is_new] = metrics_.try_emplace(&metric, static_cast<uint32_t>(metrics_.size()));
    if (is_new) {
      metric_name_.push_back(string(metric.name));
      metric_kind_.push_back(static_cast<uint8_t>(metric.kind));
      metric_unit_.push_back(string(metric.unit));
      metric_quantum_.push_back(metric.quantum);
    }
    return at->second;
  }

  uint32_t label_set(const Labels& labels) {
    std::vector<uint32_t> pairs;
    for (const auto& [name, value] : labels) {
      pairs.push_back(string(name));
      pairs.push_back(string(value));
    }
    const auto [at, is_new] = sets_.try_emplace(pairs, static_cast<uint32_t>(sets_.size()));
    if (is_new) {
      set_labels_.insert(set_labels_.end(), pairs.begin(), pairs.end());
      set_end_.push_back(static_cast<uint32_t>(set_labels_.size()));
    }
    return at->second;
  }

  struct ByContent {
    bool operator()(const Metric* a, const Metric* b) const { return *a < *b; }
  };

  const BatchHead& head_;
  size_t bytes_ = kFixedBytes;  // an upper bound of the encoded size, without the manifest
  size_t label_bytes_ = 0;
  uint64_t mass_ = 0;
  std::unordered_map<std::string_view, uint32_t, TextHash>
      strings_;  // views into the caller's rows
  std::map<const Metric*, uint32_t, ByContent> metrics_;
  std::map<std::vector<uint32_t>, uint32_t> sets_;
  std::span<const ManifestEntry> manifest_;
  std::vector<uint8_t> text_, metric_kind_, payload_;
  std::vector<int8_t> metric_quantum_;
  std::vector<uint16_t> block_rows_;
  std::vector<uint32_t> string_end_, common_labels_, metric_name_, metric_unit_, set_labels_,
      set_end_, block_metric_, payload_end_, row_set_;
};

}  // namespace

std::vector<EncodedBatch> encode_batches(const BatchHead& head, std::span<const BatchRow> rows,
                                         size_t target_bytes) {
  WEIR_CHECK(target_bytes <= kBatchMaxBytes / 2);  // one row more than the target still fits
  std::vector<BatchRow> sorted(rows.begin(), rows.end());
  // Stable: equal series keep the caller's order, so equal input gives equal bytes.
  std::stable_sort(sorted.begin(), sorted.end(), [](const BatchRow& a, const BatchRow& b) {
    return std::tie(*a.metric, *a.labels) < std::tie(*b.metric, *b.labels);
  });
  // What every batch carries beside its rows; no room left means blocks of one row.
  const BatchRow common{nullptr, &head.common_labels, nullptr};
  const size_t carried =
      kFixedBytes + kMetricBytes + kBlockBytes + 2 * kMaxLabelText + label_cost({&common, 1});
  std::vector<Block> blocks;
  Cutter cutter(target_bytes > carried ? target_bytes - carried : 0, blocks);
  cutter.cut(sorted);

  std::vector<EncodedBatch> out;
  auto batch = std::make_unique<Columns>(head);
  const auto next = [&] {
    out.push_back(batch->finish());
    batch = std::make_unique<Columns>(head);
  };
  for (const Block& block : blocks) {
    if (!batch->empty() && !batch->fits(block, target_bytes)) next();
    batch->add(block);
  }
  for (std::span<const ManifestEntry> left = head.manifest; !left.empty();) {
    left = left.subspan(batch->add_manifest(left, target_bytes));
    if (!left.empty()) next();
  }
  if (!batch->empty()) out.push_back(batch->finish());
  for (size_t i = 0; i < out.size(); ++i) {
    wire::Batch* root = mutable_batch(out[i].body);
    WEIR_CHECK(root->mutate_part(static_cast<uint32_t>(i)));
    WEIR_CHECK(root->mutate_parts(static_cast<uint32_t>(out.size())));
  }
  return out;
}

void stamp_cum_mass(Bytes& body, uint64_t cum_mass) {
  WEIR_CHECK(mutable_batch(body)->mutate_cum_mass(cum_mass));
}

}  // namespace weir
