#pragma once
// Profile: CPU samples as an integer stack trie. Pure: merge, fold, iterate; no names are looked
// up and nothing is symbolized here.
//
// Owner and thread: one owner, one thread; a value type. Promise: total_ns() == sum of self over
// all nodes, always; merging adds by path and is order-free until the bound is met; every leaf has
// self > 0, so equal profiles have one canonical form. Cost: 16 B a node + a hash slot; strings
// once per distinct frame. Bounded: kMaxNodes, kMaxTextBytes, kMaxDepth; what goes beyond folds
// into its parent's "[other]", the total stays exact.

#include <compare>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace weir {

enum class FrameKind : uint8_t { kUser = 1, kKernel = 2, kSpecial = 3 };  // wire values

// A frame's identity: kind, module (file name or build id) and function name.
struct Frame {
  FrameKind kind = FrameKind::kUser;
  std::string module;
  std::string name;
  friend auto operator<=>(const Frame&, const Frame&) = default;
};

inline constexpr std::string_view kOtherFrame = "[other]";      // kSpecial: folded paths
inline constexpr std::string_view kUnknownFrame = "[unknown]";  // kSpecial: an empty stack

// Additive quality of a profile; merges by +.
struct ProfileQuality {
  uint64_t lost = 0;        // samples the kernel could not hand over
  uint64_t truncated = 0;   // samples whose stack did not reach the root
  uint64_t unresolved = 0;  // samples with a nameless leaf frame
  friend bool operator==(const ProfileQuality&, const ProfileQuality&) = default;
};

class Profile {
 public:
  static constexpr size_t kMaxNodes = 500'000;
  static constexpr size_t kMaxTextBytes = size_t{32} << 20;  // all frames together
  static constexpr size_t kMaxFrameText = 1024;              // one module or name
  static constexpr size_t kMaxDepth = 1024;

  struct Node {
    uint32_t parent = 0;  // node 0 is the root, its own parent, without frame or self
    uint32_t frame = 0;   // index into frames()
    uint64_t self = 0;    // nanoseconds of CPU
    friend bool operator==(const Node&, const Node&) = default;
  };

  explicit Profile(size_t max_nodes = kMaxNodes);

  // Adds one stack, root first, of `ns` CPU time and `samples` samples. Text that is not UTF-8 or
  // too long is made so. Aborts if a total passes 2^63-1: the caller counts real time.
  void add(std::span<const Frame> stack, uint64_t ns, uint64_t samples = 1);
  void add_quality(const ProfileQuality& quality);
  // kLimit, and nothing changed, if a total would pass 2^63-1.
  Status merge(const Profile& other);

  [[nodiscard]] uint64_t samples() const { return samples_; }

  [[nodiscard]] uint64_t total_ns() const { return total_; }

  [[nodiscard]] const ProfileQuality& quality() const { return quality_; }

  // Parents before children; [0] is the root. Order of arrival, not canonical.
  [[nodiscard]] std::span<const Node> nodes() const { return nodes_; }

  [[nodiscard]] std::span<const Frame> frames() const { return frames_; }  // distinct

  // Visits every node with self > 0 as (stack root first, self ns), in canonical order: children
  // by frame identity, depth first.
  void for_each_stack(const std::function<void(std::span<const Frame* const>, uint64_t)>& fn) const;
  [[nodiscard]] size_t memory_bytes() const;

  // The one form of these paths, for encoding: frames ascending, each used; nodes depth first with
  // siblings ascending by frame. Node::frame and Node::parent are positions in these vectors;
  // nodes[0] is the root. Pointers live as long as the profile is unchanged.
  struct Canonical {
    std::vector<const Frame*> frames;
    std::vector<Node> nodes;
    friend bool operator==(const Canonical& a, const Canonical& b);
  };

  [[nodiscard]] Canonical canonical() const;

  // The inverse, for decoders: refuses (kInvalid, kLimit) whatever canonical() cannot have given.
  // `samples` and self times are independent: a profile split into parts (split()) carries its
  // samples and quality in the first part only.
  static Result<Profile> rebuild(std::vector<Frame> frames, std::span<const Node> nodes,
                                 uint64_t samples, const ProfileQuality& quality);

  // Parts with disjoint self times of at most max_stacks (>= 1) stacks each, that merge to this.
  [[nodiscard]] std::vector<Profile> split(size_t max_stacks) const;

  friend bool operator==(const Profile& a, const Profile& b);  // same paths, same numbers

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  [[nodiscard]] bool full() const;
  [[nodiscard]] uint32_t find_frame(const Frame& frame) const;  // kNone: unknown
  uint32_t intern_frame(const Frame& frame);
  [[nodiscard]] uint32_t find_child(uint32_t parent, uint32_t frame) const;  // kNone: no such child
  uint32_t new_child(uint32_t parent, uint32_t frame);
  // The child of `parent` for `frame`; the "[other]" that takes its weight when there is no room.
  uint32_t child(uint32_t parent, const Frame& frame);
  uint32_t other_child(uint32_t parent);
  [[nodiscard]] bool is_other(uint32_t node) const;

  size_t max_nodes_;
  std::vector<Node> nodes_;
  std::vector<Frame> frames_;
  std::vector<uint32_t> node_slots_;   // open addressing on (parent, frame): node, 0 = empty
  std::vector<uint32_t> frame_slots_;  // open addressing on frame bytes: frame + 1, 0 = empty
  size_t text_bytes_ = 0;
  uint32_t other_frame_ = kNone;
  uint64_t samples_ = 0;
  uint64_t total_ = 0;
  ProfileQuality quality_;
};

}  // namespace weir
