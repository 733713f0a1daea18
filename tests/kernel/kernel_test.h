#pragma once
// What every kernel test shares: skip with the probed reason, or fail when
// WEIR_REQUIRE_KERNEL_TESTS=1, and one line at the end saying how many really ran.

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace weir::kernel_test {

inline bool skips_are_failures() {
  const char* value = std::getenv("WEIR_REQUIRE_KERNEL_TESTS");  // NOLINT: before any thread
  return value != nullptr && std::string_view(value) == "1";
}

class Summary : public ::testing::Environment {
 public:
  void TearDown() override {
    const auto& unit = *::testing::UnitTest::GetInstance();
    const int all = unit.test_to_run_count();
    std::printf("kernel tests: %d of %d run\n", all - unit.skipped_test_count(), all);
  }
};

inline ::testing::Environment* const kSummary = ::testing::AddGlobalTestEnvironment(new Summary);

}  // namespace weir::kernel_test

// In a test body: skips it when `reason` is not empty (a sentence the collector probed).
#define WEIR_SKIP_IF(reason)                                              \
  do {                                                                    \
    if (const std::string weir_reason = (reason); !weir_reason.empty()) { \
      if (::weir::kernel_test::skips_are_failures()) {                    \
        FAIL() << "required, but cannot run: " << weir_reason;            \
      }                                                                   \
      GTEST_SKIP() << "SKIP: " << weir_reason;                            \
    }                                                                     \
  } while (false)
