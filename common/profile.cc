#include "common/profile.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"
#include "common/hash.h"
#include "common/utf8.h"

namespace weir {

namespace {

constexpr uint64_t kMaxTotal = (uint64_t{1} << 63) - 1;

bool fits(uint64_t a, uint64_t b) { return a <= kMaxTotal && b <= kMaxTotal - a; }

uint64_t hash_frame(const Frame& frame) {
  const uint64_t module = hash64(as_bytes(frame.module), process_seed());
  return hash64(as_bytes(frame.name), module + static_cast<uint64_t>(frame.kind));
}

uint64_t hash_node(uint32_t parent, uint32_t frame) {
  return hash64(uint64_t{parent} << 32 | frame, process_seed());
}

// Makes room so that the table stays at most half full with `entries` entries.
void grow_slots(std::vector<uint32_t>& slots, size_t entries) {
  size_t size = std::max<size_t>(slots.size(), 16);
  while (size < 2 * entries) size *= 2;
  slots.assign(size, 0);
}

void put_slot(std::vector<uint32_t>& slots, uint64_t hash, uint32_t value) {
  const size_t mask = slots.size() - 1;
  size_t at = hash & mask;
  while (slots[at] != 0) at = (at + 1) & mask;
  slots[at] = value;
}

}  // namespace

Profile::Profile(size_t max_nodes) : max_nodes_(max_nodes), nodes_(1) {
  WEIR_CHECK(max_nodes >= 16 && max_nodes <= kMaxNodes);
}

// An eighth of the nodes is kept for the "[other]" nodes that appear once this is true.
bool Profile::full() const {
  return nodes_.size() >= max_nodes_ - max_nodes_ / 8 || text_bytes_ >= kMaxTextBytes;
}

uint32_t Profile::find_frame(const Frame& frame) const {
  if (frame_slots_.empty()) return kNone;
  const size_t mask = frame_slots_.size() - 1;
  for (size_t at = hash_frame(frame) & mask; frame_slots_[at] != 0; at = (at + 1) & mask) {
    if (frames_[frame_slots_[at] - 1] == frame) return frame_slots_[at] - 1;
  }
  return kNone;
}

uint32_t Profile::intern_frame(const Frame& frame) {
  if (const uint32_t found = find_frame(frame); found != kNone) return found;
  if (frame.kind == FrameKind::kSpecial && frame.name == kOtherFrame && frame.module.empty()) {
    other_frame_ = static_cast<uint32_t>(frames_.size());
  }
  frames_.push_back(frame);
  text_bytes_ += frame.module.size() + frame.name.size();
  if (2 * frames_.size() > frame_slots_.size()) {
    grow_slots(frame_slots_, 2 * frames_.size());
    for (uint32_t i = 0; i < frames_.size(); ++i) {
      put_slot(frame_slots_, hash_frame(frames_[i]), i + 1);
    }
  } else {
    put_slot(frame_slots_, hash_frame(frame), static_cast<uint32_t>(frames_.size()));
  }
  return static_cast<uint32_t>(frames_.size() - 1);
}

uint32_t Profile::find_child(uint32_t parent, uint32_t frame) const {
  if (node_slots_.empty()) return kNone;
  const size_t mask = node_slots_.size() - 1;
  for (size_t at = hash_node(parent, frame) & mask; node_slots_[at] != 0; at = (at + 1) & mask) {
    const Node& node = nodes_[node_slots_[at]];
    if (node.parent == parent && node.frame == frame) return node_slots_[at];
  }
  return kNone;
}

uint32_t Profile::new_child(uint32_t parent, uint32_t frame) {
  const auto id = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({.parent = parent, .frame = frame, .self = 0});
  if (2 * nodes_.size() > node_slots_.size()) {
    grow_slots(node_slots_, 2 * nodes_.size());
    for (uint32_t i = 1; i < nodes_.size(); ++i) {
      put_slot(node_slots_, hash_node(nodes_[i].parent, nodes_[i].frame), i);
    }
  } else {
    put_slot(node_slots_, hash_node(parent, frame), id);
  }
  return id;
}

bool Profile::is_other(uint32_t node) const {
  return node != 0 && nodes_[node].frame == other_frame_;
}

uint32_t Profile::child(uint32_t parent, const Frame& frame) {
  if (is_other(parent)) return parent;  // what fell into "[other]" stays there
  if (const uint32_t known = find_frame(frame); known != kNone) {
    if (const uint32_t found = find_child(parent, known); found != kNone) return found;
  }
  return full() ? other_child(parent) : new_child(parent, intern_frame(frame));
}

// A node without an "[other]" of its own when even those ran out lends its ancestor's: the path is
// shorter, the total exact. No leaf is left empty: a node made while !full() still finds room here.
uint32_t Profile::other_child(uint32_t parent) {
  if (other_frame_ == kNone) intern_frame({FrameKind::kSpecial, "", std::string(kOtherFrame)});
  for (;; parent = nodes_[parent].parent) {
    if (is_other(parent)) return parent;
    if (const uint32_t found = find_child(parent, other_frame_); found != kNone) return found;
    if (parent == 0 || nodes_.size() < max_nodes_) return new_child(parent, other_frame_);
  }
}

void Profile::add(std::span<const Frame> stack, uint64_t ns, uint64_t samples) {
  WEIR_CHECK(fits(total_, ns) && fits(samples_, samples));
  samples_ += samples;
  total_ += ns;
  if (ns == 0) return;  // a leaf without weight is no path
  static const Frame kUnknown{FrameKind::kSpecial, "", std::string(kUnknownFrame)};
  if (stack.empty()) stack = {&kUnknown, 1};
  uint32_t node = 0;
  for (size_t depth = 0; depth < stack.size(); ++depth) {
    const Frame& frame = stack[depth];
    if (depth + 1 == kMaxDepth && stack.size() > kMaxDepth) {
      node = other_child(node);
      break;
    }
    if (is_utf8(frame.module) && is_utf8(frame.name) && frame.module.size() <= kMaxFrameText &&
        frame.name.size() <= kMaxFrameText) {
      node = child(node, frame);
    } else {
      node = child(node, {frame.kind, to_utf8(frame.module, kMaxFrameText),
                          to_utf8(frame.name, kMaxFrameText)});
    }
  }
  nodes_[node].self += ns;
}

void Profile::add_quality(const ProfileQuality& quality) {
  quality_.lost += quality.lost;
  quality_.truncated += quality.truncated;
  quality_.unresolved += quality.unresolved;
}

Status Profile::merge(const Profile& other) {
  if (!fits(total_, other.total_) || !fits(samples_, other.samples_)) {
    return Error{Errc::kLimit, "a profile's total would pass 2^63-1"};
  }
  std::vector<uint32_t> here(other.nodes_.size(), 0);  // other's node -> mine
  for (size_t i = 1; i < here.size(); ++i) {
    const Node node = other.nodes_[i];
    here[i] = child(here[node.parent], other.frames_[node.frame]);
    nodes_[here[i]].self += node.self;
  }
  samples_ += other.samples_;
  total_ += other.total_;
  add_quality(other.quality_);
  return {};
}

Profile::Canonical Profile::canonical() const {
  Canonical out;
  std::vector<uint32_t> order(frames_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return frames_[a] < frames_[b]; });
  std::vector<uint32_t> rank(frames_.size());
  out.frames.reserve(order.size());
  for (const uint32_t frame : order) {
    rank[frame] = static_cast<uint32_t>(out.frames.size());
    out.frames.push_back(&frames_[frame]);
  }
  // Children by (parent, rank), then a walk with an explicit stack: depth is the world's choice.
  std::vector<uint32_t> children(nodes_.size() - 1);
  std::iota(children.begin(), children.end(), 1U);
  std::sort(children.begin(), children.end(), [&](uint32_t a, uint32_t b) {
    return nodes_[a].parent != nodes_[b].parent ? nodes_[a].parent < nodes_[b].parent
                                                : rank[nodes_[a].frame] < rank[nodes_[b].frame];
  });
  std::vector<uint32_t> first(nodes_.size() + 1, 0);  // children of n: [first[n], first[n + 1])
  for (const uint32_t node : children) ++first[nodes_[node].parent + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  out.nodes.reserve(nodes_.size());
  std::vector<std::pair<uint32_t, uint32_t>> pending{{0, 0}};  // node, canonical parent
  while (!pending.empty()) {
    const auto [node, parent] = pending.back();
    pending.pop_back();
    const auto at = static_cast<uint32_t>(out.nodes.size());
    const uint32_t frame = node == 0 ? 0 : rank[nodes_[node].frame];
    out.nodes.push_back({.parent = parent, .frame = frame, .self = nodes_[node].self});
    for (uint32_t i = first[node + 1]; i > first[node]; --i) {
      pending.emplace_back(children[i - 1], at);
    }
  }
  return out;
}

bool operator==(const Profile::Canonical& a, const Profile::Canonical& b) {
  return a.nodes == b.nodes &&
         std::equal(a.frames.begin(), a.frames.end(), b.frames.begin(), b.frames.end(),
                    [](const Frame* x, const Frame* y) { return *x == *y; });
}

Result<Profile> Profile::rebuild(std::vector<Frame> frames, std::span<const Node> nodes,
                                 uint64_t samples, const ProfileQuality& quality) {
  // A fold may overshoot by the root's own "[other]".
  if (nodes.size() > kMaxNodes + 1) return Error{Errc::kLimit, "profile: too many nodes"};
  if (nodes.empty() || nodes[0] != Node{}) return invalid("profile: no root");
  if (samples > kMaxTotal) return Error{Errc::kLimit, "profile: samples out of range"};
  for (size_t i = 0; i < frames.size(); ++i) {
    const Frame& f = frames[i];
    if (f.kind != FrameKind::kUser && f.kind != FrameKind::kKernel &&
        f.kind != FrameKind::kSpecial) {
      return invalid("profile: unknown frame kind");
    }
    if (f.module.size() > kMaxFrameText || f.name.size() > kMaxFrameText) {
      return Error{Errc::kLimit, "profile: frame text too long"};
    }
    if (!is_utf8(f.module) || !is_utf8(f.name)) return invalid("profile: frame is not UTF-8");
    if (i > 0 && !(frames[i - 1] < f)) return invalid("profile: frames not ascending");
  }

  Profile out;
  out.samples_ = samples;
  out.quality_ = quality;
  for (const Frame& f : frames) out.intern_frame(f);
  std::vector<bool> used(frames.size(), false);
  // The path of the walk: (node, last child's frame + 1).
  std::vector<std::pair<uint32_t, uint64_t>> path{{0, 0}};
  for (uint32_t i = 1; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    if (node.frame >= frames.size()) return invalid("profile: frame out of range");
    if (node.parent >= i) return invalid("profile: parent after child");
    if (out.is_other(node.parent)) return invalid("profile: [other] has children");
    if (node.parent != i - 1 && nodes[i - 1].self == 0) return invalid("profile: empty leaf");
    while (path.back().first > node.parent) path.pop_back();
    if (path.back().first != node.parent) return invalid("profile: not depth first");
    if (node.frame < path.back().second) return invalid("profile: siblings not ascending");
    path.back().second = uint64_t{node.frame} + 1;
    if (path.size() > kMaxDepth) return Error{Errc::kLimit, "profile: too deep"};
    path.emplace_back(i, 0);
    if (!fits(out.total_, node.self)) return Error{Errc::kLimit, "profile: total out of range"};
    out.total_ += node.self;
    used[node.frame] = true;
    out.new_child(node.parent, node.frame);
    out.nodes_.back().self = node.self;
  }
  if (nodes.size() > 1 && nodes.back().self == 0) return invalid("profile: empty leaf");
  if (!std::all_of(used.begin(), used.end(), [](bool u) { return u; })) {
    return invalid("profile: unused frame");
  }
  return out;
}

void Profile::for_each_stack(
    const std::function<void(std::span<const Frame* const>, uint64_t)>& fn) const {
  const Canonical walk = canonical();
  std::vector<uint32_t> path;       // nodes from the first level down
  std::vector<const Frame*> stack;  // their frames
  for (uint32_t i = 1; i < walk.nodes.size(); ++i) {
    const Node& node = walk.nodes[i];
    while (!path.empty() && path.back() != node.parent) {
      path.pop_back();
      stack.pop_back();
    }
    path.push_back(i);
    stack.push_back(walk.frames[node.frame]);
    if (node.self > 0) fn(stack, node.self);
  }
}

std::vector<Profile> Profile::split(size_t max_stacks) const {
  WEIR_CHECK(max_stacks > 0);
  std::vector<Profile> parts(1);
  size_t stacks = 0;
  std::vector<Frame> copy;
  for_each_stack([&](std::span<const Frame* const> stack, uint64_t self) {
    if (stacks++ == max_stacks) {
      parts.emplace_back();
      stacks = 1;
    }
    copy.clear();
    for (const Frame* frame : stack) copy.push_back(*frame);
    parts.back().add(copy, self, 0);
  });
  parts[0].samples_ = samples_;
  parts[0].quality_ = quality_;
  return parts;
}

size_t Profile::memory_bytes() const {
  return sizeof *this + nodes_.capacity() * sizeof(Node) + frames_.capacity() * sizeof(Frame) +
         (node_slots_.capacity() + frame_slots_.capacity()) * sizeof(uint32_t) + text_bytes_;
}

bool operator==(const Profile& a, const Profile& b) {
  return a.samples_ == b.samples_ && a.total_ == b.total_ && a.quality_ == b.quality_ &&
         a.canonical() == b.canonical();
}

}  // namespace weir
