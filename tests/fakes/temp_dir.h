#pragma once
// TempDir: a fresh directory that goes away with the test.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/check.h"

namespace weir {

class TempDir {
 public:
  explicit TempDir(const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "weir-test-XXXXXX").string();
    WEIR_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }

  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace weir
