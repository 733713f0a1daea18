#include "common/profile.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace weir {

namespace {

Frame user(const std::string& name) { return {FrameKind::kUser, "app", name}; }

struct Sample {
  std::vector<Frame> stack;
  uint64_t ns = 0;
};

std::vector<Sample> random_samples(std::mt19937_64& random, size_t count) {
  std::vector<Sample> out;
  for (size_t i = 0; i < count; ++i) {
    Sample& sample = out.emplace_back();
    const size_t depth = 1 + random() % 8;
    for (size_t d = 0; d < depth; ++d)
      sample.stack.push_back(user("f" + std::to_string(random() % 5)));
    if (random() % 4 == 0) sample.stack.push_back({FrameKind::kKernel, "kernel", "sys_read"});
    sample.ns = 1 + random() % 1'000'000;
  }
  return out;
}

Profile of(const std::vector<Sample>& samples) {
  Profile out;
  for (const Sample& sample : samples) out.add(sample.stack, sample.ns);
  return out;
}

std::vector<std::string> folded(const Profile& profile) {
  std::vector<std::string> out;
  profile.for_each_stack([&](std::span<const Frame* const> stack, uint64_t ns) {
    std::string line;
    for (const Frame* frame : stack) line += (line.empty() ? "" : ";") + frame->name;
    out.push_back(line + " " + std::to_string(ns));
  });
  return out;
}

Result<Profile> rebuilt(const Profile& profile) {
  const auto form = profile.canonical();
  std::vector<Frame> frames;
  for (const Frame* frame : form.frames) frames.push_back(*frame);
  return Profile::rebuild(frames, form.nodes, profile.samples(), profile.quality());
}

uint64_t sum_of_self(const Profile& profile) {
  uint64_t sum = 0;
  for (const auto& node : profile.nodes()) sum += node.self;
  return sum;
}

}  // namespace

TEST(Profile, SumsEqualPathsAndListsThemByFrameDepthFirst) {
  Profile profile;
  const std::vector<Frame> deep{user("main"), user("work"), user("hash")};
  const std::vector<Frame> flat{user("main"), user("idle")};
  profile.add(deep, 10);
  profile.add(flat, 5);
  profile.add(deep, 7, 2);
  profile.add(std::span(deep).first(2), 1);
  EXPECT_EQ(folded(profile),
            (std::vector<std::string>{"main;idle 5", "main;work 1", "main;work;hash 17"}));
  EXPECT_EQ(profile.total_ns(), 23U);
  EXPECT_EQ(profile.samples(), 5U);
}

TEST(Profile, SameNameInAnotherModuleOrKindIsAnotherFrame) {
  Profile profile;
  const Frame frames[] = {
      {FrameKind::kUser, "a", "f"}, {FrameKind::kUser, "b", "f"}, {FrameKind::kKernel, "a", "f"}};
  for (const Frame& frame : frames) profile.add({&frame, 1}, 1);
  EXPECT_EQ(profile.frames().size(), 3U);
  EXPECT_EQ(folded(profile), (std::vector<std::string>{"f 1", "f 1", "f 1"}));
}

TEST(Profile, EmptyStackIsUnknownAndEmptyTimeIsNoPath) {
  Profile profile;
  profile.add({}, 3);
  const Frame main = user("main");
  profile.add({&main, 1}, 0, 4);
  EXPECT_EQ(folded(profile), (std::vector<std::string>{"[unknown] 3"}));
  EXPECT_EQ(profile.samples(), 5U);
}

TEST(Profile, AnyMergeTreeGivesTheSameCanonicalForm) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    auto samples = random_samples(random, 60);
    const Profile whole = of(samples);
    std::shuffle(samples.begin(), samples.end(), random);
    std::vector<Profile> parts(1 + random() % 6);
    for (const Sample& s : samples) parts[random() % parts.size()].add(s.stack, s.ns);
    while (parts.size() > 1) {
      const size_t from = random() % parts.size();
      const Profile taken = parts[from];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(from));
      ASSERT_TRUE(parts[random() % parts.size()].merge(taken).ok());
    }
    ASSERT_EQ(parts[0], whole);
    ASSERT_EQ(parts[0].canonical(), whole.canonical());
  }
}

