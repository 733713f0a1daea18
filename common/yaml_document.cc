#include "common/yaml_document.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>
#include <utility>

#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "common/utf8.h"

namespace weir::yaml {
namespace {

constexpr size_t kShownColumns = 120;

struct Stop {};  // ends yaml-cpp's parse early; never leaves this file

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (;;) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) return lines;
    text.remove_prefix(end + 1);
  }
}

// Columns as an editor counts them: UTF-8 continuation bytes take none.
size_t characters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned>(c) & 0xc0) != 0x80; }));
}

// Optimal string alignment: insertions, deletions, substitutions and swapped neighbours.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  std::vector<size_t> next(b.size() + 1);
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        next[j] = std::min(next[j], before[j - 2] + 1);
      }
    }
    before.swap(row);
    row.swap(next);
  }
  return row[b.size()];
}

Place place(const YAML::Mark& mark) {
  return {static_cast<size_t>(std::max(mark.line, 0)),
          static_cast<size_t>(std::max(mark.column, 0))};
}

// Builds the node tree from yaml-cpp's events and refuses what configuration files do not need.
class Builder final : public YAML::EventHandler {
 public:
  Builder(Document& document, const std::vector<std::string_view>& lines)
      : document_(document), lines_(lines) {}

  [[nodiscard]] Node take() { return std::move(root_).value_or(Node()); }

  void OnDocumentStart(const YAML::Mark&) override {}

  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node = make(mark, anchor, "");
    if (node.type != Node::Type::kRejected) node.type = Node::Type::kEmpty;
    attach(std::move(node));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Node node = make(mark, 0, "");
    reject(node, "aliases are not allowed");
    attach(std::move(node));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = make(mark, anchor, tag);
    node.text = value;
    const char first = source_at(node.at);
    node.plain = first != '"' && first != '\'' && first != '|' && first != '>';
    node.width = node.plain ? characters(value) : quoted_width(node.at, first);
    if (node.type != Node::Type::kRejected) node.type = Node::Type::kText;
    attach(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(make(mark, anchor, tag), Node::Type::kList);
  }

  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(make(mark, anchor, tag), Node::Type::kMap);
  }

  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    bool rejected = false;
    std::optional<Member> pending;       // a key that waits for its value
    std::map<std::string, Place> first;  // where each key was met first
  };

  Node make(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& tag) {
    Node node;
    node.type = Node::Type::kEmpty;
    node.at = place(mark);
    if (++nodes_ > Document::kMaxNodes) {
      document_.unreadable(node.at, fmt::format("more than {} values", Document::kMaxNodes));
      throw Stop{};
    }
    if (anchor != 0) reject(node, "anchors are not allowed");
    // "?" is a plain scalar's own tag, "!" a quoted one's: neither was written in the file.
    if ((!tag.empty() && tag != "?" && tag != "!") || (tag == "!" && source_at(node.at) == '!')) {
      reject(node, "tags are not allowed");
    }
    return node;
  }

  void reject(Node& node, std::string_view why) {
    if (node.type != Node::Type::kRejected) document_.mistake(node.at, 1, why);
    node.type = Node::Type::kRejected;
  }

  void open(Node node, Node::Type type) {
    if (stack_.size() >= Document::kMaxDepth) {
      document_.unreadable(node.at, fmt::format("nested deeper than {}", Document::kMaxDepth));
      throw Stop{};
    }
    const bool rejected = node.type == Node::Type::kRejected;
    node.type = type;
    stack_.push_back({.node = std::move(node), .rejected = rejected, .pending = {}, .first = {}});
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    if (frame.rejected) frame.node.type = Node::Type::kRejected;
    attach(std::move(frame.node));
  }

  void attach(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& top = stack_.back();
    if (top.node.type == Node::Type::kList) {
      top.node.items.push_back(std::move(node));
    } else if (!top.pending) {
      top.pending = key(std::move(node));
    } else {
      add_member(top, *std::exchange(top.pending, std::nullopt), std::move(node));
    }
  }

  // An empty name marks a key that was refused: its value is dropped.
  Member key(Node node) {
    if (node.type == Node::Type::kText && node.plain && node.text == "<<") {
      reject(node, "merge keys are not allowed");
    } else if (node.type == Node::Type::kText && node.text.empty()) {
      reject(node, "a key must not be empty");
    } else if (node.type != Node::Type::kText) {
      reject(node, "a key must be text");
    }
    const bool good = node.type == Node::Type::kText;
    return {
        .key = good ? std::move(node.text) : "", .at = node.at, .width = node.width, .value = {}};
  }

  void add_member(Frame& map, Member member, Node value) {
    if (member.key.empty()) return;
    if (const auto [it, fresh] = map.first.try_emplace(member.key, member.at); !fresh) {
      document_.mistake(
          member.at, member.width,
          fmt::format("{}: repeated key, first on line {}", member.key, it->second.line + 1));
      return;
    }
    // An empty value carries the next token's place: use the key's.
    if (value.type == Node::Type::kEmpty) {
      value.at = member.at;
      value.width = member.width;
    }
    member.value = std::move(value);
    map.node.members.push_back(std::move(member));
  }

  [[nodiscard]] char source_at(Place at) const {
    if (at.line >= lines_.size() || at.column >= lines_[at.line].size()) return '\0';
    return lines_[at.line][at.column];
  }

  [[nodiscard]] size_t quoted_width(Place at, char quote) const {
    if (quote != '"' && quote != '\'') return 1;
    const std::string_view rest = lines_[at.line].substr(at.column);
    const size_t end = rest.find(quote, 1);
    return end == std::string_view::npos ? 1 : characters(rest.substr(0, end + 1));
  }

  Document& document_;
  const std::vector<std::string_view>& lines_;
  std::vector<Frame> stack_;
  std::optional<Node> root_;
  size_t nodes_ = 0;
};

