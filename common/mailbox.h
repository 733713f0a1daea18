#pragma once
// Mailbox<T>: a bounded hand-over of batches between two threads, with an eventfd for a Loop.
//
// Owner: shared by exactly two parties, both outlive it. Thread: push from any, drain from one.
// Promise: never blocks, never grows past `capacity`; a refused push is counted. Cost: a mutex and,
// when it was empty, one eventfd write. Hand over batches, not events.

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "common/check.h"

namespace weir {

template <class T>
class Mailbox {
 public:
  explicit Mailbox(size_t capacity)
      : capacity_(capacity), fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    WEIR_CHECK(fd_ >= 0);
  }

  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  ~Mailbox() { ::close(fd_); }

  // False, and counted, when full.
  [[nodiscard]] bool push(T item) {
    const std::scoped_lock lock(mutex_);
    if (items_.size() >= capacity_) {
      ++refused_;
      return false;
    }
    items_.push_back(std::move(item));
    if (items_.size() == 1) {
      const uint64_t one = 1;
      WEIR_CHECK(::write(fd_, &one, sizeof one) == sizeof one);
    }
    return true;
  }

  [[nodiscard]] std::vector<T> drain() {
    const std::scoped_lock lock(mutex_);
    uint64_t pending = 0;
    if (::read(fd_, &pending, sizeof pending) < 0) return {};  // nothing was pushed
    return std::exchange(items_, {});
  }

  [[nodiscard]] int fd() const { return fd_; }  // readable while it holds something

  [[nodiscard]] size_t size() const {
    const std::scoped_lock lock(mutex_);
    return items_.size();
  }

  [[nodiscard]] uint64_t refused() const {
    const std::scoped_lock lock(mutex_);
    return refused_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<T> items_;
  size_t capacity_;
  uint64_t refused_ = 0;
  int fd_;
};

}  // namespace weir
