#pragma once
// Profile: CPU samples as an integer stack trie. Pure: merge, fold, iterate; no names are looked
// up and nothing is symbolized here.
//
// Owner and thread: one owner, one thread. Promise: total == sum of self over all nodes, always;
// merging adds by path and is order-free. Cost: 24 B a node + a hash slot; strings once per
// distinct frame. Bounded: max_nodes; samples beyond it fold into their parent's "[other]".

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

// Additive quality of a profile; merges by +.
struct ProfileQuality {
  uint64_t lost = 0;        // samples the kernel could not hand over
  uint64_t truncated = 0;   // samples whose stack did not reach the root
  uint64_t unresolved = 0;  // samples with a nameless leaf frame
  friend bool operator==(const ProfileQuality&, const ProfileQuality&) = default;
};

class Profile {
 public:
  struct Node {
    uint32_t parent = 0;  // node 0 is the root
    uint32_t frame = 0;   // index into frames()
    uint64_t self = 0;    // nanoseconds of CPU
  };

  Profile();

  // Adds one stack, root first, of `ns` CPU time and `samples` samples.
  void add(std::span<const Frame> stack, uint64_t ns, uint64_t samples = 1);
  void add_quality(const ProfileQuality& quality);
  Status merge(const Profile& other);  // kLimit if a total would overflow 2^63-1

  [[nodiscard]] uint64_t samples() const;
  [[nodiscard]] uint64_t total_ns() const;
  [[nodiscard]] const ProfileQuality& quality() const;
  [[nodiscard]] std::span<const Node> nodes() const;   // parents before children; [0] is the root
  [[nodiscard]] std::span<const Frame> frames() const; // distinct
  // Visits every node with self > 0 as (stack root first, self ns), in canonical order: children
  // by frame identity, depth first.
  void for_each_stack(
      const std::function<void(std::span<const Frame* const>, uint64_t)>& fn) const;
  [[nodiscard]] size_t memory_bytes() const;

  friend bool operator==(const Profile&, const Profile&);  // same paths, same numbers
};

}  // namespace weir
