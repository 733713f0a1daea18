#include "common/loop.h"

#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <limits>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <zmq.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"

namespace weir {
namespace {

using std::chrono::milliseconds;

sigset_t set_of(int signal_number) {
  sigset_t set;
  WEIR_CHECK(sigemptyset(&set) == 0 && sigaddset(&set, signal_number) == 0);
  return set;
}

// A loop has tens of entries, so one ordered map serves polls and timers alike; a turn scans it.
struct Entry {
  Loop::Callback callback;
  int fd = -1;
  void* socket = nullptr;
  std::optional<MonoTime> due{};  // timers only
  milliseconds period{0};         // 0: once
  Fd owned{};                     // a signalfd lives and dies with its entry
  bool removed = false;
};

class ZmqLoop final : public Loop {
 public:
  explicit ZmqLoop(Fd wake) : wake_(std::move(wake)) {}

  EntryId on_readable(int fd, Callback callback) override {
    WEIR_CHECK(fd >= 0);
    return add({.callback = std::move(callback), .fd = fd});
  }

  EntryId on_socket(void* zmq_socket, Callback callback) override {
    WEIR_CHECK(zmq_socket != nullptr);
    return add({.callback = std::move(callback), .socket = zmq_socket});
  }

  EntryId every(milliseconds period, Callback callback) override {
    WEIR_CHECK(period.count() > 0);
    return add({.callback = std::move(callback), .due = clock_.mono() + period, .period = period});
  }

  EntryId after(milliseconds delay, Callback callback) override {
    return add({.callback = std::move(callback), .due = clock_.mono() + delay});
  }

  Status on_signal(int signal_number, Callback callback) override {
    hold_signal(signal_number);
    const sigset_t set = set_of(signal_number);
    Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd.valid()) return Error{Errc::kIo, std::string("signalfd: ") + std::strerror(errno)};
    const int raw = fd.get();
    const auto drained = [raw, callback = std::move(callback)] {
      signalfd_siginfo info{};
      while (::read(raw, &info, sizeof info) == sizeof info) {
      }
      callback();
    };
    add({.callback = drained, .fd = raw, .owned = std::move(fd)});
    return {};
  }

  void remove(EntryId id) override {
    check_thread();
    const auto it = entries_.find(id);
    if (it == entries_.end()) return;
    // The callback may be running right now: it is destroyed after the turn.
    it->second.removed = true;
    items_stale_ = true;
    if (!turning()) entries_.erase(it);
  }

  void run() override {
    while (!stopped_.exchange(false)) turn(milliseconds::max());
  }

  void turn(milliseconds max_wait) override {
    WEIR_CHECK(!turning());  // a callback must not turn its own loop
    turning_.store(std::this_thread::get_id());
    if (items_stale_) rebuild_items();
    wait(max_wait);
    for (const EntryId id : ready()) {
      const auto it = entries_.find(id);
      if (!it->second.removed) it->second.callback();
      if (it->second.due && it->second.period.count() == 0) it->second.removed = true;
    }
    std::erase_if(entries_, [](const auto& entry) { return entry.second.removed; });
    turning_.store({});
  }

  void stop() override {
    stopped_.store(true);
    const uint64_t one = 1;
    // Fails only when the counter is full: then the loop is awake already.
    [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
  }

 private:
  EntryId add(Entry entry) {
    check_thread();
    if (!entry.due) items_stale_ = true;
    entries_.emplace(++last_id_, std::move(entry));
    return last_id_;
  }

  [[nodiscard]] bool turning() const { return turning_.load() != std::thread::id{}; }

  void check_thread() const {
    const auto owner = turning_.load();
    WEIR_CHECK(owner == std::thread::id{} || owner == std::this_thread::get_id());
  }

  // items_[0] is the wake descriptor; items_[i] belongs to item_ids_[i].
  void rebuild_items() {
    items_.assign(1, {nullptr, wake_.get(), ZMQ_POLLIN, 0});
    item_ids_.assign(1, 0);
    for (const auto& [id, entry] : entries_) {
      if (entry.due) continue;
      items_.push_back({entry.socket, entry.fd, ZMQ_POLLIN, 0});
      item_ids_.push_back(id);
    }
    items_stale_ = false;
  }

  void wait(milliseconds max_wait) {
    std::optional<MonoTime> next;
    for (const auto& [id, entry] : entries_) {
      if (entry.due && (!next || *entry.due < *next)) next = entry.due;
    }
    if (next) {
      const auto left = std::chrono::ceil<milliseconds>(*next - clock_.mono());
      max_wait = std::min(max_wait, std::max(left, milliseconds(0)));
    }
    const long timeout = max_wait == milliseconds::max() ? -1 : long{max_wait.count()};
    const int ready = zmq_poll(items_.data(), static_cast<int>(items_.size()), timeout);
    if (ready < 0) {
      WEIR_CHECK(zmq_errno() == EINTR);  // anything else: a dead descriptor was left registered
      for (auto& item : items_) item.revents = 0;
    }
    if (items_[0].revents != 0) {
      uint64_t pending = 0;
      [[maybe_unused]] const ssize_t ignored = ::read(wake_.get(), &pending, sizeof pending);
    }
  }

  // What to serve this turn, decided before the first callback: entries a callback adds wait for
  // the next turn. Timers are moved on here, so a callback that removes itself stays removed.
  std::vector<EntryId> ready() {
    std::vector<EntryId> ids;
    for (size_t i = 1; i < items_.size(); ++i) {
      if (items_[i].revents != 0) ids.push_back(item_ids_[i]);
    }
    const auto now = clock_.mono();
    for (auto& [id, entry] : entries_) {
      if (!entry.due || *entry.due > now) continue;
      ids.push_back(id);
      *entry.due += entry.period;
      if (*entry.due <= now) *entry.due = now + entry.period;
    }
    return ids;
  }

  SystemClock clock_;  // timeouts are real time; decisions about time use the caller's Clock
  Fd wake_;
  std::map<EntryId, Entry> entries_;
  EntryId last_id_ = 0;
  std::vector<zmq_pollitem_t> items_;
  std::vector<EntryId> item_ids_;
  bool items_stale_ = true;
  std::atomic<std::thread::id> turning_{};
  std::atomic<bool> stopped_{false};
};

}  // namespace

Result<std::unique_ptr<Loop>> Loop::create() {
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error{Errc::kIo, std::string("eventfd: ") + std::strerror(errno)};
  return std::unique_ptr<Loop>(std::make_unique<ZmqLoop>(std::move(wake)));
}

void hold_signal(int signal_number) {
  const sigset_t set = set_of(signal_number);
  WEIR_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
}

}  // namespace weir
