// flame_html(): the viewer's page around one profile. The page has no network: its policy allows
// exactly the two inline blocks whose hashes it names.

#include <sodium.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include <fmt/core.h>

#include "cli/profile_tree.h"
#include "cli/viewer.h"

namespace weir::cli {
namespace {

std::string csp_hash(std::string_view block) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(block.data()),
                     block.size());
  std::array<char, 64> base64{};
  sodium_bin2base64(base64.data(), base64.size(), hash.data(), hash.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  return fmt::format("'sha256-{}'", base64.data());
}

// JSON inside a <script> block: "<" could end the block or open a comment, so it never appears.
std::string json_block(const nlohmann::json& value) {
  std::string out;
  for (const char c :
       value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

std::string flame_html(const ProfileTree& tree, const std::string& title) {
  nlohmann::json data;
  data["title"] = title;
  data["quality"] = quality_line(tree);
  data["total"] = tree.total;
  auto& names = data["names"] = nlohmann::json::array();
  auto& modules = data["modules"] = nlohmann::json::array();
  auto& module_of = data["module"] = nlohmann::json::array();
  std::string kinds;
  std::map<std::string, size_t> module_numbers;
  for (const auto& frame : tree.frames) {
    names.push_back(frame.name);
    const auto [at, is_new] = module_numbers.try_emplace(frame.module, modules.size());
    if (is_new) modules.push_back(frame.module);
    module_of.push_back(at->second);
    kinds += frame.kind.empty() ? '?' : frame.kind.front();
  }
  data["kinds"] = kinds;
  uint64_t unit = 0;  // own times are mostly multiples of the sampling period
  for (const auto& node : tree.nodes) unit = std::gcd(unit, node.self);
  data["unit"] = unit = std::max<uint64_t>(unit, 1);
  auto& up = data["up"] = nlohmann::json::array();
  auto& frames = data["frame"] = nlohmann::json::array();
  auto& selfs = data["self"] = nlohmann::json::array();
  for (size_t i = 0; i < tree.nodes.size(); ++i) {
    up.push_back(i - tree.nodes[i].parent);
    frames.push_back(tree.nodes[i].frame);
    selfs.push_back(tree.nodes[i].self / unit);
  }
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src {}; "
      "style-src {}\">\n<title>{}</title>\n<style>{}</style></head>\n<body>\n{}\n"
      "<script type=\"application/json\" id=\"profile\">{}</script>\n<script>{}</script>\n"
      "</body></html>\n",
      csp_hash(kViewerScript), csp_hash(kViewerStyle), html_text(title), kViewerStyle, kViewerBody,
      json_block(data), kViewerScript);
}

}  // namespace weir::cli
