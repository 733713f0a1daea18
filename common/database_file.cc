#include "common/database_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "common/fd.h"
#include "common/log.h"

namespace weir {
namespace {

namespace fs = std::filesystem;

constexpr size_t kKept = 3;

std::string suspect_mark(const std::string& path) { return path + ".suspect"; }

Status check_pages(Database& db) {
  WEIR_TRY_ASSIGN(auto check, db.prepare("PRAGMA quick_check(1)"));
  WEIR_TRY_ASSIGN(const bool row, check.step());
  if (row && check.text(0) == "ok") return {};
  return Error{Errc::kIo, "malformed: " + std::string(row ? check.text(0) : "no answer")};
}

Status try_open(const std::string& path, const DatabaseOptions& options,
                const std::function<Status()>& open) {
  if (::access(suspect_mark(path).c_str(), F_OK) == 0) {
    WEIR_TRY_ASSIGN(auto db, Database::open(path, options));
    if (auto good = check_pages(db); !good.ok()) return std::move(good).error().with(path);
    ::unlink(suspect_mark(path).c_str());
  }
  return open();
}

// The numbers N of PATH.bad-N.
std::vector<uint64_t> put_aside_before(const std::string& path) {
  std::vector<uint64_t> numbers;
  const std::string prefix = fs::path(path).filename().string() + ".bad-";
  std::error_code error;
  for (fs::directory_iterator at(fs::path(path).parent_path(), error), end; !error && at != end;
       at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    uint64_t number = 0;
    const char* last = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + prefix.size(), last, number);
    if (parsed.ec == std::errc() && parsed.ptr == last) numbers.push_back(number);
  }
  std::ranges::sort(numbers);
  return numbers;
}

constexpr const char* kParts[] = {"-wal", "-shm", ""};

void remove_all(const std::string& path) {
  for (const char* part : kParts) ::unlink((path + part).c_str());
}

// The WAL first: the database without it is a whole one of an earlier moment, and if the process
// ends between the two that is what the next start finds.
Result<std::string> put_aside(const std::string& path) {
  const std::vector<uint64_t> before = put_aside_before(path);
  const std::string aside = path + ".bad-" + std::to_string(before.empty() ? 1 : before.back() + 1);
  for (const char* part : kParts) {
    const std::string from = path + part;
    if (::rename(from.c_str(), (aside + part).c_str()) == 0 || errno == ENOENT) continue;
    return Error{Errc::kUnavailable,
                 "cannot rename " + from + ": " + std::system_category().message(errno)};
  }
  for (size_t i = 0; i + kKept <= before.size(); ++i) {
    remove_all(path + ".bad-" + std::to_string(before[i]));
  }
  ::unlink(suspect_mark(path).c_str());
  return aside;
}

}  // namespace

Status open_or_replace(const std::string& path, const DatabaseOptions& options,
                       const std::function<Status()>& open) {
  std::error_code unknown;
  const auto size = fs::file_size(path, unknown);
  // A disk that cannot even say so may hold all of it.
  const bool had_data = unknown ? unknown != std::errc::no_such_file_or_directory : size > 0;
  Status opened = try_open(path, options, open);
  if (opened.ok() || opened.error().code != Errc::kIo) return opened;
  if (had_data) {
    const std::string why = opened.error().message;
    WEIR_TRY_ASSIGN(const std::string aside, put_aside(path));
    log::error(
        "the database cannot be used ({}): it is now {}, and a new one begins without what "
        "was only in it",
        why, aside);
    opened = try_open(path, options, open);
  }
  // Nothing is in a new one yet; left there, the next start would put it aside as well, and push
  // out the one that matters.
  if (!opened.ok() && opened.error().code == Errc::kIo) remove_all(path);
  return opened;
}

void mark_suspect(const std::string& path) {
  const Fd mark(::open(suspect_mark(path).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  if (mark.valid()) ::fsync(mark.get());
}

}  // namespace weir
