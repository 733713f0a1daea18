#include "cli/profile_tree.h"

#include <fmt/core.h>

#include "cli/json_fields.h"
#include "cli/terminal.h"

namespace weir::cli {
namespace {

using nlohmann::json;

Error malformed(const char* what) {
  return {Errc::kInternal, std::string("the server's profile is malformed: ") + what};
}

Result<std::vector<uint64_t>> column(const json& nodes, const char* key) {
  const json& array = field(nodes, key);
  if (!array.is_array()) return malformed("a column is missing");
  std::vector<uint64_t> values;
  values.reserve(array.size());
  for (const auto& value : array) {
    if (!value.is_number_unsigned()) return malformed("a column holds no unsigned integer");
    values.push_back(value.get<uint64_t>());
  }
  return values;
}

// A frame as one path element of the folded format.
std::string folded_name(const ProfileFrame& frame) {
  std::string name = printable(frame.name.empty() ? frame.module : frame.name);
  for (char& c : name) {
    if (c == ';') c = ':';
  }
  return frame.kind == "kernel" ? name + "_[k]" : name;
}

}  // namespace

Result<ProfileTree> parse_profile(const json& data) {
  if (!data.is_object()) return malformed("no object");
  ProfileTree tree;
  tree.unit = text_field(data, "unit");
  tree.total = natural_field(data, "total");
  tree.samples = natural_field(data, "samples");
  tree.hosts = natural_field(data, "hosts");
  const json& quality = field(data, "quality");
  tree.lost = natural_field(quality, "lost");
  tree.truncated = natural_field(quality, "truncated");
  tree.unresolved = natural_field(quality, "unresolved");
  const json& frames = field(data, "frames");
  const json& nodes = field(data, "nodes");
  if (!frames.is_array()) return malformed("no frames");
  for (const auto& frame : frames) {
    if (!frame.is_object()) return malformed("a frame is no object");
    tree.frames.push_back(
        {text_field(frame, "kind"), text_field(frame, "module"), text_field(frame, "name")});
  }
  WEIR_TRY_ASSIGN(const auto parents, column(nodes, "parent"));
  WEIR_TRY_ASSIGN(const auto frame_ids, column(nodes, "frame"));
  WEIR_TRY_ASSIGN(const auto selfs, column(nodes, "self"));
  if (parents.size() != frame_ids.size() || parents.size() != selfs.size()) {
    return malformed("columns differ in length");
  }
  for (size_t i = 0; i < parents.size(); ++i) {
    if (i > 0 && (parents[i] >= i || frame_ids[i] >= tree.frames.size())) {
      return malformed("an index is out of range");
    }
    tree.nodes.push_back({static_cast<uint32_t>(i > 0 ? parents[i] : 0),
                          static_cast<uint32_t>(i > 0 ? frame_ids[i] : 0), selfs[i]});
  }
  return tree;
}

std::string quality_line(const ProfileTree& tree) {
  const auto percent = [&](uint64_t part) {
    return tree.samples == 0
               ? 0.0
               : 100.0 * static_cast<double>(part) / static_cast<double>(tree.samples);
  };
  const std::string hosts =
      tree.hosts == 0 ? "hosts not kept at this tier" : fmt::format("hosts {}", tree.hosts);
  return fmt::format(
      "samples {}, CPU {:.2f} s, {}, truncated {:.1f} %, unresolved {:.1f} %, lost {}",
      tree.samples, static_cast<double>(tree.total) / 1e9, hosts, percent(tree.truncated),
      percent(tree.unresolved), tree.lost);
}

std::string folded(const ProfileTree& tree) {
  std::string out;
  std::vector<std::string> paths(tree.nodes.size());
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    const ProfileNode& node = tree.nodes[i];
    if (i > 0) {
      const std::string& parent = paths[node.parent];
      const std::string name = folded_name(tree.frames[node.frame]);
      paths[i] = parent.empty() ? name : parent + ";" + name;
    }
    if (node.self > 0) {
      out += fmt::format("{} {}\n", paths[i].empty() ? "[root]" : paths[i], node.self);
    }
  }
  return out;
}

}  // namespace weir::cli
