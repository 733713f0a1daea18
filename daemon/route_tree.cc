#include "daemon/route_tree.h"

#include <algorithm>

#include "daemon/routes.h"

namespace weir::daemon {

// One segment of the templates that begin alike.
struct RouteTree::Node {
  std::map<std::string, std::unique_ptr<Node>, std::less<>> children;  // by segment, with its '/'
  std::set<size_t> refused;  // hashes of words without a place, or a full tree would hide a crowd
  uint64_t refused_n = 0;    // their requests, as far as we were told
  MonoTime refused_since{};
  MonoTime last{};
  uint64_t n = 0;          // requests that end here
  bool route = false;      // a label ends here
  bool collapsed = false;  // other words than the children's are "*"
};

namespace {

constexpr uint64_t kHeavy = 50;  // a word of more than one in so many requests of its level stays

std::string_view star_of(std::string_view segment) {
  return segment.starts_with('/') ? std::string_view("/*") : std::string_view("*");
}

// Stands for many words already.
bool is_wild(std::string_view segment) {
  return segment == star_of(segment) ||
         (segment.ends_with(kIdSegment) && segment.size() <= kIdSegment.size() + 1);
}

template <class Node>
uint64_t requests_of(const Node& node) {
  uint64_t n = node.n;
  for (const auto& [word, child] : node.children) n += requests_of(*child);
  return n;
}

template <class Node>
size_t words_of(const Node& level) {
  const auto words = std::ranges::count_if(level.children,
                                           [](const auto& child) { return !is_wild(child.first); });
  return static_cast<size_t>(words) + level.refused.size();
}

template <class Children>
uint64_t lightest_of(const Children& children) {
  uint64_t lightest = 0;
  bool any = false;
  for (const auto& [word, child] : children) {
    if (is_wild(word)) continue;
    const uint64_t n = requests_of(*child);
    lightest = any ? std::min(lightest, n) : n;
    any = true;
  }
  return lightest;
}

size_t hash_of(std::string_view word) { return std::hash<std::string_view>()(word); }

template <class Node>
Node* child_of(const Node& node, std::string_view word) {
  const auto found = node.children.find(word);
  return found == node.children.end() ? nullptr : found->second.get();
}

size_t count_segments(std::string_view rest) {
  size_t n = 0;
  for (; !rest.empty(); ++n) next_segment(rest);
  return n;
}

}  // namespace

RouteTree::RouteTree(Limits limits, RouteRoom& room)
    : limits_(limits), room_(room), root_(std::make_unique<Node>()) {}

RouteTree::~RouteTree() { room_.nodes += nodes_; }

RouteTree::Label RouteTree::label(std::string_view route_template, uint64_t n, MonoTime now) {
  Label out;
  Node* node = root_.get();
  for (std::string_view rest = route_template; !rest.empty();) {
    std::string_view word = next_segment(rest);
    Node* next = child_of(*node, word);
    if (next == nullptr && !is_wild(word)) {
      if (!node->collapsed && words_of(*node) >= limits_.words &&
          !node->refused.contains(hash_of(word))) {
        collapse(*node);
        ++generation_;
      }
      if (node->collapsed) {
        word = star_of(word);
        next = child_of(*node, word);
      }
    }
    if (next == nullptr) {
      if (routes_ >= limits_.routes || count_segments(rest) + 1 > room_.nodes) {
        refuse(*node, word, n, now);
        return {};
      }
      next = &add(*node, word);
    }
    node = next;
    out.text += word;
  }
  if (!node->route) {
    if (routes_ >= limits_.routes) return {};
    node->route = true;
    ++routes_;
  }
  used(*node, n, now);
  out.node = node;
  return out;
}

void RouteTree::used(Node& node, uint64_t n, MonoTime now) {
  node.n += n;
  node.last = now;
}

RouteTree::Node& RouteTree::add(Node& parent, std::string_view word) {
  --room_.nodes;
  ++nodes_;
  parent.refused.erase(hash_of(word));
  auto& place = parent.children[std::string(word)];
  place = std::make_unique<Node>();
  return *place;
}

void RouteTree::refuse(Node& level, std::string_view word, uint64_t n, MonoTime now) {
  if (level.collapsed || is_wild(word)) return;
  if (level.refused.empty()) level.refused_since = now;
  level.refused.insert(hash_of(word));
  level.refused_n += n;
}

void RouteTree::forget_node() {
  ++room_.nodes;
  --nodes_;
}

void RouteTree::collapse(Node& level) {
  level.collapsed = true;
  const uint64_t total = requests_of(level) - level.n + level.refused_n;
  level.refused.clear();
  level.refused_n = 0;
  uint64_t heavy = total / kHeavy + 1;
  auto children = std::move(level.children);
  level.children.clear();
  // With every place taken by heavy words the crowd needs one of theirs.
  if (routes_ >= limits_.routes) heavy = std::max(heavy, lightest_of(children) + 1);
  for (auto& [word, child] : children) {
    const bool stays = is_wild(word) || requests_of(*child) >= heavy;
    auto& place = level.children[stays ? word : std::string(star_of(word))];
    if (place == nullptr) {
      place = std::move(child);
    } else {
      merge(*place, std::move(child));
    }
  }
}

void RouteTree::merge(Node& into, std::unique_ptr<Node> from) {
  into.n += from->n;
  into.last = std::max(into.last, from->last);
  if (into.route && from->route) --routes_;
  into.route |= from->route;
  into.collapsed |= from->collapsed;
  if (into.refused.empty()) into.refused_since = from->refused_since;
  into.refused.merge(from->refused);
  into.refused_n += from->refused_n;
  for (auto& [word, child] : from->children) {
    auto& place = into.children[word];
    if (place == nullptr) {
      place = std::move(child);
    } else {
      merge(*place, std::move(child));
    }
  }
  from.reset();
  forget_node();
  if (into.collapsed || words_of(into) > limits_.words) collapse(into);
}

void RouteTree::expire(MonoTime now) { expire(*root_, now); }

bool RouteTree::expire(Node& node, MonoTime now) {
  std::erase_if(node.children, [&](auto& child) {
    if (!expire(*child.second, now)) return false;
    forget_node();
    ++generation_;
    return true;
  });
  if (node.route && now - node.last > kUnused) {
    node.route = false;
    node.n = 0;
    --routes_;
    ++generation_;
  }
  if (!node.refused.empty() && now - node.refused_since > kUnused) {
    node.refused.clear();
    node.refused_n = 0;
  }
  if (node.children.empty()) node.collapsed = false;
  return !node.route && node.children.empty();
}

std::vector<std::pair<std::string, uint64_t>> RouteTree::list() const {
  std::vector<std::pair<std::string, uint64_t>> out;
  const std::function<void(const Node&, const std::string&)> walk = [&](const Node& node,
                                                                        const std::string& text) {
    if (node.route) out.emplace_back(text, node.n);
    for (const auto& [word, child] : node.children) walk(*child, text + word);
  };
  walk(*root_, "");
  return out;
}

}  // namespace weir::daemon
