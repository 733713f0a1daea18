// weir check config: runs the daemon's or the aggregator's own --check, so there is one reader.

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/report.h"

extern char** environ;

namespace weir::cli {
namespace {

// An aggregator's configuration must name its tier; a daemon's cannot.
Result<std::string> program_for(const std::string& file) {
  std::ifstream in(file);
  if (!in)
    return Error{Errc::kIo, fmt::format("cannot read {}: {}", file,
                                        std::strerror(errno))};  // NOLINT(concurrency-mt-unsafe)
  std::string line;
  for (int lines = 0; lines < 20'000 && std::getline(in, line); ++lines) {
    if (line.starts_with("tier:")) return std::string("weir-aggregator");
  }
  return std::string("weir-daemon");
}

// The program installed beside this one.
Result<std::string> sibling(const std::string& program) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error{Errc::kIo, "cannot find this program's folder: " + error.message()};
  const auto path = self.parent_path() / program;
  if (::access(path.c_str(), X_OK) != 0) {
    return Error{Errc::kNotFound, path.string() + " is not installed beside weir"};
  }
  return path.string();
}

Result<int> check_one(const std::string& file) {
  WEIR_TRY_ASSIGN(const std::string program, program_for(file));
  WEIR_TRY_ASSIGN(std::string path, sibling(program));
  std::string config = "--config";
  std::string check = "--check";
  std::string name = file;
  std::array<char*, 5> arguments{path.data(), config.data(), name.data(), check.data(), nullptr};
  pid_t child = 0;
  if (const int error =
          ::posix_spawn(&child, path.c_str(), nullptr, nullptr, arguments.data(), environ);
      error != 0) {
    return Error{Errc::kIo, fmt::format("cannot start {}: {}", path,
                                        std::strerror(error))};  // NOLINT(concurrency-mt-unsafe)
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return Error{Errc::kIo, "lost the checking process"};
  }
  if (!WIFEXITED(status)) return Error{Errc::kInternal, program + " --check was killed"};
  return WEXITSTATUS(status);
}

}  // namespace

int run_check_config(const std::vector<std::string>& files) {
  int worst = kAnswered;
  for (const auto& file : files) {
    const auto code = check_one(file);
    if (!code.ok()) return usage(code.error());
    if (*code != 0) worst = kUsage;
  }
  return worst;
}

}  // namespace weir::cli
