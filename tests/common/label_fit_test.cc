#include "common/label_fit.h"

#include <gtest/gtest.h>

#include "common/utf8.h"

namespace weir {

TEST(LabelFit, LongTextsAreCutBetweenCharactersAndHostsAgree) {
  EXPECT_EQ(cut_text(std::string(64, 'a'), 64), std::string(64, 'a'));
  const std::string cut = cut_text(std::string(65, 'a'), 64);
  EXPECT_EQ(cut, std::string(56, 'a') + "264ccd21") << "never change it: hosts must agree";
  EXPECT_NE(cut, cut_text(std::string(66, 'a'), 64));
  std::string snow;
  for (int i = 0; i < 50; ++i) snow += "\xe2\x98\x83";
  for (size_t limit = 16; limit < 40; ++limit) {
    const std::string text = cut_text(snow, limit);
    EXPECT_TRUE(is_utf8(text)) << limit;
    EXPECT_LE(text.size(), limit);
    EXPECT_GE(text.size() + 2, limit);
    EXPECT_EQ(text.find('?'), std::string::npos);
  }
}

TEST(LabelFit, WhatFitsIsSortedAndOtherwiseAsItWas) {
  LabelFit fit;
  const LabelView labels[] = {{"b", "2"}, {"empty", ""}, {"a", "1"}};
  const auto out = fit(labels, {});
  ASSERT_TRUE(out.fits);
  EXPECT_EQ(out.cut, 0U);
  ASSERT_EQ(out.labels.size(), 2U);
  EXPECT_EQ(out.labels[0].name, "a");
  EXPECT_EQ(out.labels[1].value, "2");
}

TEST(LabelFit, NamesAndValuesHaveTheirOwnLimits) {
  LabelFit fit;
  const std::string text(70, 'x');
  const LabelView labels[] = {{text, text}};
  const auto out = fit(labels, {.count = 1, .name = 64, .value = 128});
  ASSERT_TRUE(out.fits);
  EXPECT_EQ(out.cut, 1U);
  EXPECT_EQ(out.labels[0].name.size(), 64U);
  EXPECT_EQ(out.labels[0].value, text);
  EXPECT_FALSE(fit(labels, {.count = 0, .name = 64, .value = 128}).fits);
}

}  // namespace weir