// Only wants to know where a second document begins.
class SecondDocument final : public YAML::EventHandler {
 public:
  Place at;

 private:
  void OnDocumentStart(const YAML::Mark& mark) override { at = place(mark); }

  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}

  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}

  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}

  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}

  void OnSequenceEnd() override {}

  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}

  void OnMapEnd() override {}
};

}  // namespace

Member* Node::find(std::string_view key) {
  const auto it = std::ranges::find(members, key, &Member::key);
  return it == members.end() ? nullptr : &*it;
}

std::string suggestion(std::string_view word, const std::vector<std::string>& known) {
  if (word.size() > 64) return "";
  const size_t close = word.size() <= 4 ? 1 : 2;
  const std::string* best = nullptr;
  size_t best_distance = close + 1;
  for (const auto& candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = &candidate;
      best_distance = distance;
    }
  }
  return best == nullptr ? "" : fmt::format(", did you mean '{}'?", *best);
}

Document::Document(std::string name, std::string text)
    : name_(std::move(name)), text_(std::move(text)) {
  if (text_.starts_with("\xef\xbb\xbf")) text_.erase(0, 3);
  root_.type = Node::Type::kMap;
  if (text_.size() > kMaxBytes) {
    text_.clear();
    unreadable({}, fmt::format("larger than {} KiB", kMaxBytes >> 10));
    return;
  }
  lines_ = split_lines(text_);
  parse();
}

void Document::parse() {
  for (size_t line = 0; line < lines_.size(); ++line) {
    const auto bad = std::ranges::find_if(
        lines_[line], [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\t'; });
    if (bad != lines_[line].end()) {
      const auto column = static_cast<size_t>(bad - lines_[line].begin());
      return unreadable({line, column}, "control characters are not allowed");
    }
    if (!is_utf8(lines_[line])) return unreadable({line, 0}, "this line is not UTF-8");
  }
  try {
    std::istringstream in(text_);
    YAML::Parser parser(in);
    Builder builder(*this, lines_);
    if (!parser.HandleNextDocument(builder)) return;  // empty: everything keeps its default
    Node root = builder.take();
    if (root.type == Node::Type::kText || root.type == Node::Type::kList) {
      return unreadable(root.at, "expected a mapping, like 'key: value'");
    }
    if (root.type == Node::Type::kMap) root_ = std::move(root);
    SecondDocument second;
    if (parser.HandleNextDocument(second)) {
      mistake(second.at, 1, "a second document is not allowed");
    }
  } catch (const YAML::ParserException& e) {
    unreadable(place(e.mark), e.msg);
  } catch (const Stop&) {
    // said where it was thrown
  }
}

void Document::mistake(Place at, size_t width, std::string_view message) {
  mistakes_.push_back({at, width, std::string(message)});
}

// One reason is enough: what follows from it would only hide it.
void Document::unreadable(Place at, std::string_view message) {
  readable_ = false;
  root_.members.clear();
  mistakes_.assign(1, {at, 1, std::string(message)});
}

void Document::reject_unread(Node& node) {
  for (auto& member : node.members) {
    if (!member.read) {
      mistake(member.at, member.width,
              fmt::format("{}: unknown key{}", member.key, suggestion(member.key, node.known)));
    } else if (member.value.type == Node::Type::kMap) {
      reject_unread(member.value);
    } else if (member.value.type == Node::Type::kList) {
      for (auto& item : member.value.items) {
        if (item.type == Node::Type::kMap) reject_unread(item);
      }
    }
  }
}

std::string Document::render(const Mistake& mistake) const {
  const std::string_view line =
      mistake.at.line < lines_.size() ? lines_[mistake.at.line] : std::string_view();
  const size_t byte = std::min(mistake.at.column, line.size());
  const size_t column = characters(line.substr(0, byte));
  std::string out =
      fmt::format("{}:{}:{}: {}", name_, mistake.at.line + 1, column + 1, mistake.message);
  if (line.empty() || byte > kShownColumns) return out;  // nothing to point at
  std::string shown = to_utf8(line, kShownColumns);
  std::ranges::replace_if(
      shown, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  const size_t room = std::max<size_t>(characters(shown), column + 1) - column;
  const std::string number = std::to_string(mistake.at.line + 1);
  out += fmt::format("\n{:>3} | {}\n{:>{}} | {:>{}}{:~<{}}", number, shown, "",
                     std::max<size_t>(number.size(), 3), "", column, "^",
                     std::clamp<size_t>(mistake.width, 1, room));
  return out;
}

Status Document::finish() {
  if (!file_error_.message.empty()) return file_error_;
  if (readable_) reject_unread(root_);
  if (mistakes_.empty()) return {};
  std::ranges::stable_sort(mistakes_, {}, &Mistake::at);
  std::string all;
  for (size_t i = 0; i < std::min(mistakes_.size(), kMaxMistakes); ++i) {
    if (i > 0) all += '\n';
    all += render(mistakes_[i]);
  }
  if (mistakes_.size() > kMaxMistakes) {
    all += fmt::format("\nand {} more mistakes", mistakes_.size() - kMaxMistakes);
  }
  return invalid(std::move(all));
}

}  // namespace weir::yaml
