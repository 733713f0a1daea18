#pragma once
// YamlReader: a configuration file into a plain struct, with every mistake found at once.
//
//   YamlReader r = YamlReader::from_file(path);
//   r.read("host", c.host);                               // text
//   r.read("hz", c.hz, 1, 999);                           // whole number, from..to
//   r.read("window", c.window, 1s, 1h);                   // any std::chrono duration: "60s", "5m"
//   r.read("tier", c.tier, {{"region", Tier::kRegion}, {"global", Tier::kGlobal}});
//   r.read("labels", c.labels);                           // map of text; also lists of text, bool
//   YamlSection limits = r.section("limits");             // a nested mapping
//   for (YamlSection& rule : r.sections("rules")) ...     // a list of them
//   limits.read_size("outbox", c.outbox_bytes, 1 << 20, uint64_t{1} << 40);   // "64MiB", "1GiB"
//   if (c.window > c.flush) r.fail("window", "must not exceed 'flush_every'");
//   return r.done(std::move(c));                          // the struct, or all mistakes as one
//   text
//
// What is absent keeps its default; require(key) makes it a mistake. done() also rejects every key
// nobody read, with a suggestion. Refused too: repeated keys, anchors, aliases, '<<', tags, a
// second document, numbers without a unit for time and size, depth > 16, > 1 MiB, > 20,000 nodes.
// Each mistake is "FILE:LINE:COL: KEY: what", the source line and a caret; sorted by place.
//
// Owner and thread: a local variable at start-up or reload. Sections point into the reader and die
// with it. Promise: any bytes give an Error or a struct, never a crash; nothing is thrown.

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/result.h"

namespace weir {

namespace yaml {
class Document;
struct Node;
enum class NodeType : uint8_t;
}  // namespace yaml

// What stands at a key: one value, a list of values, a mapping, or a list that begins with one.
enum class YamlShape : uint8_t { kAbsent, kText, kTexts, kGroup, kGroups };

// The keys of one mapping. A section that is absent reads nothing.
class YamlSection {
 public:
  void read(std::string_view key, std::string& out);
  void read(std::string_view key, bool& out);  // true or false, nothing else
  void read(std::string_view key, std::vector<std::string>& out);
  // A mapping of text to text, sorted by name.
  void read(std::string_view key, std::vector<std::pair<std::string, std::string>>& out);
  // Bytes, with a unit: B, KiB, MiB, GiB or TiB.
  void read_size(std::string_view key, uint64_t& bytes, uint64_t min, uint64_t max);

  template <std::integral T>

  requires(!std::same_as<T, bool>) void read(std::string_view key, T& out,
                                             std::type_identity_t<T> min,
                                             std::type_identity_t<T> max) {
    if (const auto value = integer(key, to_int64(min), to_int64(max))) {
      out = static_cast<T>(*value);
    }
  }

  // Must be a whole number of the duration's own period.
  template <class Rep, class Period>
  void read(std::string_view key, std::chrono::duration<Rep, Period>& out,
            std::type_identity_t<std::chrono::duration<Rep, Period>> min,
            std::type_identity_t<std::chrono::duration<Rep, Period>> max) {
    using std::chrono::nanoseconds;
    const nanoseconds unit = std::chrono::duration<Rep, Period>(1);
    if (const auto ns =
            duration_ns(key, nanoseconds(min).count(), nanoseconds(max).count(), unit.count())) {
      out = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(nanoseconds(*ns));
    }
  }

  template <class E>
  requires std::is_enum_v<E>

  void read(std::string_view key, E& out,
            std::initializer_list<std::pair<std::string_view, E>> choices) {
    std::vector<std::string_view> names;
    for (const auto& [name, value] : choices) names.push_back(name);
    if (const auto index = choice(key, names)) out = (choices.begin() + *index)->second;
  }

  YamlSection section(std::string_view key);
  std::vector<YamlSection> sections(std::string_view key);  // a list of mappings
  // True when the key is there, whatever its value. Does not count as reading it.
  [[nodiscard]] bool has(std::string_view key) const;
  // For keys that may be written in several ways; then read it as that. Empty values are kText.
  [[nodiscard]] YamlShape shape(std::string_view key) const;
  void require(std::string_view key);
  // A mistake in meaning, shown at the key's value; at the section's start when the key is absent.
  void fail(std::string_view key, std::string_view message);

 protected:
  YamlSection(yaml::Document* document, yaml::Node* node) : document_(document), node_(node) {}

  yaml::Document* document_;
  yaml::Node* node_;  // nullptr: absent

 private:
  template <std::integral T>
  static int64_t to_int64(T value) {
    if (std::cmp_greater(value, std::numeric_limits<int64_t>::max())) {
      return std::numeric_limits<int64_t>::max();
    }
    return static_cast<int64_t>(value);
  }

  std::optional<int64_t> integer(std::string_view key, int64_t min, int64_t max);
  std::optional<int64_t> duration_ns(std::string_view key, int64_t min, int64_t max, int64_t unit);
  std::optional<size_t> choice(std::string_view key, const std::vector<std::string_view>& names);
  const std::string* text(std::string_view key);  // nullptr, and said why, when it is no text
  yaml::Node* find(std::string_view key);         // marks the key as read
  // False, and said so unless it is absent, when the node is of another type.
  bool is(std::string_view key, yaml::Node* node, yaml::NodeType type, std::string_view otherwise);
};

class YamlReader : public YamlSection {
 public:
  static YamlReader from_file(const std::string& path);
  // `name` stands where the file's path would.
  static YamlReader from_text(std::string name, std::string text);
  YamlReader(YamlReader&&) noexcept;
  YamlReader& operator=(YamlReader&&) noexcept;
  ~YamlReader();

  template <class T>
  Result<T> done(T value) {
    if (auto status = finish(); !status) return std::move(status).error();
    return value;
  }

 private:
  explicit YamlReader(std::unique_ptr<yaml::Document> document);
  Status finish();
  std::unique_ptr<yaml::Document> owned_;
};

}  // namespace weir
