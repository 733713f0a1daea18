#include "common/allow_list.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "common/hash.h"
#include "common/log.h"

namespace weir {
namespace {

// A copy of many files makes many events: they are read together.
constexpr std::chrono::milliseconds kSettle{100};
constexpr std::chrono::seconds kLookEvery{1};
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                             IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB;

Result<std::vector<std::string>> names_in(const std::string& dir) {
  WEIR_TRY(check_allow_folder(dir));
  std::vector<std::string> out;
  std::error_code error;
  for (auto it = std::filesystem::directory_iterator(dir, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with('.') || !name.ends_with(".pub")) continue;
    if (out.size() == AllowedKeys::kMaxFiles) {
      return Error{Errc::kLimit, fmt::format("{}: more than {} files: put several lines in one",
                                             dir, AllowedKeys::kMaxFiles)};
    }
    out.push_back(name);
  }
  if (error) return Error{Errc::kIo, fmt::format("{}: cannot read: {}", dir, error.message())};
  std::ranges::sort(out);
  return out;
}

}  // namespace

Status check_allow_folder(const std::string& dir) {
  struct stat info {};

  if (::stat(dir.c_str(), &info) != 0) {
    return Error{Errc::kIo, fmt::format("{}: cannot open: {}; make it, and put the host.pub of "
                                        "every host that may connect into it as NAME.pub",
                                        dir, std::system_category().message(errno))};
  }
  return check_trusted_folder(dir);
}

// ---- keys ----

size_t AllowedKeys::KeyHash::operator()(const PublicKey& key) const {
  static const HashSeed seed(process_seed());
  return hash64(key, seed);
}

const PublicLine* AllowedKeys::find(const PublicKey& key) const {
  const auto it = keys_.find(key);
  return it == keys_.end() ? nullptr : &it->second;
}

std::vector<PublicLine> AllowedKeys::lines() const {
  std::vector<PublicLine> out;
  out.reserve(keys_.size());
  for (const auto& [key, line] : keys_) out.push_back(line);
  return out;
}

void AllowedKeys::read(const std::string& dir, int64_t now_s) {
  problems_.clear();
  const auto found = names_in(dir);
  if (found) {
    read_files(dir, *found);
  } else {
    problems_.push_back(found.error().message + " (every key that was there keeps its place)");
  }
  join(dir, now_s);
}

void AllowedKeys::read_files(const std::string& dir, const std::vector<std::string>& names) {
  const std::set<std::string> present(names.begin(), names.end());
  std::erase_if(files_, [&](const auto& file) { return !present.contains(file.first); });
  for (const std::string& name : names) {
    const std::string path = dir + "/" + name;
    auto text = read_trusted_file(path, kMaxFileBytes);
    auto lines = text ? parse_public_lines(path, *text)
                      : Result<std::vector<PublicLine>>(std::move(text).error());
    if (lines) {
      files_[name] = *std::move(lines);
    } else if (lines.error().code == Errc::kNotFound) {
      files_.erase(name);  // taken away just now
    } else {
      problems_.push_back(lines.error().message + (files_.contains(name)
                                                       ? " (the keys it had keep their place)"
                                                       : " (no key of it is let in)"));
    }
  }
}

void AllowedKeys::join(const std::string& dir, int64_t now_s) {
  std::set<PublicKey> disputed;
  std::map<SourceId, size_t> keys_of;
  keys_.clear();
  for (const auto& [name, lines] : files_) {
    const std::string path = dir + "/" + name;
    for (const PublicLine& line : lines) {
      if (const auto there = keys_.find(line.key); there != keys_.end()) {
        if (there->second.owner != line.owner && disputed.insert(line.key).second) {
          problems_.push_back(
              fmt::format("{}: the key {} has another owner elsewhere: nobody may "
                          "use it",
                          path, z85_text(line.key)));
        }
        there->second.not_after_s = std::min(there->second.not_after_s, line.not_after_s);
        continue;
      }
      if (keys_.size() == kMaxKeys) {
        problems_.push_back(
            fmt::format("{}: more than {} keys: the rest is left out", path, kMaxKeys));
        break;
      }
      if (line.not_after_s > now_s && ++keys_of[line.owner.source] > kMaxKeysOfOne) {
        problems_.push_back(fmt::format("{}: source {} has more than {} valid keys: {} is left out",
                                        path, uuid_text(line.owner.source), kMaxKeysOfOne,
                                        z85_text(line.key)));
        continue;
      }
      keys_.emplace(line.key, line);
    }
  }
  for (const PublicKey& key : disputed) keys_.erase(key);
}

// ---- list ----

AllowList::AllowList(std::string dir, Loop& loop, const Clock& clock)
    : dir_(std::move(dir)), loop_(loop), clock_(clock) {}

Result<std::unique_ptr<AllowList>> AllowList::open(std::string dir, Loop& loop,
                                                   const Clock& clock) {
  WEIR_TRY(check_allow_folder(dir));
  std::unique_ptr<AllowList> out(new AllowList(std::move(dir), loop, clock));
  WEIR_TRY(out->watch());  // before reading, so that nothing falls between
  out->reload();
  out->look_ = loop.every(kLookEvery, [list = out.get()] { list->look(); });
  return out;
}

AllowList::~AllowList() {
  if (inotify_.valid()) loop_.remove(entry_);
  if (settle_ != 0) loop_.remove(settle_);
  if (look_ != 0) loop_.remove(look_);
}

Status AllowList::watch() {
  inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_.valid() || ::inotify_add_watch(inotify_.get(), dir_.c_str(), kEvents) < 0) {
    const int error = errno;
    inotify_.reset();
    return Error{Errc::kIo,
                 fmt::format("{}: cannot watch: {}", dir_, std::system_category().message(error))};
  }
  entry_ = loop_.on_readable(inotify_.get(), [this] { on_change(); });
  return {};
}

// What the events say is not looked at: the folder says it.
void AllowList::on_change() {
  alignas(inotify_event) std::array<char, 4096> events{};
  while (::read(inotify_.get(), events.data(), events.size()) > 0) {
  }
  if (settle_ != 0) return;
  settle_ = loop_.after(kSettle, [this] {
    settle_ = 0;
    reload();
  });
}

// A folder that was replaced as a whole, and a link that was switched, make no event.
void AllowList::look() {
  if (folder_there() != folder_ || (!watched_ && folder_)) reload();
}

std::optional<AllowList::Folder> AllowList::folder_there() const {
  struct stat info {};

  if (::stat(dir_.c_str(), &info) != 0) return {};
  return Folder{info.st_dev, info.st_ino};
}

void AllowList::reload() {
  // Again, should another folder stand there now; of the same one it changes nothing.
  folder_ = folder_there();
  watched_ = ::inotify_add_watch(inotify_.get(), dir_.c_str(), kEvents) >= 0;
  keys_.read(dir_, unix_seconds(clock_.now()));
  bad_files_ += problems().size();
  for (const std::string& problem : problems()) log::error("allow-list: {}", problem);
  log::info("allow-list {}: {} keys in {} files", dir_, keys_.size(), keys_.files());
}

AllowList::Found AllowList::find(const PublicKey& key) const {
  const PublicLine* line = keys_.find(key);
  if (line == nullptr) return {};
  const bool valid = unix_seconds(clock_.now()) < line->not_after_s;
  return {valid ? Verdict::kAllowed : Verdict::kExpired, line->owner};
}

}  // namespace weir
