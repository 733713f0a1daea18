#include "common/yaml_reader.h"

#include <fstream>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Tier : uint8_t { kRegion, kGlobal };

struct Config {
  std::string host = "default";
  uint16_t hz = 19;
  bool enabled = true;
  seconds window{60};
  milliseconds flush_every{10'000};
  uint64_t outbox_bytes = 0;
  Tier tier = Tier::kRegion;
  std::vector<std::string> drop;
  std::vector<std::pair<std::string, std::string>> labels;
};

Result<Config> read(YamlReader r) {
  Config c;
  r.read("host", c.host);
  r.read("hz", c.hz, 1, 999);
  r.read("enabled", c.enabled);
  r.read("window", c.window, seconds(1), hours(1));
  r.read("tier", c.tier, {{"region", Tier::kRegion}, {"global", Tier::kGlobal}});
  r.read("drop", c.drop);
  r.read("labels", c.labels);
  YamlSection limits = r.section("limits");
  limits.read_size("outbox", c.outbox_bytes, 1024, uint64_t{1} << 40);
  limits.read("flush_every", c.flush_every, milliseconds(0), hours(1));
  if (c.flush_every > c.window) limits.fail("flush_every", "must not exceed 'window'");
  return r.done(std::move(c));
}

TEST(YamlReader, ReadsEveryTypeIntoAPlainStruct) {
  const auto c = read(YamlReader::from_text("weir.yaml", R"(# comment
host: "edge 1"
hz: 99
enabled: false
window: 5m
tier: global
drop: [host, "pod"]
labels: {zone: b, env: prod}
limits:
  outbox: 64MiB
  flush_every: 250ms
)"));
  ASSERT_TRUE(c.ok()) << c.error().message;
  EXPECT_EQ(c->host, "edge 1");
  EXPECT_EQ(c->hz, 99);
  EXPECT_FALSE(c->enabled);
  EXPECT_EQ(c->window, seconds(300));
  EXPECT_EQ(c->tier, Tier::kGlobal);
  EXPECT_EQ(c->drop, (std::vector<std::string>{"host", "pod"}));
  const std::vector<std::pair<std::string, std::string>> labels{{"env", "prod"}, {"zone", "b"}};
  EXPECT_EQ(c->labels, labels);
  EXPECT_EQ(c->outbox_bytes, uint64_t{64} << 20);
  EXPECT_EQ(c->flush_every, milliseconds(250));
}

TEST(YamlReader, EmptyFileKeepsEveryDefault) {
  for (const char* text : {"", "# nothing\n", "---\n", "{}", "\xef\xbb\xbfhz: 19\n"}) {
    const auto c = read(YamlReader::from_text("weir.yaml", text));
    ASSERT_TRUE(c.ok()) << c.error().message;
    EXPECT_EQ(c->hz, 19);
  }
}

struct Case {
  const char* name;
  std::string yaml;
  std::string error;
};

const std::vector<Case>& cases() {
  static const auto& all = *new std::vector<Case>{
      {"UnknownKeyWithASuggestion", "\nhots: a",
       R"(weir.yaml:2:1: hots: unknown key, did you mean 'host'?
  2 | hots: a
    | ^~~~)"},
      {"UnknownNestedKeyNamesItsNeighbour", "limits:\n  outbx: 1GiB",
       R"(weir.yaml:2:3: outbx: unknown key, did you mean 'outbox'?
  2 |   outbx: 1GiB
    |   ^~~~~)"},
      {"UnknownKeyFarFromAll", "colour: red", R"(weir.yaml:1:1: colour: unknown key
  1 | colour: red
    | ^~~~~~)"},
      {"AllMistakesAtOnceInTheOrderOfTheFile", "hz: 0\nenabled: yes\nhots: a\nwindow: 60",
       R"(weir.yaml:1:5: hz: '0' is outside 1 to 999
  1 | hz: 0
    |     ^
weir.yaml:2:10: enabled: expected true or false, got 'yes'
  2 | enabled: yes
    |          ^~~
weir.yaml:3:1: hots: unknown key, did you mean 'host'?
  3 | hots: a
    | ^~~~
weir.yaml:4:9: window: missing unit: expected a time with its unit, like 60s or 5m, got '60'
  4 | window: 60
    |         ^~)"},
      {"RepeatedKey", "hz: 1\nhz: 2", R"(weir.yaml:2:1: hz: repeated key, first on line 1
  2 | hz: 2
    | ^~)"},
      {"NumberThatIsNone", "hz: 1e3",
       R"(weir.yaml:1:5: hz: expected a whole number from 1 to 999, got '1e3'
  1 | hz: 1e3
    |     ^~~)"},
      {"NumberBeyondEveryInteger", "hz: 99999999999999999999",
       R"(weir.yaml:1:5: hz: '99999999999999999999' is outside 1 to 999
  1 | hz: 99999999999999999999
    |     ^~~~~~~~~~~~~~~~~~~~)"},
      {"WrongTimeUnit", "window: 60sec",
       R"(weir.yaml:1:9: window: wrong unit 'sec': expected ns, us, ms, s, m, h or d
  1 | window: 60sec
    |         ^~~~~)"},
      {"FractionOfATime", "window: 1.5m",
       R"(weir.yaml:1:9: window: expected a time with its unit, like 60s or 5m, got '1.5m'
  1 | window: 1.5m
    |         ^~~~)"},
      {"NegativeTime", "window: -5s",
       R"(weir.yaml:1:9: window: expected a time with its unit, like 60s or 5m, got '-5s'
  1 | window: -5s
    |         ^~~)"},
      {"TimeOutOfRange", "window: 2h", R"(weir.yaml:1:9: window: 2h is outside 1s to 1h
  1 | window: 2h
    |         ^~)"},
      {"TimeThatOverflows", "window: 9999999999999d",
       R"(weir.yaml:1:9: window: '9999999999999d' is too large
  1 | window: 9999999999999d
    |         ^~~~~~~~~~~~~~)"},
      {"TimeFinerThanItsKind", "window: 1500ms",
       R"(weir.yaml:1:9: window: '1500ms' is no multiple of 1s
  1 | window: 1500ms
    |         ^~~~~~)"},
      {"SizeWithoutUnit", "limits: {outbox: 1000}",
       R"(weir.yaml:1:18: outbox: missing unit: expected a size with its unit, like 64KiB or 1GiB, got '1000'
  1 | limits: {outbox: 1000}
    |                  ^~~~)"},
      {"SizeWithATimeUnit", "limits: {outbox: 5m}",
       R"(weir.yaml:1:18: outbox: wrong unit 'm': expected B, KiB, MiB, GiB or TiB
  1 | limits: {outbox: 5m}
    |                  ^~)"},
      {"SizeOutOfRange", "limits: {outbox: 2TiB}",
       R"(weir.yaml:1:18: outbox: 2TiB is outside 1KiB to 1TiB
  1 | limits: {outbox: 2TiB}
    |                  ^~~~)"},
      {"ChoiceWithASuggestion", "tier: regoin",
       R"(weir.yaml:1:7: tier: expected one of region, global, got 'regoin', did you mean 'region'?
  1 | tier: regoin
    |       ^~~~~~)"},
      {"MeaningIsJudgedToo", "window: 5s\nlimits: {flush_every: 6s}",
       R"(weir.yaml:2:23: flush_every: must not exceed 'window'
  2 | limits: {flush_every: 6s}
    |                       ^~)"},
      {"EmptyValueIsShownAtItsKey", "host:\nhz: 5", R"(weir.yaml:1:1: host: empty value
  1 | host:
    | ^~~~)"},
      {"ListWhereTextBelongs", "host: [a]", R"(weir.yaml:1:7: host: expected one value
  1 | host: [a]
    |       ^)"},
      {"TextWhereAListBelongs", "drop: host", R"(weir.yaml:1:7: drop: expected a list, like [a, b]
  1 | drop: host
    |       ^~~~)"},
      {"TextWhereAMappingBelongs", "labels: prod",
       R"(weir.yaml:1:9: labels: expected a mapping, like {name: value}
  1 | labels: prod
    |         ^~~~)"},
      {"TextWhereAGroupBelongs", "limits: none", R"(weir.yaml:1:9: limits: expected a group of keys
  1 | limits: none
    |         ^~~~)"},
      {"NestedLabel", "labels:\n  a: {b: c}", R"(weir.yaml:2:6: a: expected a text
  2 |   a: {b: c}
    |      ^)"},
      {"NothingInsideAWrongTypeIsJudged", "host: {a: 1}\ndrop: {b: 2}",
       R"(weir.yaml:1:7: host: expected one value
  1 | host: {a: 1}
    |       ^
weir.yaml:2:7: drop: expected a list, like [a, b]
  2 | drop: {b: 2}
    |       ^)"},
      {"AnchorAndAlias", "host: &h a\ntier: *h", R"(weir.yaml:1:7: anchors are not allowed
  1 | host: &h a
    |       ^
weir.yaml:2:7: aliases are not allowed
  2 | tier: *h
    |       ^)"},
      {"MergeKey", "limits:\n  <<: {outbox: 1GiB}", R"(weir.yaml:2:3: merge keys are not allowed
  2 |   <<: {outbox: 1GiB}
    |   ^)"},
      {"ExplicitTag", "hz: !!int 5", R"(weir.yaml:1:5: tags are not allowed
  1 | hz: !!int 5
    |     ^)"},
      {"NonSpecificTag", "host: ! a", R"(weir.yaml:1:7: tags are not allowed
  1 | host: ! a
    |       ^)"},
      {"SecondDocument", "hz: 5\n---\nhz: 6", R"(weir.yaml:2:1: a second document is not allowed
  2 | ---
    | ^)"},
      {"KeyThatIsAMapping", "{{a: b}: c}", R"(weir.yaml:1:2: a key must be text
  1 | {{a: b}: c}
    |  ^)"},
      {"RootThatIsAList", "- a", R"(weir.yaml:1:1: expected a mapping, like 'key: value'
  1 | - a
    | ^)"},
      {"SyntaxErrorHidesWhatWouldFollow", "hots: 1\nhost: [a",
       R"(weir.yaml:2:1: end of sequence flow not found
  2 | host: [a
    | ^)"},
      {"TabIndentation", "limits:\n\toutbox: 1GiB",
       R"(weir.yaml:2:8: illegal map value
  2 |  outbox: 1GiB
    |        ^)"},
      {"ControlCharacter", "host: a\x01",
       "weir.yaml:1:8: control characters are not allowed\n  1 | host: a \n    |        ^"},
      {"NotUtf8", "host: \xff", "weir.yaml:1:1: this line is not UTF-8\n  1 | host: ?\n    | ^"},
      {"ColumnsCountCharacters", "labels: {\"ä\": {}}", R"(weir.yaml:1:15: ä: expected a text
  1 | labels: {"ä": {}}
    |               ^)"},
      {"TooLarge", std::string((size_t{1} << 20) + 1, ' '), "weir.yaml:1:1: larger than 1024 KiB"},
      {"TooDeep", "host: " + std::string(17, '[') + std::string(17, ']'),
       "weir.yaml:1:22: nested deeper than 16\n  1 | host: [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]\n"
       "    |                      ^"},
  };
  return all;
}

TEST(YamlReader, EveryMistakeHasItsExactText) {
  for (const auto& c : cases()) {
    const auto result = read(YamlReader::from_text("weir.yaml", c.yaml));
    ASSERT_FALSE(result.ok()) << c.name;
    EXPECT_EQ(result.error().message, c.error) << c.name;
    EXPECT_EQ(result.error().code, Errc::kInvalid) << c.name;
  }
}

TEST(YamlReader, AListOfGroupsIsReadOneByOne) {
  const auto read_rules = [](const std::string& text) {
    YamlReader r = YamlReader::from_text("weir.yaml", text);
    std::vector<std::string> names;
    for (YamlSection& rule : r.sections("rules")) {
      rule.require("name");
      rule.read("name", names.emplace_back());
    }
    return r.done(names);
  };
  EXPECT_EQ(*read_rules("rules: [{name: a}, {name: b}]"), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(read_rules("")->empty());
  const auto wrong = read_rules("rules:\n  - {name: a, nam: b}\n  - text\n  - {}\n");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message,
            "weir.yaml:2:15: nam: unknown key, did you mean 'name'?\n"
            "  2 |   - {name: a, nam: b}\n    |               ^~~\n"
            "weir.yaml:3:5: rules: expected a group of keys\n"
            "  3 |   - text\n    |     ^~~~\n"
            "weir.yaml:4:5: name: missing, and it has no default\n"
            "  4 |   - {}\n    |     ^");
}

TEST(YamlReader, TooManyNodesAreRefused) {
  std::string yaml = "drop: [";
  for (int i = 0; i < 20'001; ++i) yaml += "a,\n";
  const auto result = read(YamlReader::from_text("weir.yaml", yaml + "]"));
  ASSERT_FALSE(result.ok());
  EXPECT_TRUE(result.error().message.starts_with("weir.yaml:19998:1: more than 20000 values"))
      << result.error().message;
}

TEST(YamlReader, OnlyTheFirstHundredMistakesAreShown) {
  std::string yaml;
  for (int i = 0; i < 150; ++i) yaml += "unknown-" + std::to_string(i) + ": 1\n";
  const auto result = read(YamlReader::from_text("weir.yaml", yaml));
  ASSERT_FALSE(result.ok());
  EXPECT_TRUE(result.error().message.ends_with("\nand 50 more mistakes"));
}

TEST(YamlReader, RequiredKeyThatIsMissingIsAMistake) {
  YamlReader r = YamlReader::from_text("weir.yaml", "hz: 5");
  uint16_t hz = 0;
  r.read("hz", hz, 1, 9);
  r.require("hz");
  r.require("tier");
  const auto result = r.done(0);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message,
            "weir.yaml:1:1: tier: missing, and it has no default\n  1 | hz: 5\n    | ^");
}

TEST(YamlReader, FileIsReadAndAMissingOneIsSaid) {
  const TempDir dir;
  std::ofstream(dir.file("good.yaml")) << "host: a\n";
  const auto good = read(YamlReader::from_file(dir.file("good.yaml")));
  ASSERT_TRUE(good.ok()) << good.error().message;
  EXPECT_EQ(good->host, "a");
  const auto missing = read(YamlReader::from_file(dir.file("none.yaml")));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().message,
            dir.file("none.yaml") + ": cannot read: No such file or directory");
  const auto directory = read(YamlReader::from_file(dir.path()));
  ASSERT_FALSE(directory.ok());
  EXPECT_EQ(directory.error().message, dir.path() + ": cannot read: Is a directory");
}

}  // namespace
}  // namespace weir
