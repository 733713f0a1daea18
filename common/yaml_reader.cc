#include "common/yaml_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>

#include <fmt/core.h>

#include "common/yaml_document.h"

namespace weir {
namespace {

using yaml::Node;

struct UnitOf {
  std::string_view name;
  int64_t factor;
};

// Largest first, so a value is shown in the largest unit that divides it.
constexpr std::array kTimeUnits{UnitOf{"d", 86'400'000'000'000},
                                UnitOf{"h", 3'600'000'000'000},
                                UnitOf{"m", 60'000'000'000},
                                UnitOf{"s", 1'000'000'000},
                                UnitOf{"ms", 1'000'000},
                                UnitOf{"us", 1'000},
                                UnitOf{"ns", 1}};
constexpr std::array kSizeUnits{UnitOf{"TiB", int64_t{1} << 40}, UnitOf{"GiB", int64_t{1} << 30},
                                UnitOf{"MiB", int64_t{1} << 20}, UnitOf{"KiB", int64_t{1} << 10},
                                UnitOf{"B", 1}};
constexpr std::string_view kTimeHint = "expected a time with its unit, like 60s or 5m";
constexpr std::string_view kTimeUnitHint = "expected ns, us, ms, s, m, h or d";
constexpr std::string_view kSizeHint = "expected a size with its unit, like 64KiB or 1GiB";
constexpr std::string_view kSizeUnitHint = "expected B, KiB, MiB, GiB or TiB";

std::string shown(std::string_view text) {
  constexpr size_t kMax = 40;
  return text.size() > kMax ? fmt::format("'{}...'", text.substr(0, kMax))
                            : fmt::format("'{}'", text);
}

std::string with_unit(int64_t value, std::span<const UnitOf> units) {
  if (value == 0) return fmt::format("0{}", units.back().name == "ns" ? "s" : units.back().name);
  for (const auto& unit : units) {
    if (value % unit.factor == 0) return fmt::format("{}{}", value / unit.factor, unit.name);
  }
  return std::to_string(value);
}

struct Quantity {
  int64_t value = 0;
  std::string problem;  // empty: value is good
};

// "60s" in the smallest unit. One clear reason when it is none.
Quantity quantity(std::string_view text, std::span<const UnitOf> units, std::string_view hint,
                  std::string_view unit_hint) {
  int64_t number = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (ec != std::errc{} || number < 0 || unit.starts_with('.')) {
    return {0, fmt::format("{}, got {}", hint, shown(text))};
  }
  if (unit.empty()) return {0, fmt::format("missing unit: {}, got {}", hint, shown(text))};
  const auto it = std::ranges::find(units, unit, &UnitOf::name);
  if (it == units.end()) {
    return {0, fmt::format("wrong unit {}: {}", shown(unit), unit_hint)};
  }
  int64_t value = 0;
  if (__builtin_mul_overflow(number, it->factor, &value)) {
    return {0, fmt::format("{} is too large", shown(text))};
  }
  return {value, ""};
}

std::string range_problem(int64_t value, int64_t min, int64_t max, std::span<const UnitOf> units) {
  if (value >= min && value <= max) return "";
  return fmt::format("{} is outside {} to {}", with_unit(value, units), with_unit(min, units),
                     with_unit(max, units));
}

}  // namespace

Node* YamlSection::find(std::string_view key) {
  if (node_ == nullptr) return nullptr;
  node_->known.emplace_back(key);
  yaml::Member* member = node_->find(key);
  if (member == nullptr) return nullptr;
  member->read = true;
  if (member->value.type == Node::Type::kEmpty) {
    fail(key, "empty value");
    member->value.type = Node::Type::kRejected;
  }
  return member->value.type == Node::Type::kRejected ? nullptr : &member->value;
}

bool YamlSection::has(std::string_view key) const {
  return node_ != nullptr && node_->find(key) != nullptr;
}

YamlShape YamlSection::shape(std::string_view key) const {
  const yaml::Member* member = node_ == nullptr ? nullptr : node_->find(key);
  if (member == nullptr) return YamlShape::kAbsent;
  const Node& node = member->value;
  if (node.type == Node::Type::kMap) return YamlShape::kGroup;
  if (node.type != Node::Type::kList) return YamlShape::kText;
  const bool groups = !node.items.empty() && node.items.front().type == Node::Type::kMap;
  return groups ? YamlShape::kGroups : YamlShape::kTexts;
}

void YamlSection::require(std::string_view key) {
  if (node_ != nullptr && !has(key)) fail(key, "missing, and it has no default");
}

void YamlSection::fail(std::string_view key, std::string_view message) {
  if (!document_->readable()) return;
  const std::string text = fmt::format("{}: {}", key, message);
  const yaml::Member* member = node_ == nullptr ? nullptr : node_->find(key);
  if (member != nullptr) {
    document_->mistake(member->value.at, member->value.width, text);
  } else {
    document_->mistake(node_ == nullptr ? yaml::Place{} : node_->at, 1, text);
  }
}

bool YamlSection::is(std::string_view key, Node* node, Node::Type type,
                     std::string_view otherwise) {
  if (node == nullptr || node->type == type) return node != nullptr;
  fail(key, otherwise);
  node->type = Node::Type::kRejected;  // so that nothing inside it is judged
  return false;
}

YamlSection YamlSection::section(std::string_view key) {
  Node* node = find(key);
  return {document_, is(key, node, Node::Type::kMap, "expected a group of keys") ? node : nullptr};
}

std::vector<YamlSection> YamlSection::sections(std::string_view key) {
  std::vector<YamlSection> out;
  Node* node = find(key);
  if (!is(key, node, Node::Type::kList, "expected a list, like [{name: a}]")) return out;
  for (auto& item : node->items) {
    if (item.type == Node::Type::kRejected) continue;
    if (item.type == Node::Type::kMap) {
      out.push_back({document_, &item});
    } else {
      document_->mistake(item.at, item.width, fmt::format("{}: expected a group of keys", key));
    }
  }
  return out;
}

const std::string* YamlSection::text(std::string_view key) {
  Node* node = find(key);
  return is(key, node, Node::Type::kText, "expected one value") ? &node->text : nullptr;
}

void YamlSection::read(std::string_view key, std::string& out) {
  if (const auto* value = text(key)) out = *value;
}

void YamlSection::read(std::string_view key, bool& out) {
  const auto* value = text(key);
  if (value == nullptr) return;
  if (*value != "true" && *value != "false") {
    return fail(key, fmt::format("expected true or false, got {}", shown(*value)));
  }
  out = *value == "true";
}

void YamlSection::read(std::string_view key, std::vector<std::string>& out) {
  Node* node = find(key);
  if (!is(key, node, Node::Type::kList, "expected a list, like [a, b]")) return;
  std::vector<std::string> items;
  for (const auto& item : node->items) {
    if (item.type == Node::Type::kRejected) continue;
    if (item.type != Node::Type::kText) {
      document_->mistake(item.at, item.width, fmt::format("{}: expected a list of texts", key));
    }
    items.push_back(item.text);
  }
  out = std::move(items);
}

void YamlSection::read(std::string_view key,
                       std::vector<std::pair<std::string, std::string>>& out) {
  Node* node = find(key);
  if (!is(key, node, Node::Type::kMap, "expected a mapping, like {name: value}")) return;
  std::vector<std::pair<std::string, std::string>> pairs;
  for (auto& member : node->members) {
    member.read = true;
    if (member.value.type == Node::Type::kRejected) continue;
    if (member.value.type != Node::Type::kText || member.value.text.empty()) {
      document_->mistake(member.value.at, member.value.width,
                         fmt::format("{}: expected a text", member.key));
      member.value.type = Node::Type::kRejected;
    }
    pairs.emplace_back(member.key, member.value.text);
  }
  std::ranges::sort(pairs);
  out = std::move(pairs);
}

void YamlSection::read_size(std::string_view key, uint64_t& bytes, uint64_t min, uint64_t max) {
  const auto* value = text(key);
  if (value == nullptr) return;
  auto [size, problem] = quantity(*value, kSizeUnits, kSizeHint, kSizeUnitHint);
  if (problem.empty()) problem = range_problem(size, to_int64(min), to_int64(max), kSizeUnits);
  if (!problem.empty()) return fail(key, problem);
  bytes = static_cast<uint64_t>(size);
}

std::optional<int64_t> YamlSection::duration_ns(std::string_view key, int64_t min, int64_t max,
                                                int64_t unit) {
  const auto* value = text(key);
  if (value == nullptr) return std::nullopt;
  auto [ns, problem] = quantity(*value, kTimeUnits, kTimeHint, kTimeUnitHint);
  if (problem.empty()) problem = range_problem(ns, min, max, kTimeUnits);
  if (problem.empty() && ns % unit != 0) {
    problem = fmt::format("{} is no multiple of {}", shown(*value), with_unit(unit, kTimeUnits));
  }
  if (problem.empty()) return ns;
  fail(key, problem);
  return std::nullopt;
}

std::optional<int64_t> YamlSection::integer(std::string_view key, int64_t min, int64_t max) {
  const auto* value = text(key);
  if (value == nullptr) return std::nullopt;
  int64_t number = 0;
  const char* last = value->data() + value->size();
  const auto [end, ec] = std::from_chars(value->data(), last, number);
  if (end != last || ec == std::errc::invalid_argument) {
    fail(key,
         fmt::format("expected a whole number from {} to {}, got {}", min, max, shown(*value)));
  } else if (ec != std::errc{} || number < min || number > max) {
    fail(key, fmt::format("{} is outside {} to {}", shown(*value), min, max));
  } else {
    return number;
  }
  return std::nullopt;
}

std::optional<size_t> YamlSection::choice(std::string_view key,
                                          const std::vector<std::string_view>& names) {
  const auto* value = text(key);
  if (value == nullptr) return std::nullopt;
  const auto it = std::ranges::find(names, *value);
  if (it != names.end()) return static_cast<size_t>(it - names.begin());
  std::string all;
  for (const auto name : names) all += fmt::format("{}{}", all.empty() ? "" : ", ", name);
  fail(key, fmt::format("expected one of {}, got {}{}", all, shown(*value),
                        yaml::suggestion(*value, {names.begin(), names.end()})));
  return std::nullopt;
}

YamlReader::YamlReader(std::unique_ptr<yaml::Document> document)
    : YamlSection(document.get(), &document->root()), owned_(std::move(document)) {}

YamlReader::YamlReader(YamlReader&&) noexcept = default;
YamlReader& YamlReader::operator=(YamlReader&&) noexcept = default;
YamlReader::~YamlReader() = default;

YamlReader YamlReader::from_text(std::string name, std::string text) {
  return YamlReader(std::make_unique<yaml::Document>(std::move(name), std::move(text)));
}

YamlReader YamlReader::from_file(const std::string& path) {
  // One byte more than allowed is read, so that too large is noticed and never loaded whole.
  std::string text(yaml::Document::kMaxBytes + 1, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
    const Error why{Errc::kIo, fmt::format("{}: cannot read: {}", path, std::strerror(errno))};
    YamlReader reader = from_text(path, "");
    reader.document_->set_file_error(why);
    return reader;
  }
  text.resize(static_cast<size_t>(in.gcount()));
  return from_text(path, std::move(text));
}

Status YamlReader::finish() { return document_->finish(); }

}  // namespace weir
