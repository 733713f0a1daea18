#include "common/data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace weir {

Result<Fd> lock_data_dir(const std::string& dir) {
  const auto failed = [](const std::string& what) {
    return Error{Errc::kIo, what + ": " + std::system_category().message(errno)};
  };
  std::error_code error;
  const std::filesystem::path path(dir);
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (error) return Error{Errc::kIo, "data_dir " + dir + ": " + error.message()};
  if (::mkdir(dir.c_str(), 0750) != 0 && errno != EEXIST) return failed("data_dir " + dir);
  Fd lock(::open((dir + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  // On a read-only file system an old lock still keeps two processes apart.
  if (!lock.valid() && errno == EROFS) {
    lock = Fd(::open((dir + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!lock.valid()) errno = EROFS;
  }
  if (!lock.valid()) return failed(dir + "/lock");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return failed(dir + "/lock");
  return Error{Errc::kUnavailable, "data_dir " + dir + " is in use by another weir process"};
}

}  // namespace weir