TEST(Profile, EmptyIsIdentityAndSelfMergeDoubles) {
  std::mt19937_64 random(8);
  Profile profile = of(random_samples(random, 40));
  const Profile before = profile;
  ASSERT_TRUE(profile.merge(Profile()).ok());
  EXPECT_EQ(profile, before);
  ASSERT_TRUE(profile.merge(profile).ok());
  EXPECT_EQ(profile.total_ns(), 2 * before.total_ns());
  EXPECT_EQ(profile.canonical().nodes.size(), before.canonical().nodes.size());
}

TEST(Profile, QualityAdds) {
  Profile a;
  a.add_quality({.lost = 1, .truncated = 2, .unresolved = 3});
  Profile b = a;
  ASSERT_TRUE(a.merge(b).ok());
  EXPECT_EQ(a.quality(), (ProfileQuality{.lost = 2, .truncated = 4, .unresolved = 6}));
  EXPECT_NE(a, b);
}

TEST(Profile, MergeThatWouldOverflowChangesNothing) {
  const Frame main = user("main");
  Profile a;
  a.add({&main, 1}, (uint64_t{1} << 63) - 1);
  Profile b;
  b.add({&main, 1}, 1);
  const Profile before = a;
  const auto merged = a.merge(b);
  ASSERT_FALSE(merged.ok());
  EXPECT_EQ(merged.error().code, Errc::kLimit);
  EXPECT_EQ(a, before);
}

TEST(Profile, BeyondTheBoundWeightFoldsIntoOtherAndTheTotalStaysExact) {
  Profile profile(64);
  std::mt19937_64 random(9);
  const auto samples = random_samples(random, 5000);
  uint64_t total = 0;
  for (const Sample& sample : samples) {
    profile.add(sample.stack, sample.ns);
    total += sample.ns;
  }
  EXPECT_EQ(profile.total_ns(), total);
  EXPECT_EQ(sum_of_self(profile), total);
  EXPECT_LE(profile.nodes().size(), 65U);
  EXPECT_TRUE(rebuilt(profile).ok());  // no empty leaf, no children of [other]

  Profile small(64);
  ASSERT_TRUE(small.merge(of(samples)).ok());
  EXPECT_EQ(small.total_ns(), total);
  EXPECT_EQ(sum_of_self(small), total);
  EXPECT_LE(small.nodes().size(), 65U);
  const auto again = rebuilt(small);
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(*again, small);
}

TEST(Profile, StacksDeeperThanTheBoundEndInOther) {
  const std::vector<Frame> stack(Profile::kMaxDepth + 500, user("recurse"));
  Profile profile;
  profile.add(stack, 5);
  EXPECT_EQ(profile.nodes().size(), Profile::kMaxDepth + 1);
  EXPECT_TRUE(folded(profile)[0].ends_with("recurse;[other] 5"));
  Profile exact;
  exact.add(std::span(stack).first(Profile::kMaxDepth), 5);
  EXPECT_TRUE(folded(exact)[0].ends_with("recurse;recurse 5"));
  EXPECT_TRUE(rebuilt(profile).ok());
  EXPECT_TRUE(rebuilt(exact).ok());
}

TEST(Profile, TextBecomesUtf8WithinTheBound) {
  Profile profile;
  const Frame bad{FrameKind::kUser, "m\xff", std::string(5000, 'x') + "\xc3"};
  profile.add({&bad, 1}, 1);
  profile.add({&bad, 1}, 1);
  ASSERT_EQ(profile.frames().size(), 1U);
  EXPECT_EQ(profile.frames()[0].module, "m?");
  EXPECT_EQ(profile.frames()[0].name.size(), Profile::kMaxFrameText);
}

