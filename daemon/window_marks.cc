#include "daemon/window_marks.h"

#include <algorithm>
#include <chrono>

namespace weir::daemon {
namespace {

constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS window_mark(start_s INTEGER PRIMARY KEY)";

}  // namespace

Result<WindowMarks> WindowMarks::open(Database& db, uint32_t width_s) {
  WEIR_TRY(db.exec(kSchema));
  WindowMarks marks(db, width_s);
  WEIR_TRY_ASSIGN(Statement read, db.prepare("SELECT start_s FROM window_mark ORDER BY start_s"));
  for (;;) {
    WEIR_TRY_ASSIGN(const bool more, read.step());
    if (!more) return marks;
    marks.given_.push_back(read.integer(0));
  }
}

void WindowMarks::begin(UnixTime now, MonoTime mono) {
  next_s_ = window_at(unix_seconds(now), width_s_).start_s;
  seen_now_ = now;
  seen_mono_ = mono;
}

std::vector<Window> WindowMarks::due(int64_t ended_by_s, UnixTime now, MonoTime mono) {
  const auto jumped = (now - seen_now_) - (mono - seen_mono_);
  if (unix_seconds(now) < next_s_ || jumped > std::chrono::seconds(width_s_)) begin(now, mono);
  seen_now_ = now;
  seen_mono_ = mono;
  std::vector<Window> out;
  for (; next_s_ + width_s_ <= ended_by_s; next_s_ += width_s_) {
    const auto at = std::ranges::lower_bound(given_, next_s_);
    if (at != given_.end() && *at == next_s_) continue;
    given_.insert(at, next_s_);
    unsaved_.push_back(next_s_);
    out.push_back({next_s_, width_s_});
  }
  return out;
}

Status WindowMarks::save() {
  if (unsaved_.empty()) return {};
  WEIR_TRY_ASSIGN(Statement insert, db_->prepare("INSERT INTO window_mark(start_s) VALUES(?)"));
  for (const int64_t start_s : unsaved_) WEIR_TRY(insert.bind(1, start_s).run());
  if (given_.size() <= kRemembered) return {};
  WEIR_TRY_ASSIGN(Statement forget, db_->prepare("DELETE FROM window_mark WHERE start_s < ?"));
  return forget.bind(1, given_[given_.size() - kRemembered]).run();
}

void WindowMarks::saved() {
  unsaved_.clear();
  if (given_.size() <= kRemembered) return;
  given_.erase(given_.begin(), given_.end() - static_cast<std::ptrdiff_t>(kRemembered));
}

}  // namespace weir::daemon
