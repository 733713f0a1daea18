#pragma once
// RouteTree: the templates of one service as few routes: a level of too many words becomes "*".
//
// Pure. Owner: RequestLabels; one thread. Promise: label() gives every request exactly one label,
// so routes and __other__ sum to the total at any moment; at most limits.routes labels; nodes come
// out of a room shared by all services. A level with more than limits.words words collapses: those
// with at most 2 % of its requests merge, with all below them, into "*". A route without requests
// for an hour gives its place back. Cost: a map lookup a segment; a collapse and expire() walk the
// nodes below.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace weir::daemon {

struct RouteRoom {
  size_t nodes = 100'000;  // left; about 200 bytes each
};

class RouteTree {
 public:
  struct Limits {
    size_t routes = 100;
    size_t words = 50;  // of a level
  };

  static constexpr std::chrono::minutes kUnused{60};

  struct Node;

  struct Label {
    std::string text;      // empty: no place, so the caller says __other__
    Node* node = nullptr;  // lives until generation() changes
  };

  RouteTree(Limits limits, RouteRoom& room);
  ~RouteTree();
  RouteTree(const RouteTree&) = delete;
  RouteTree& operator=(const RouteTree&) = delete;

  // The route of `n` more requests with this template ("/users/{id}").
  Label label(std::string_view route_template, uint64_t n, MonoTime now);
  // `n` more requests of a label kept since.
  static void used(Node& node, uint64_t n, MonoTime now);
  void expire(MonoTime now);

  // Another number than before: labels given until now may be wrong, and their nodes are gone.
  [[nodiscard]] uint64_t generation() const { return generation_; }

  [[nodiscard]] size_t routes() const { return routes_; }

  [[nodiscard]] std::vector<std::pair<std::string, uint64_t>> list() const;  // route, requests

 private:
  Node& add(Node& parent, std::string_view word);
  void refuse(Node& level, std::string_view word, uint64_t n, MonoTime now);
  void collapse(Node& level);
  void merge(Node& into, std::unique_ptr<Node> from);
  bool expire(Node& node, MonoTime now);  // true: nothing is left of it
  void forget_node();

  Limits limits_;
  RouteRoom& room_;
  std::unique_ptr<Node> root_;
  size_t nodes_ = 0;  // but the root
  size_t routes_ = 0;
  uint64_t generation_ = 0;
};

}  // namespace weir::daemon
