#pragma once
// ProfileTree: a profile as /api/v1/profile answers it, validated, for the writers below.
//
// Pure values. Promise: parents precede children and every index is in range, whatever the server
// sent; names are untrusted text and every writer escapes them for its own format.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "common/result.h"

namespace weir::cli {

struct ProfileFrame {
  std::string kind;  // "user", "kernel", "special"
  std::string module;
  std::string name;
};

struct ProfileNode {
  uint32_t parent = 0;
  uint32_t frame = 0;
  uint64_t self = 0;
};

struct ProfileTree {
  std::string unit;
  uint64_t total = 0;
  uint64_t samples = 0;
  uint64_t lost = 0;
  uint64_t truncated = 0;
  uint64_t unresolved = 0;
  uint64_t hosts = 0;
  std::vector<ProfileFrame> frames;
  std::vector<ProfileNode> nodes;  // [0] is the root
};

[[nodiscard]] Result<ProfileTree> parse_profile(const nlohmann::json& data);

// "samples 1234, CPU 12.3 s, hosts 1, truncated 0.1 %, unresolved 2.0 %": on every output.
[[nodiscard]] std::string quality_line(const ProfileTree& tree);

// One line per stack with own time, root first: "a;b;c_[k] 123". ';' and control characters in
// names are replaced, so a line always splits right.
[[nodiscard]] std::string folded(const ProfileTree& tree);

// A page without network: canvas flame graph with zoom and search (cli/viewer). Names reach the
// page only as JSON data and are drawn as text.
[[nodiscard]] std::string flame_html(const ProfileTree& tree, const std::string& title);

}  // namespace weir::cli
