#include "common/utf8.h"

#include <string>

#include <gtest/gtest.h>

namespace weir {

TEST(Utf8, AcceptsEveryLengthAndItsFirstAndLastCharacter) {
  for (const std::string_view good :
       {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "caf\xc3\xa9 \xe2\x9c\x93"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
    EXPECT_EQ(to_utf8(good, 100), good);
  }
}

TEST(Utf8, RefusesOverlongFormsSurrogatesAndWhatIsCut) {
  for (const std::string_view bad :
       {"\x80", "\xff", "\xc0\xaf", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x9c",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\xc3z"}) {
    EXPECT_FALSE(is_utf8(bad));
    EXPECT_TRUE(is_utf8(to_utf8(bad, 100)));
  }
}

TEST(Utf8, RepairsByteByByteAndCutsBetweenCharacters) {
  EXPECT_EQ(to_utf8("a\xff\xc3\xa9z", 100), "a?\xc3\xa9z");
  EXPECT_EQ(to_utf8("ab\xc3\xa9", 3), "ab");
  EXPECT_EQ(to_utf8("ab\xc3\xa9", 4), "ab\xc3\xa9");
}

TEST(Utf8, TextsTooLongAreCutButStayApart) {
  const std::string same(40, 'a');
  EXPECT_EQ(fit_text(same, 40), same);
  EXPECT_EQ(fit_text("a\xff", 40), "a?");
  const std::string cut = fit_text(same + "1", 40);
  EXPECT_EQ(cut.substr(0, 32), same.substr(0, 32));
  EXPECT_EQ(cut.find_first_not_of("0123456789abcdef", 32), std::string::npos);
  EXPECT_EQ(cut.size(), 40U);
  EXPECT_NE(cut, fit_text(same + "2", 40));
  EXPECT_EQ(cut, fit_text(same + "1", 40));
  EXPECT_TRUE(is_utf8(fit_text(std::string(31, 'a') + "\xc3\xa9" + same, 40)));
}

}  // namespace weir
