#pragma once
// FileSizeLimit: while it lives, no file of this process can grow past `size`: writes fail as on a
// broken disk (EFBIG, which SQLite reports as an I/O error).

#include <sys/resource.h>

#include <csignal>

#include "common/check.h"

namespace weir {

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t size) {
    std::signal(SIGXFSZ, SIG_IGN);
    WEIR_CHECK(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
    const rlimit limit{size, before_.rlim_max};
    WEIR_CHECK(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }

  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  ~FileSizeLimit() { WEIR_CHECK(::setrlimit(RLIMIT_FSIZE, &before_) == 0); }

 private:
  rlimit before_{};
};

}  // namespace weir
