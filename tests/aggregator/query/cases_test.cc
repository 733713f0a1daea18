// Runs tests/query/*.test; their format is in tests/query/README.md.

#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "aggregator/query/evaluator.h"
#include "aggregator/query/operators.h"
#include "aggregator/query/parser.h"
#include "tests/fakes/fake_data_source.h"

namespace weir::aggregator {
namespace {

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  std::array<char, 64> buffer{};
  const auto [end, fault] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end};
}

std::string point_text(const ResultPoint& point) {
  std::string text;
  if (const auto* histogram = std::get_if<Histogram>(&point.value)) {
    const auto per = static_cast<double>(histogram->divisor_milli) / 1000;
    const auto& d = *histogram->distribution;
    const double sum = Exact{d.sum(), d.quantum(), histogram->divisor_milli}.value();
    text = fmt::format("[count={} sum={}]", number_text(static_cast<double>(d.count()) / per),
                       number_text(sum));
  } else {
    text = number_text(std::get<double>(point.value));
  }
  if (point.overflow_upper) text += " up to " + number_text(*point.overflow_upper);
  if (point.overflow_share > 0) text += fmt::format(" unnamed {:.3g}", point.overflow_share);
  if (point.bound) text += fmt::format(" in ({:.6g}, {:.6g}]", point.bound->lo, point.bound->hi);
  return text;
}

struct Outcome {
  std::vector<std::string> lines;  // EXPECT lines, or one ERROR line
  std::set<std::string> infos;
  std::set<std::string> warnings;
};

Outcome run(const std::string& query, FakeDataSource& source, EvalOptions options) {
  Outcome outcome;
  options.now_s = source.now_s;
  const auto expr = parse_query(query);
  if (!expr) return {{"ERROR " + expr.error().message}, {}, {}};
  auto result = evaluate(**expr, source, options);
  if (!result) return {{"ERROR " + result.error().message}, {}, {}};
  outcome.infos = result->notes.infos;
  outcome.warnings = result->notes.warnings;
  if (result->type == ExprType::kString) outcome.lines.push_back("EXPECT " + result->text);
  for (const auto& series : result->series) {
    std::string line = "EXPECT " + labels_text(series.labels);
    for (const auto& point : series.points) {
      line += " " + point_text(point);
      if (result->type == ExprType::kRange) line += fmt::format("@{}", point.time_ms / 1000);
    }
    outcome.lines.push_back(line);
  }
  if (outcome.lines.empty()) outcome.lines.emplace_back("NONE");
  return outcome;
}

struct Loader {
  FakeDataSource& source;

  // "counter m{a="x"} q=0 w=60 t=0 : 1 2 _ 4"
  void load(const std::string& text) {
    std::istringstream in(text);
    std::string kind;
    std::string selector;
    in >> kind >> selector;
    const auto node = parse_selector(selector);
    ASSERT_TRUE(node.ok()) << text;
    Metric metric{.name = node->metric, .kind = kind_of_text(kind), .unit = "", .quantum = 0};
    Labels labels;
    for (const auto& matcher : node->matchers) labels.emplace_back(matcher.label, matcher.value);
    std::ranges::sort(labels);
    uint32_t width = 60;
    int64_t start = 0;
    std::string word;
    while (in >> word && word != ":") {
      const int64_t value = std::stoll(word.substr(2));
      if (word[0] == 'q') metric.quantum = static_cast<int8_t>(value);
      if (word[0] == 'w') width = static_cast<uint32_t>(value);
      if (word[0] == 't') start = value;
      if (word[0] == 's') scale = static_cast<uint8_t>(value);
    }
    while (in >> word) {
      if (word != "_") source.add(metric, labels, {start, width}, value_of(metric, word));
      start += width;
    }
    scale = kDefaultScale;
  }

  static Kind kind_of_text(const std::string& text) {
    if (text == "counter") return Kind::kCounter;
    if (text == "gauge") return Kind::kGauge;
    if (text == "profile") return Kind::kProfile;
    if (text == "distinct") return Kind::kDistinct;
    if (text == "topk") return Kind::kTopk;
    return Kind::kDistribution;
  }

  Value value_of(const Metric& metric, const std::string& cell) const {
    if (metric.kind == Kind::kCounter) return Counter{std::stoull(cell)};
    if (metric.kind == Kind::kGauge) {
      const int64_t v = std::stoll(cell);
      return Gauge{.n = 1, .sum = v, .min = v, .max = v, .last = {.time_ns = 1, .value = v}};
    }
    if (metric.kind == Kind::kProfile) {
      Profile profile;
      const std::vector<Frame> stack{{FrameKind::kUser, "app", "main"}};
      profile.add(stack, std::stoull(cell));
      return profile;
    }
    Value value = empty_value(metric, scale);
    std::istringstream parts(cell);
    for (std::string part; std::getline(parts, part, ',');) {
      const auto star = part.find('*');
      const uint64_t n = star == std::string::npos ? 1 : std::stoull(part.substr(star + 1));
      add(value, part.substr(0, star), n);
    }
    return value;
  }

