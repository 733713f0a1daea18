#pragma once
// BodyFile: the bodies of inbox rows, in a file beside the database. A row says where its own is;
// where no row points, there is nothing. Inside SQLite every page of a body is searched for, summed
// and written twice: a third of what a region's CPU does (docs/adr/0019-bodies.md).
//
// Owner and thread: the Store's; BodyReader: of who reads rows, on any thread. Promise: what
// write() took stays taken until drop(), or after keep() until give_back(); what sync() returned
// good for is on the disk, so whoever commits rows calls it first. No body is moved, and one that
// is written harms no other, for bodies begin at sectors. Nothing that is read is trusted: rows
// have a CRC32C. The file grows by steps, leaves the file system its reserve and does not shrink.
// kLimit: no room, the file holds nothing new. kIo: the disk fails, the process must end.
// Cost: a pwrite a body, one fdatasync a sync(), in memory at most one span of free room per row.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/disk_budget.h"
#include "common/fd.h"
#include "common/result.h"
#include "common/sqlite.h"

namespace weir::aggregator {

struct BodySpan {
  uint64_t place = 0;  // in the file
  uint64_t size = 0;
};

[[nodiscard]] std::string body_file(const std::string& database);  // beside it

struct BodyFileOptions {
  std::optional<DiskBudgetOptions> disk{};  // none: the file grows as it needs to
  // Tests of disk faults put themselves between; as pwrite(2) and fdatasync(2).
  std::function<ssize_t(int fd, const void* from, size_t size, off_t place)> write{};
  std::function<int(int fd)> sync{};
};

// Of a row's columns place and size from `column` on; nothing where the body is in the row.
void add_span(const Statement& row, int column, std::vector<BodySpan>& spans);

class BodyFile {
 public:
  // `taken`: of all rows. kIo: two of them have the same place, so the database is damaged.
  static Result<BodyFile> open(const std::string& path, BodyFileOptions options,
                               std::vector<BodySpan> taken);

  Result<uint64_t> write(ByteView body);  // its place
  Status sync();                          // of what was written since the last one

  void keep();                                         // its rows are committed
  void drop();                                         // its rows are not
  void give_back(const std::vector<BodySpan>& spans);  // their rows are gone
  void give_back_all();

  [[nodiscard]] uint64_t file_bytes() const { return end_; }

  [[nodiscard]] uint64_t free_bytes() const { return free_bytes_; }

 private:
  BodyFile(std::string path, BodyFileOptions options)
      : path_(std::move(path)), options_(std::move(options)) {}

  Status open_file();
  [[nodiscard]] std::optional<uint64_t> take(uint64_t size);
  void free(uint64_t place, uint64_t size);
  Status grow(uint64_t size);
  [[nodiscard]] Error failed(const char* what, int error) const;

  std::string path_;
  BodyFileOptions options_;
  Fd fd_;
  uint64_t end_ = 0;
  std::map<uint64_t, uint64_t> free_;  // place -> size, no two of them touch
  uint64_t free_bytes_ = 0;
  uint64_t next_ = 0;  // where to look first: what was given back last is taken again last
  std::vector<BodySpan> written_;  // since keep() or drop()
  bool synced_ = true;
};

class BodyReader {
 public:
  explicit BodyReader(std::string path) : path_(std::move(path)) {}

  // Of a row's columns crc, place, size and body from `column` on: a body is in the row where place
  // is null. Valid until the next call or step. Error: it is not what was stored.
  Result<ByteView> read(const Statement& row, int column);
  // The same as it is found, for people to look at; what cannot be read is left out.
  ByteView read_unchecked(const Statement& row, int column);

 private:
  std::string path_;
  Fd fd_;
  Bytes body_;
};

}  // namespace weir::aggregator
