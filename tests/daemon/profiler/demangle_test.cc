#include "daemon/profiler/demangle.h"

#include <string>

#include <gtest/gtest.h>

namespace weir::daemon {
namespace {

TEST(CleanName, KeepsTextAndValidUtf8) {
  EXPECT_EQ(clean_name("std::vector<int>::at"), "std::vector<int>::at");
  EXPECT_EQ(clean_name("café ✓ 𝛼"), "café ✓ 𝛼");
}

TEST(CleanName, ReplacesControlsAndBytesThatAreNotUtf8) {
  EXPECT_EQ(clean_name("a\x1b[31m\n\x7f"), "a?[31m??");
  EXPECT_EQ(clean_name("\xc2\x9b"), "??");            // a C1 control
  EXPECT_EQ(clean_name("\xff\xc0\xaf"), "???");       // not UTF-8, overlong
  EXPECT_EQ(clean_name("\xed\xa0\x80"), "???");       // a surrogate
  EXPECT_EQ(clean_name("\xf4\x90\x80\x80"), "????");  // beyond Unicode
  EXPECT_EQ(clean_name("x\xe2\x9c"), "x??");          // cut short
  EXPECT_EQ(clean_name(std::string_view("a\0b", 3)), "a?b");
}

TEST(CleanName, CutsAtACharacterBoundary) {
  EXPECT_EQ(clean_name("ab✓", 4), "ab");
  EXPECT_EQ(clean_name("ab✓", 5), "ab✓");
  EXPECT_EQ(clean_name(std::string(10'000, 'x')).size(), kMaxNameBytes);
}

TEST(CleanName, IsNeverEmpty) { EXPECT_EQ(clean_name(""), "?"); }

TEST(Demangle, SpellsCppNames) {
  EXPECT_EQ(demangle("_ZN4weir6daemon10clean_nameESt17basic_string_viewIcSt11char_traitsIcEEm"),
            "weir::daemon::clean_name(std::basic_string_view<char, std::char_traits<char> >, "
            "unsigned long)");
}

TEST(Demangle, LeavesOtherNamesAlone) {
  EXPECT_EQ(demangle("main"), "main");
  EXPECT_EQ(demangle("_Z"), "_Z");
  EXPECT_EQ(demangle("_ZZZZ"), "_ZZZZ");
  EXPECT_EQ(demangle("<script>alert(1)</script>"), "<script>alert(1)</script>");
}

TEST(Demangle, CutsLongNames) {
  std::string symbol = "_Z1f";
  for (int i = 0; i < 30; ++i) symbol += "29" + std::string(29, 'A');
  EXPECT_LE(demangle(symbol).size(), kMaxNameBytes);
  symbol = "_ZN";
  for (int i = 0; i < 30; ++i)
    symbol += "29" + std::string(28, 'A') + static_cast<char>('A' + i % 26);
  symbol += "E";
  EXPECT_EQ(demangle(symbol).size(), kMaxNameBytes);
}

// f(P<int,int>, P<x,x>, P<y,y>, ...): each argument twice as long as the one before.
TEST(Demangle, ANameThatUnfoldsExponentiallyStaysMangled) {
  std::string symbol = "_Z1f1PIiiE";
  const std::string digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  for (size_t i = 0; i < 30; ++i) {
    const std::string previous = std::string("S") + digits[i] + "_";
    symbol += "S_I" + previous + previous + "E";
  }
  EXPECT_EQ(demangle(symbol), symbol);
}

TEST(Demangler, RemembersNames) {
  Demangler demangler;
  const std::string* first = &demangler.name("_Z1fv");
  EXPECT_EQ(*first, "f()");
  EXPECT_EQ(&demangler.name("_Z1fv"), first);
}

TEST(Demangler, StartsOverInsteadOfGrowingForEver) {
  Demangler demangler;
  for (int i = 0; i < 40'000; ++i) {
    ASSERT_EQ(demangler.name("name" + std::to_string(i)), "name" + std::to_string(i));
  }
}

}  // namespace
}  // namespace weir::daemon
