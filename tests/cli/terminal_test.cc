#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace weir::cli {

TEST(Printable, KeepsTextAndValidUtf8) { EXPECT_EQ(printable("café ✓ /a{id}"), "café ✓ /a{id}"); }

TEST(Printable, EscapesControlsThatSteerTerminals) {
  EXPECT_EQ(printable("\x1b[31mred\x07\n"), "\\x1b[31mred\\x07\\x0a");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
}

TEST(Printable, EscapesBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("a\xff\xc0\xaf\xed\xa0\x80z"), "a\\xff\\xc0\\xaf\\xed\\xa0\\x80z");
  EXPECT_EQ(printable("\xe2\x9c"), "\\xe2\\x9c");
}

}  // namespace weir::cli
