// Profiles in a block.

#include <vector>

#include "common/block_columns.h"
#include "common/check.h"

namespace weir::block {

namespace {

enum ProfileColumn : size_t {
  kSamples = 1,
  kLost,
  kTruncated,
  kUnresolved,
  kFrames,      // of this row's dictionary
  kFrameKinds,  // one byte a frame
  kFrameTexts,  // module and name, each length-prefixed, frames ascending
  kNodes,       // without the root; depth first, siblings ascending by frame
  kParentDelta,
  kFrame,
  kSelf,
};

}  // namespace

const Layout kProfileLayout = {kAbsent,           Encoding::kVarint, Encoding::kVarint,
                               Encoding::kVarint, Encoding::kVarint, Encoding::kVarint,
                               Encoding::kBytes,  Encoding::kBytes,  Encoding::kVarint,
                               Encoding::kVarint, Encoding::kVarint, Encoding::kVarint};

void encode_row(const Profile& profile, Columns& columns) {
  const auto form = profile.canonical();
  columns[kSamples].varint(profile.samples());
  columns[kLost].varint(profile.quality().lost);
  columns[kTruncated].varint(profile.quality().truncated);
  columns[kUnresolved].varint(profile.quality().unresolved);
  columns[kFrames].varint(form.frames.size());
  for (const Frame* frame : form.frames) {
    columns[kFrameKinds].put(frame->kind);
    columns[kFrameTexts].text(frame->module);
    columns[kFrameTexts].text(frame->name);
  }
  columns[kNodes].varint(form.nodes.size() - 1);
  for (size_t i = 1; i < form.nodes.size(); ++i) {
    const Profile::Node& node = form.nodes[i];
    columns[kParentDelta].varint(i - node.parent);
    columns[kFrame].varint(node.frame);
    columns[kSelf].varint(node.self);
  }
}

// Every frame and node takes at least one byte of its column, so neither count is trusted.
Result<Value> decode_profile(Readers& columns) {
  uint64_t samples = 0;
  ProfileQuality quality;
  uint64_t frame_count = 0;
  uint64_t node_count = 0;
  ByteView kinds;
  if (!columns[kSamples].varint(samples) || !columns[kLost].varint(quality.lost) ||
      !columns[kTruncated].varint(quality.truncated) ||
      !columns[kUnresolved].varint(quality.unresolved) || !columns[kFrames].varint(frame_count) ||
      !columns[kFrameKinds].view(frame_count, kinds) || !columns[kNodes].varint(node_count)) {
    return damaged();
  }
  std::vector<Frame> frames;
  for (const std::byte kind : kinds) {
    Frame& frame = frames.emplace_back();
    frame.kind = static_cast<FrameKind>(kind);
    if (kind < std::byte{1} || kind > std::byte{3} ||
        !columns[kFrameTexts].text(frame.module, Profile::kMaxFrameText) ||
        !columns[kFrameTexts].text(frame.name, Profile::kMaxFrameText)) {
      return damaged();
    }
  }
  std::vector<Profile::Node> nodes(1);
  for (uint64_t i = 1; i <= node_count; ++i) {
    uint64_t delta = 0;
    uint64_t frame = 0;
    Profile::Node& node = nodes.emplace_back();
    if (!columns[kParentDelta].varint(delta) || !columns[kFrame].varint(frame) ||
        !columns[kSelf].varint(node.self) || delta == 0 || delta > i || frame >= frames.size()) {
      return damaged();
    }
    node.parent = static_cast<uint32_t>(i - delta);
    node.frame = static_cast<uint32_t>(frame);
  }
  WEIR_TRY_ASSIGN(auto profile, Profile::rebuild(std::move(frames), nodes, samples, quality));
  return Value(std::move(profile));
}

}  // namespace weir::block
