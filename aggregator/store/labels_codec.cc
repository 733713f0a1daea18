#include "aggregator/store/labels_codec.h"

#include <string>

namespace weir::aggregator {

Bytes encode_labels(const Labels& labels) {
  ByteWriter out;
  out.varint(labels.size());
  for (const auto& [name, value] : labels) {
    out.text(name);
    out.text(value);
  }
  return std::move(out).take();
}

namespace {

Error damaged(const char* what) { return {Errc::kIo, std::string("labels: ") + what}; }

}  // namespace

Result<Labels> decode_labels(ByteView bytes) {
  ByteReader in(bytes);
  uint64_t count = 0;
  if (!in.varint(count) || count > in.remaining()) return damaged("bad count");
  Labels labels;
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view name;
    std::string_view value;
    if (!in.text(name, bytes.size()) || !in.text(value, bytes.size()) || value.empty() ||
        (!labels.empty() && labels.back().first >= name)) {
      return damaged("bad pair");
    }
    labels.emplace_back(name, value);
  }
  if (in.remaining() != 0) return damaged("bytes after the last pair");
  return labels;
}

}  // namespace weir::aggregator