TEST(Profile, RebuildInvertsCanonical) {
  std::mt19937_64 random(10);
  for (int round = 0; round < 50; ++round) {
    Profile profile = of(random_samples(random, 100));
    profile.add_quality({.lost = random() % 9, .truncated = 1, .unresolved = 2});
    const auto again = rebuilt(profile);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(*again, profile);
  }
  EXPECT_EQ(*rebuilt(Profile()), Profile());
}

TEST(Profile, RebuildRefusesWhatCanonicalNeverGives) {
  using Nodes = std::vector<Profile::Node>;
  const Frame a = user("a");
  const Frame b = user("b");
  const Frame other{FrameKind::kSpecial, "", std::string(kOtherFrame)};
  const uint64_t top = uint64_t{1} << 63;

  struct Case {
    const char* why;
    std::vector<Frame> frames;
    Nodes nodes;
  };

  const Case cases[] = {
      {"no root", {}, {}},
      {"no root", {a}, {{0, 0, 5}}},
      {"not ascending", {b, a}, {{}, {0, 0, 1}, {0, 1, 1}}},
      {"not ascending", {a, a}, {{}, {0, 0, 1}, {0, 1, 1}}},
      {"unused frame", {a, b}, {{}, {0, 0, 1}}},
      {"frame out of range", {a}, {{}, {0, 1, 1}}},
      {"parent after child", {a}, {{}, {1, 0, 1}}},
      {"empty leaf", {a}, {{}, {0, 0, 0}}},
      {"empty leaf", {a, b}, {{}, {0, 0, 0}, {0, 1, 1}}},
      {"siblings not ascending", {a, b}, {{}, {0, 1, 1}, {0, 0, 1}}},
      {"siblings not ascending", {a}, {{}, {0, 0, 1}, {0, 0, 1}}},
      {"not depth first", {a, b}, {{}, {0, 0, 1}, {0, 1, 1}, {1, 1, 1}}},
      {"[other] has children", {a, other}, {{}, {0, 1, 1}, {1, 0, 1}}},
      {"total out of range", {a}, {{}, {0, 0, top}}},
      {"unknown frame kind", {{FrameKind{9}, "", ""}}, {{}, {0, 0, 1}}},
      {"not UTF-8", {{FrameKind::kUser, "", "\xff"}}, {{}, {0, 0, 1}}},
      {"too long", {{FrameKind::kUser, "", std::string(1025, 'x')}}, {{}, {0, 0, 1}}},
  };
  for (const Case& c : cases) {
    const auto built = Profile::rebuild(c.frames, c.nodes, 1, {});
    ASSERT_FALSE(built.ok()) << c.why;
    EXPECT_NE(built.error().message.find(c.why), std::string::npos) << built.error().message;
  }
  Nodes deep(Profile::kMaxDepth + 2, {0, 0, 1});
  for (uint32_t i = 1; i < deep.size(); ++i) deep[i].parent = i - 1;
  deep[0] = {};
  EXPECT_FALSE(Profile::rebuild({a}, deep, 1, {}).ok());
  deep.pop_back();
  EXPECT_TRUE(Profile::rebuild({a}, deep, 1, {}).ok());
}

TEST(Profile, SplitPartsMergeToTheWhole) {
  std::mt19937_64 random(11);
  Profile whole = of(random_samples(random, 300));
  whole.add_quality({.lost = 3, .truncated = 0, .unresolved = 1});
  for (const size_t max_stacks : {size_t{1}, size_t{7}, size_t{100'000}}) {
    const auto parts = whole.split(max_stacks);
    Profile merged;
    std::map<std::string, size_t> seen;
    for (const Profile& part : parts) {
      const auto lines = folded(part);
      EXPECT_LE(lines.size(), max_stacks);
      for (const auto& line : lines) EXPECT_EQ(++seen[line.substr(0, line.rfind(' '))], 1U);
      ASSERT_TRUE(merged.merge(part).ok());
    }
    EXPECT_EQ(merged, whole);
  }
  EXPECT_EQ(Profile().split(10).size(), 1U);
}

}  // namespace weir
