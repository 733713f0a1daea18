#include "common/data_dir.h"

#include <sys/stat.h>

#include <gtest/gtest.h>

#include "tests/fakes/temp_dir.h"

namespace weir {

TEST(DataDir, IsMadeForItsOwnerAndHeldByOneAtATime) {
  const TempDir folder;
  const std::string dir = folder.file("a/b");
  {
    const auto first = lock_data_dir(dir);
    ASSERT_TRUE(first.ok());

    struct stat made {};

    ASSERT_EQ(::stat(dir.c_str(), &made), 0);
    EXPECT_EQ(made.st_mode & 07U, 0U) << "nothing for others";
    const auto second = lock_data_dir(dir);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, Errc::kUnavailable);
    EXPECT_NE(second.error().message.find("in use by another weir process"), std::string::npos);
  }
  EXPECT_TRUE(lock_data_dir(dir).ok());
}

TEST(DataDir, AFileInItsPlaceIsAnErrorThatNamesIt) {
  const auto locked = lock_data_dir("/dev/null/weir");
  ASSERT_FALSE(locked.ok());
  EXPECT_NE(locked.error().message.find("/dev/null/weir"), std::string::npos);
}

}  // namespace weir
