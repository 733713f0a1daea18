#pragma once
// The parsed shape of one YAML file and the mistakes found in it: YamlReader's inside.
//
// Owner: a YamlReader. Promise: built from any bytes without throwing; nodes keep their places.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace weir::yaml {

// Zero-based; columns in bytes.
struct Place {
  size_t line = 0;
  size_t column = 0;
  friend auto operator<=>(const Place&, const Place&) = default;
};

// kRejected: a mistake was reported already, so reading it is silent.
enum class NodeType : uint8_t { kRejected, kEmpty, kText, kList, kMap };

struct Member;

struct Node {
  using Type = NodeType;
  Type type = Type::kRejected;
  Place at;
  size_t width = 1;   // of its source text, for the caret
  bool plain = true;  // text without quotes
  std::string text;
  std::vector<Node> items;
  std::vector<Member> members;
  std::vector<std::string> known;  // keys the program asked for, for suggestions

  [[nodiscard]] Member* find(std::string_view key);
};

struct Member {
  std::string key;
  Place at;
  size_t width = 1;
  Node value;
  bool read = false;
};

class Document {
 public:
  Document(std::string name, std::string text);

  [[nodiscard]] Node& root() { return root_; }

  // False when the text is no YAML: its values must not be judged.
  [[nodiscard]] bool readable() const { return readable_; }

  void mistake(Place at, size_t width, std::string_view message);
  void unreadable(Place at, std::string_view message);

  void set_file_error(Error error) { file_error_ = std::move(error); }

  Status finish();  // rejects keys never read; all mistakes, sorted, as one Error

  // The limits of a configuration file.
  static constexpr size_t kMaxBytes = size_t{1} << 20;
  static constexpr size_t kMaxNodes = 20'000;
  static constexpr size_t kMaxDepth = 16;
  static constexpr size_t kMaxMistakes = 100;

 private:
  struct Mistake {
    Place at;
    size_t width;
    std::string message;
  };

  void parse();
  void reject_unread(Node& node);
  [[nodiscard]] std::string render(const Mistake& mistake) const;

  std::string name_;
  std::string text_;
  std::vector<std::string_view> lines_;
  Node root_;
  bool readable_ = true;
  std::vector<Mistake> mistakes_;
  Error file_error_{Errc::kInvalid, ""};
};

// ", did you mean 'host'?" when one of `known` is close to `word`; empty otherwise.
[[nodiscard]] std::string suggestion(std::string_view word, const std::vector<std::string>& known);

}  // namespace weir::yaml
