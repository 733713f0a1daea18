#include "aggregator/store/body_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <utility>

#include "common/batch.h"
#include "common/crc32c.h"

namespace weir::aggregator {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kStepWithoutBudget = uint64_t{1} << 20;
constexpr uint64_t kLargestFile = uint64_t{1} << 50;  // no place is beyond, whatever a row says

uint64_t room_of(uint64_t size) {
  return (std::max<uint64_t>(size, 1) + kSector - 1) / kSector * kSector;
}

}  // namespace

std::string body_file(const std::string& database) { return database + "-bodies"; }

void add_span(const Statement& row, int column, std::vector<BodySpan>& spans) {
  if (row.is_null(column)) return;
  spans.push_back({row.unsigned_integer(column), row.unsigned_integer(column + 1)});
}

Error BodyFile::failed(const char* what, int error) const {
  const bool forbidden = error == EROFS || error == EACCES || error == EPERM;
  const bool full = error == ENOSPC || error == EDQUOT;
  const Errc code = full ? Errc::kLimit : forbidden ? Errc::kUnavailable : Errc::kIo;
  return {code, path_ + ": cannot " + what + ": " + std::system_category().message(error)};
}

Result<BodyFile> BodyFile::open(const std::string& path, BodyFileOptions options,
                                std::vector<BodySpan> taken) {
  BodyFile out(path, std::move(options));
  if (!out.options_.write) out.options_.write = ::pwrite;
  if (!out.options_.sync) out.options_.sync = ::fdatasync;
  WEIR_TRY(out.open_file());
  std::ranges::sort(taken, {}, &BodySpan::place);
  const uint64_t length = out.end_;
  uint64_t at = 0;
  for (const BodySpan& span : taken) {
    if (span.place < at || span.place % kSector != 0 || span.place > kLargestFile ||
        span.size > kBatchMaxBytes) {
      return Error{Errc::kIo, "malformed: rows of the inbox share a place in " + path};
    }
    if (span.place > at) out.free(at, span.place - at);
    at = span.place + room_of(span.size);
  }
  // A file that was cut: what is beyond its end reads as damaged, and the room is there again.
  out.end_ = std::max(at, length);
  if (out.end_ > at) out.free(at, out.end_ - at);
  return out;
}

Status BodyFile::open_file() {
  fd_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!fd_.valid()) return failed("open", errno);

  struct stat found {};

  if (::fstat(fd_.get(), &found) != 0) return failed("look at", errno);
  end_ = static_cast<uint64_t>(found.st_size) / kSector * kSector;
  if (end_ > 0) return {};
  // Its name is to be on the disk before a row points to it.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const Fd dir(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir.valid() || ::fsync(dir.get()) != 0) return failed("sync the folder of", errno);
  return {};
}

// The next room from next_ on, and around: within a span, or at the front of a later one.
std::optional<uint64_t> BodyFile::take(uint64_t size) {
  const auto fits = [&](const auto& span) {
    return span.first + span.second >= std::max(span.first, next_) + size;
  };
  auto from = free_.upper_bound(next_);
  if (from != free_.begin()) --from;
  auto found = std::find_if(from, free_.end(), fits);
  if (found == free_.end()) {
    next_ = 0;
    found = std::find_if(free_.begin(), free_.end(), fits);
    if (found == free_.end()) return std::nullopt;
  }
  const auto [start, room] = *found;
  const uint64_t place = std::max(start, next_);
  free_.erase(found);
  if (place > start) free_.emplace(start, place - start);
  next_ = place + size;
  if (next_ < start + room) free_.emplace(next_, start + room - next_);
  free_bytes_ -= size;
  return place;
}

void BodyFile::free(uint64_t place, uint64_t size) {
  free_bytes_ += size;
  auto next = free_.lower_bound(place);
  if (next != free_.end() && place + size == next->first) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == place) {
      before->second += size;
      return;
    }
  }
  free_.emplace_hint(next, place, size);
}

Status BodyFile::grow(uint64_t size) {
  const uint64_t step = options_.disk ? options_.disk->step_bytes : kStepWithoutBudget;
  const uint64_t more = (size + step - 1) / step * step;
  if (options_.disk) {
    WEIR_TRY_ASSIGN(const DiskSpace space, options_.disk->space(path_));
    if (space.free <= disk_reserve(*options_.disk, space) + more) {
      return Error{Errc::kLimit, "no room on the disk for " + std::to_string(more >> 10) +
                                     " KiB: " + path_ + " may not grow (limits.disk_reserve)"};
    }
  }
  const int error =
      ::posix_fallocate(fd_.get(), static_cast<off_t>(end_), static_cast<off_t>(more));
  if (error != 0) return failed("grow", error);
  free(end_, more);
  end_ += more;
  return {};
}

Result<uint64_t> BodyFile::write(ByteView body) {
  const uint64_t room = room_of(body.size());
  auto place = take(room);
  if (!place) {
    WEIR_TRY(grow(room));
    place = take(room);
    WEIR_CHECK(place.has_value());
  }
  written_.push_back({*place, body.size()});
  synced_ = false;
  for (size_t done = 0; done < body.size();) {
    const ssize_t wrote = options_.write(fd_.get(), body.data() + done, body.size() - done,
                                         static_cast<off_t>(*place + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed("write", wrote < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(wrote);
  }
  return *place;
}

Status BodyFile::sync() {
  if (synced_) return {};
  // A write that failed once may be forgotten by the kernel: only the rows' absence tells.
  if (options_.sync(fd_.get()) != 0) return failed("sync", errno);
  synced_ = true;
  return {};
}

void BodyFile::keep() {
  WEIR_CHECK(synced_);
  written_.clear();
}

void BodyFile::drop() {
  give_back(written_);
  written_.clear();
  synced_ = true;
}

void BodyFile::give_back(const std::vector<BodySpan>& spans) {
  for (const BodySpan& span : spans) free(span.place, room_of(span.size));
}

void BodyFile::give_back_all() {
  free_.clear();
  free_bytes_ = 0;
  if (end_ > 0) free(0, end_);
}

ByteView BodyReader::read_unchecked(const Statement& row, int column) {
  if (row.is_null(column + 1)) return row.blob(column + 3);
  const uint64_t size = row.unsigned_integer(column + 2);
  if (size > kBatchMaxBytes) return {};
  if (!fd_.valid()) fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  body_.resize(size);
  for (size_t done = 0; done < size;) {
    const ssize_t got = ::pread(fd_.get(), body_.data() + done, size - done,
                                static_cast<off_t>(row.unsigned_integer(column + 1) + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return ByteView(body_).first(done);
    done += static_cast<size_t>(got);
  }
  return body_;
}

Result<ByteView> BodyReader::read(const Statement& row, int column) {
  const ByteView body = read_unchecked(row, column);
  if (body.size() == row.unsigned_integer(column + 2) &&
      crc32c(body) == static_cast<uint32_t>(row.integer(column))) {
    return body;
  }
  return invalid("damaged on disk");
}

}  // namespace weir::aggregator