  // "a..b" of a set or topk: the members a, a+1, ... b.
  static void add(Value& value, const std::string& what, uint64_t n) {
    const auto dots = what.find("..");
    if (auto* distribution = std::get_if<Distribution>(&value)) {
      EXPECT_TRUE(distribution->add(std::stoull(what), n).ok());
    } else if (dots != std::string::npos) {
      for (auto i = std::stoull(what); i <= std::stoull(what.substr(dots + 2)); ++i) {
        add(value, std::to_string(i), n);
      }
    } else if (auto* distinct = std::get_if<Distinct>(&value)) {
      EXPECT_TRUE(distinct->add(Distinct::hash_of(what), n).ok());
    } else {
      EXPECT_TRUE(std::get<Topk>(value).add(what, n).ok());
    }
  }

  uint8_t scale = kDefaultScale;
};

// One file: NAME, LOAD ..., EVAL ..., expectations.
class CaseFile {
 public:
  void run_all(const std::filesystem::path& path) {
    std::ifstream in(path);
    std::string line;
    for (int number = 1; std::getline(in, line); ++number) {
      if (line.empty() || line[0] == '#') continue;
      const auto space = line.find(' ');
      const auto verb = line.substr(0, space);
      const auto rest = space == std::string::npos ? "" : line.substr(space + 1);
      SCOPED_TRACE(fmt::format("{}:{}: {}", path.filename().string(), number, name_));
      step(verb, rest, line);
    }
    check();
  }

  [[nodiscard]] size_t evals() const { return evals_; }

 private:
  void step(const std::string& verb, const std::string& rest, const std::string& line) {
    if (verb == "EXPECT" || verb == "ERROR" || verb == "NONE") {
      wanted_.lines.push_back(line);
    } else if (verb == "INFO") {
      wanted_.infos.insert(rest);
    } else if (verb == "WARN") {
      wanted_.warnings.insert(rest);
    } else if (verb == "NAME") {
      check();
      source_ = FakeDataSource();
      name_ = rest;
    } else if (verb == "NOW") {
      source_.now_s = std::stoll(rest);
    } else if (verb == "KEPT") {
      source_.kept_widths.clear();
      std::istringstream widths(rest);
      for (uint32_t width = 0; widths >> width;) source_.kept_widths.push_back(width);
    } else if (verb == "COVERAGE") {
      std::istringstream(rest) >> source_.notes.coverage.merged >> source_.notes.coverage.expected;
    } else if (verb == "LOST") {
      Loss loss;
      std::istringstream(rest) >> loss.where >> loss.reason >> loss.events;
      source_.notes.losses.push_back(loss);
    } else if (verb == "LOAD") {
      Loader{source_}.load(rest);
    } else if (verb == "EVAL") {
      check();
      evaluate_line(rest);
    } else {
      FAIL() << "unknown line: " << line;
    }
  }

  // "at 600 EXPR" or "from 0 to 600 step 60 EXPR"
  void evaluate_line(const std::string& text) {
    std::istringstream in(text);
    std::string word;
    EvalOptions options;
    in >> word;
    if (word == "at") {
      in >> options.start_ms;
      options.end_ms = options.start_ms *= 1000;
    } else {
      in >> options.start_ms >> word >> options.end_ms >> word >> options.step_ms;
      options.start_ms *= 1000;
      options.end_ms *= 1000;
      options.step_ms *= 1000;
    }
    std::getline(in >> std::ws, query_);
    got_ = run(query_, source_, options);
    pending_ = true;
    ++evals_;
  }

  void check() {
    if (pending_) {
      EXPECT_EQ(got_.lines, wanted_.lines) << "in: " << name_ << "\n" << query_;
      if (!wanted_.infos.empty()) {
        EXPECT_EQ(got_.infos, wanted_.infos) << "in: " << name_ << "\n" << query_;
      }
      EXPECT_EQ(got_.warnings, wanted_.warnings) << "in: " << name_ << "\n" << query_;
    }
    pending_ = false;
    wanted_ = {};
  }

  FakeDataSource source_;
  std::string name_;
  std::string query_;
  Outcome got_;
  Outcome wanted_;
  bool pending_ = false;
  size_t evals_ = 0;
};

TEST(PromqlCases, EveryFileAnswersAsWritten) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("tests/query")) {
    if (entry.path().extension() != ".test") continue;
    CaseFile file;
    file.run_all(entry.path());
    EXPECT_GT(file.evals(), 0u) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0u);
}

}  // namespace
}  // namespace weir::aggregator
