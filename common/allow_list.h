#pragma once
// AllowList: whose keys a door lets in. A folder of *.pub files (common/keys.h has the line),
// watched: what an operator adds or takes away holds at once, and another folder in its place (or
// behind its link) within a second, without a restart.
//
// Owner and thread: the loop thread of the door. Promise: a lookup sees one state of the whole
// folder, and a reload replaces it at once; a file with a mistake, or that everybody or a stranger
// could write, keeps the lines it had, is said
// in the log and raises bad_files(); so does a folder that is gone; a key that two lines give to
// different owners belongs to nobody. Limits: kMaxFiles files, kMaxFileBytes each, kMaxKeys keys,
// two unexpired keys a source (so that one can replace the other). Cost: a lookup is one hash; a
// reload reads the folder.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/fd.h"
#include "common/keys.h"
#include "common/loop.h"
#include "common/result.h"

namespace weir {

// The folder as it was last read; no watching, no log.
class AllowedKeys {
 public:
  static constexpr size_t kMaxFiles = 16'384;
  static constexpr size_t kMaxFileBytes = size_t{2} << 20;
  static constexpr size_t kMaxKeys = 65'536;
  static constexpr size_t kMaxKeysOfOne = 2;

  // Only keys that have not ended by `now_s` count towards kMaxKeysOfOne.
  void read(const std::string& dir, int64_t now_s);

  [[nodiscard]] const PublicLine* find(const PublicKey& key) const;  // null: not in it

  [[nodiscard]] std::vector<PublicLine> lines() const;  // in no order

  [[nodiscard]] size_t size() const { return keys_.size(); }

  [[nodiscard]] size_t files() const { return files_.size(); }

  // One sentence each, of the last read.
  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

 private:
  struct KeyHash {
    size_t operator()(const PublicKey& key) const;
  };

  void read_files(const std::string& dir, const std::vector<std::string>& names);
  void join(const std::string& dir, int64_t now_s);

  std::map<std::string, std::vector<PublicLine>> files_;  // by name, as last read well
  std::unordered_map<PublicKey, PublicLine, KeyHash> keys_;
  std::vector<std::string> problems_;
};

// kInvalid when everybody, or a user who is neither root nor we, may write into the folder, and so
// let anybody in.
Status check_allow_folder(const std::string& dir);

class AllowList {
 public:
  enum class Verdict : uint8_t { kAllowed, kUnknown, kExpired };

  struct Found {
    Verdict verdict = Verdict::kUnknown;
    Identity owner;  // of kAllowed and kExpired
  };

  // `loop` and `clock` outlive it. An error when the folder cannot be read; bad files are only
  // counted, so that one typing mistake does not keep a whole tier from starting.
  static Result<std::unique_ptr<AllowList>> open(std::string dir, Loop& loop, const Clock& clock);
  AllowList(const AllowList&) = delete;
  AllowList& operator=(const AllowList&) = delete;
  ~AllowList();

  [[nodiscard]] Found find(const PublicKey& key) const;

  // Reads the folder again: on SIGHUP, or by itself when a file in it changed.
  void reload();

  [[nodiscard]] size_t size() const { return keys_.size(); }

  [[nodiscard]] uint64_t bad_files() const { return bad_files_; }  // since the start

  [[nodiscard]] const std::vector<std::string>& problems() const { return keys_.problems(); }

 private:
  AllowList(std::string dir, Loop& loop, const Clock& clock);
  using Folder = std::pair<uint64_t, uint64_t>;  // device and inode

  Status watch();
  void on_change();
  void look();
  [[nodiscard]] std::optional<Folder> folder_there() const;

  std::string dir_;
  Loop& loop_;
  const Clock& clock_;
  Fd inotify_;
  Loop::EntryId entry_ = 0;
  Loop::EntryId settle_ = 0;  // 0: no reload is due
  Loop::EntryId look_ = 0;
  std::optional<Folder> folder_;  // as last read; absent: there was none
  bool watched_ = false;
  AllowedKeys keys_;
  uint64_t bad_files_ = 0;
};

}  // namespace weir
